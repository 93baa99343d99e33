"""Algorithms that iterate: expectation, maximization, schedule, refinement."""
