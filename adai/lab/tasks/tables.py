"""A table as a task: predict one column of a CSV file from the others."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import mse_loss

from adai.errors import UserError
from adai.lab.models.mlp import MLP
from adai.lab.tasks.metric import rmse
from adai.lab.tasks.sources import Tensors
from adai.lab.tasks.task import Factory, Task

SEED = 0  # the seed of the split into parts, which is the same for all runs
_SHARE = 10  # a tenth of the rows is for testing, a tenth for validation
_FEWEST = 30  # the smallest number of rows with a target
_MOST_CATEGORIES = 100

Array = NDArray[np.float64]


class Part(NamedTuple):
    """Rows of a table: features (n, features) and targets (n,), float32, normalised by the training part."""

    features: Tensor
    targets: Tensor


class Table(NamedTuple):
    """A table, split at random with a fixed seed: 80 % for training, 10 % for validation, 10 % for testing.

    Attributes:
        target: the column that is predicted.
        names: the names of the features; that of a category is ``column=value``.
        scale: the standard deviation of the target in the training part, in its own unit.
        train: the training part.
        validation: the validation part.
        test: the test part.
    """

    target: str
    names: tuple[str, ...]
    scale: float
    train: Part
    validation: Part
    test: Part


def read_table(file: Path, target: str | None) -> Table:
    """Read a CSV file and convert it to numbers.

    Each category of a column of text becomes a feature of 0 and 1. A missing number is replaced by the median of the
    training part; a missing category is a category of its own. All features and the target are shifted and scaled to
    mean 0 and variance 1 over the training part. Rows without a target and columns with only one value are left out.

    Args:
        file: a CSV file whose first line has the headings.
        target: the heading of the column to predict; None for the last column.

    Raises:
        UserError: the file cannot be read, does not have the column, or has too few rows; the target is not numbers,
            has only one value, or is too large; or a column of text has more than a hundred categories.
    """
    columns = _columns(file)
    target = target if target is not None else next(reversed(columns))
    if target not in columns:
        raise UserError(f"{file} has no column {target!r}; choose from {', '.join(columns)}")
    y = _numbers(columns[target])
    if y is None:
        raise UserError(
            f"the target {target!r} of {file} is text, such as {_some_text(columns[target])!r}; it has to be numbers"
        )
    there = np.flatnonzero(np.isfinite(y))
    if len(there) < _FEWEST:
        raise UserError(f"{file} has {len(there)} rows with a target {target!r}; it needs at least {_FEWEST}")
    order = np.random.default_rng(SEED).permutation(there)
    tenth = max(1, len(order) // _SHARE)
    test, validation, train = order[:tenth], order[tenth : 2 * tenth], order[2 * tenth :]
    with np.errstate(over="ignore"):
        scale = float(y[train].std())
    if not math.isfinite(scale):
        raise UserError(
            f"the target {target!r} of {file} has values that are too large; divide the column by a power of 10"
        )
    if not scale > 0:
        raise UserError(f"the target {target!r} of {file} has one value, {y[train][0]:g}; there is nothing to learn")
    features = _features(file, {name: column for name, column in columns.items() if name != target}, train)
    if not features:
        raise UserError(f"{file} has no column beside {target!r} that has two values; there is nothing to learn from")
    matrix = np.stack(list(features.values()), axis=1)
    normalised_y = (y - y[train].mean()) / scale

    def part(rows: NDArray[np.int64]) -> Part:
        return Part(*(torch.tensor(values[rows], dtype=torch.float32) for values in (matrix, normalised_y)))

    return Table(target, tuple(features), scale, part(train), part(validation), part(test))


def _columns(file: Path) -> dict[str, list[Any]]:
    """The columns by heading, with None for missing values."""
    import pandas as pd

    if not file.is_file():
        raise UserError(f"cannot read {file}: no such file; give a CSV file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # lines with more values than there are headings
            rows = pd.read_csv(file, index_col=False, low_memory=False)
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}); give a CSV file") from error
    except (ValueError, pd.errors.ParserWarning) as error:  # pandas' own errors and UnicodeDecodeError are ValueErrors
        raise UserError(f"{file} is not a CSV file ({str(error).splitlines()[0]}); give one with headings") from error
    return {str(name): [None if pd.isna(value) else value for value in rows[name].tolist()] for name in rows.columns}


def _numbers(values: Sequence[Any]) -> Array | None:
    """A column as numbers, with nan for missing ones; None if it has text."""
    if any(isinstance(value, str) for value in values):
        return None
    return np.array([math.nan if value is None else float(value) for value in values])


def _some_text(values: Sequence[Any]) -> str:
    return next(value for value in values if isinstance(value, str))


def _features(file: Path, columns: Mapping[str, Sequence[Any]], train: NDArray[np.int64]) -> dict[str, Array]:
    """The normalised features by name, without those that have only one value in the training part."""
    features: dict[str, Array] = {}
    for name, values in columns.items():
        numbers = _numbers(values)
        if numbers is not None:
            known = numbers[train][np.isfinite(numbers[train])]
            median = float(np.median(known)) if known.size else 0.0
            features[name] = np.where(np.isfinite(numbers), numbers, median)
            continue
        categories = sorted({str(values[row]) for row in train})
        if len(categories) > _MOST_CATEGORIES:
            raise UserError(
                f"the column {name!r} of {file} has {len(categories)} different texts, and at most "
                f"{_MOST_CATEGORIES} are supported; take the column out"
            )
        for category in categories:
            features[f"{name}={category}"] = np.array([float(str(value) == category) for value in values])
    spread = {name: (float(column[train].mean()), float(column[train].std())) for name, column in features.items()}
    return {
        name: (column - spread[name][0]) / spread[name][1] for name, column in features.items() if spread[name][1] > 0
    }


def table_task(table: Table, device: torch.device) -> Factory:
    """The task to predict the target with an `MLP`. Its metric is the RMSE in the target's unit."""

    def source(part: Part) -> Tensors:
        return Tensors(part.features.to(device), part.targets.to(device))

    def task() -> Task:
        return Task(
            MLP(len(table.names)),
            source(table.train),
            source(table.test),
            loss=mse_loss,
            metric=rmse(table.scale)._replace(digits=max(0, 3 - math.floor(math.log10(table.scale)))),
            validation=source(table.validation),
        )

    return task
