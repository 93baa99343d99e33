"""The only place that knows MPI."""
