"""Options chosen on held-out training examples, with the same number of trials for every optimizer."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from adai.lab.optimizers.named import options_of
from adai.lab.optimizers.recipes import Range
from adai.lab.queue.executors import Executor
from adai.lab.queue.jobs import Job, Watch
from adai.lab.results.run import read_json, write_json
from adai.lab.settings import Settings

logger = logging.getLogger(__name__)

VALIDATION = 0.1
FACTOR = 30.0
DESIGN = (1.0, 1 / 3, 3.0, 1 / 10, 10.0, 1 / 30, 30.0)
"""The factors on the recipe's learning rate that are tried first."""
# The seed of all trials. The runs that are compared have the seeds from 0 on.
SEED = 1_000_000


Distribution = FloatDistribution | IntDistribution
Ranges = Mapping[str, Mapping[str, Range]]


class Tuning:
    """Chooses the learning rate, the weight decay and the options that have a range, for each optimizer.

    Trial 0 has the recipe's values. The next have the recipe's values with the learning rate multiplied by 1/3, 3,
    1/10, 10, 1/30 and 30, in this order. Rates above one that diverged are left out. Optuna's TPE sampler proposes the
    values of the other trials: learning rate and weight decay between 1/30 and 30 times the recipe's on a logarithmic
    scale, and options that have a range within it.

    A trial is a whole run in which a tenth of the training examples is held out. Its value is the task's metric on
    these examples after the last epoch; without a metric, the error, or the loss if errors are not counted. Of trials
    with the same value, the one with the lowest loss is the best. The test examples are not used.

    **When not to use it.** The result of a few trials is mostly chance: use at least 20, or none.

    Args:
        trials: the number of trials for each optimizer.
    """

    def __init__(self, trials: int) -> None:
        self.trials = trials

    def __call__(
        self,
        folder: Path,
        bases: Mapping[str, Settings],
        execute: Executor,
        watch: Watch,
        *,
        ranges: Ranges | None = None,
        **job: Any,
    ) -> dict[str, dict[str, float]]:
        """Do the trials, or those that are missing.

        Args:
            folder: the folder of their runs and of ``tuning.json``, which lists the trials.
            bases: the settings of the runs by label.
            execute: carries out a round of trials, one of each optimizer.
            watch: called regularly with the jobs of the round.
            ranges: options that are searched beside learning rate and weight decay, or in place of their usual ranges,
                by label.
            job: further arguments of each `Job`.

        Returns:
            The best values by label, as ``{"adai": {"lr": 0.8, "weight_decay": 4e-4}, …}``.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        studies = {name: optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0)) for name in bases}
        searched = {name: _searched(base, (ranges or {}).get(name, {})) for name, base in bases.items()}
        for number in range(self.trials):
            for name, base in bases.items():
                if (first := _designed(base, searched[name], studies[name].trials)) is not None:
                    studies[name].enqueue_trial(first)
            # Always in the same order, so that Optuna proposes the same values again after an interruption.
            asked = {name: study.ask({**searched[name]}) for name, study in studies.items()}
            jobs = {
                name: Job(
                    f"{base.contender_label}, trial {number + 1} of {self.trials}",
                    replace(base, options={**base.options, **asked[name].params}, seed=SEED, validation=VALIDATION),
                    folder / name / f"trial{number}",
                    **job,
                )
                for name, base in bases.items()
            }
            execute([job for job in jobs.values() if job.to_do], partial(watch, list(jobs.values())))
            for name, study in studies.items():
                asked[name].set_user_attr("loss", _loss(jobs[name]))
                study.tell(asked[name], _value(jobs[name]))
        _write(folder / "tuning.json", {name: study.trials for name, study in studies.items()}, searched)
        best = {name: min(study.trials, key=_rank) for name, study in studies.items()}
        for name in (name for name, trial in best.items() if trial.value == math.inf):
            logger.warning(
                "all %d trials of %s failed, so it runs with the values without tuning; give more trials, or a "
                "smaller learning rate", self.trials, bases[name].contender_label,
            )  # fmt: skip
        return {name: dict(trial.params) for name, trial in best.items()}


def _rank(trial: FrozenTrial) -> tuple[float, float]:
    """Lower is better."""
    return trial.value if trial.value is not None else math.inf, trial.user_attrs["loss"]


def _designed(
    base: Settings, searched: Mapping[str, Distribution], done: Sequence[FrozenTrial]
) -> dict[str, float] | None:
    """The values of the next trial before Optuna proposes any; None if the design is at its end.

    A few values that are far apart say more of a learning rate than as many random ones.
    """
    own = _own_values(base, searched)
    if not done:
        return own
    if "lr" not in own:
        return None
    limit = min((trial.params["lr"] for trial in done if trial.value == math.inf), default=math.inf)
    tried = [trial.params["lr"] for trial in done]
    for factor in DESIGN:
        lr = own["lr"] * factor
        nearest = min(max(lr, searched["lr"].low), searched["lr"].high)  # 1/30 and 30 are the ends, but for rounding
        if math.isclose(lr, nearest) and lr < limit and not any(math.isclose(lr, other) for other in tried):
            return {**own, "lr": nearest}
    return None


def _searched(base: Settings, ranges: Mapping[str, Range]) -> dict[str, Distribution]:
    """The distributions of the options that are searched for an optimizer."""
    usual: dict[str, Distribution] = {
        option: FloatDistribution(value / FACTOR, value * FACTOR, log=True)
        for option in ("lr", "weight_decay")
        if (value := base.options.get(option))  # a weight decay of 0 is not searched
    }
    return {**usual, **{option: _distribution(own, _own_value(base, option)) for option, own in ranges.items()}}


def _distribution(own: Range, value: Any) -> Distribution:
    """The distribution of a range: whole numbers if both ends and the option's own value are whole numbers."""
    if all(isinstance(end, int) for end in (own.low, own.high)) and type(value) is int:
        return IntDistribution(int(own.low), int(own.high), log=own.log)
    return FloatDistribution(own.low, own.high, log=own.log)


