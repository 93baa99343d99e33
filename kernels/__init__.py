"""Kernels: compiled inner loops, one file a family (numba for CPUs, CUDA sources for GPUs)."""
