"""Reads runs and comparisons from disk, and computes their outcomes. No other package reads their files."""
