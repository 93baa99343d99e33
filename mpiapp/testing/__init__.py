"""Simulated maps and particles with known truth."""
