"""`pytest.approx` without its silent absolute tolerance of 1e-12, under which small numbers pass whatever they are."""

import pytest


def approx(expected, rel=None, abs=None):
    """Relative tolerance, absolute tolerance or, with neither, 12 digits."""
    if rel is None and abs is None:
        rel = 1e-12
    return pytest.approx(expected, rel=rel, abs=0 if abs is None else abs)
