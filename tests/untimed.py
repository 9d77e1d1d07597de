"""The results that must be the same if a run is repeated."""

CLOCK = ("seconds", "images_per_second")


def untimed(run):
    """The rows of a run without the columns that measure time."""
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in run.rows()]


def alike(a, b, optimizers, seeds):
    """Whether two comparisons hold the same numbers."""
    return all(untimed(a.run(o, s)) == untimed(b.run(o, s)) != [] for o in optimizers for s in range(seeds))
