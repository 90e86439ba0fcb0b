"""Searches that drive everything below: bisection."""
