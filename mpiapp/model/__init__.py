"""The science: pure functions on arrays. No files, no MPI, no device."""
