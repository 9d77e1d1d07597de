"""`pytest.approx` without its default absolute tolerance of 1e-12, with which any small number would pass."""

import pytest


def approx(expected, rel=None, abs=None):
    """Relative tolerance, absolute tolerance or, with neither, 12 digits."""
    if rel is None and abs is None:
        rel = 1e-12
    return pytest.approx(expected, rel=rel, abs=0 if abs is None else abs)
