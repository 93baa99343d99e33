"""Files only: STAR, MRC, particle tables, checkpoints, output names. No MPI, no device."""
