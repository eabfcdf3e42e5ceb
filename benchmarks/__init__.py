"""Measurements against peers and against ourselves; never part of the tests."""