def _own_value(base: Settings, option: str) -> Any:
    """The value of an option without tuning; None if it is unknown."""
    return base.options[option] if option in base.options else options_of(base.recipe.maker).default(option)


def _own_values(base: Settings, searched: Mapping[str, Distribution]) -> dict[str, Any]:
    """The values without tuning of the options that are searched, without those that lie outside of their range."""
    values = {option: _own_value(base, option) for option in searched}
    return {
        option: value
        for option, value in values.items()
        if isinstance(value, int | float) and searched[option].low <= value <= searched[option].high
    }


def _value(job: Job) -> float:
    """The value of a trial, lower is better; infinite if the run diverged or failed."""
    if job.run.status not in ("finished", "did not learn"):
        return math.inf
    last = job.run.rows()[-1]
    metric = job.run.metric
    if metric:
        own = last["test_metric"]
        return math.inf if own is None else own if metric["lower_is_better"] else -own
    value = last["test_error"] if last["test_error"] is not None else last["test_loss"]
    return math.inf if value is None else value


def _loss(job: Job) -> float:
    """The loss on the held-out examples after the last epoch; infinite if there is none."""
    rows = job.run.rows()
    loss = rows[-1]["test_loss"] if rows else None
    return math.inf if loss is None else float(loss)


def _plain(number: float | None) -> float | None:
    """The number as JSON has it: null if it is not finite."""
    return number if number is not None and math.isfinite(number) else None


def _write(
    file: Path, done: Mapping[str, Sequence[FrozenTrial]], ranges: Mapping[str, Mapping[str, Distribution]]
) -> None:
    """Write the trials and their ranges; those of other optimizers in the file stay."""
    tried = {
        name: [
            {**trial.params, "value": _plain(trial.value), "loss": _plain(trial.user_attrs["loss"])} for trial in trials
        ]
        for name, trials in done.items()
    }
    ends = {name: {option: [d.low, d.high] for option, d in own.items()} for name, own in ranges.items()}
    there = read_json(file) if file.is_file() else {}
    both = {"trials": {**there.get("trials", {}), **tried}, "ranges": {**there.get("ranges", {}), **ends}}
    write_json(file, {"held out": VALIDATION, **both})
