"""Plots and progress for people."""
