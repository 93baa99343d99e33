"""Frozen dataclasses of a job: every default lives here once."""
