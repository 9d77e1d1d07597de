"""A model in training: an epoch, an evaluation, and the state for a checkpoint."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.host.boundary import in_a_line, theirs
from adai.lab.host.ranks import Ranks
from adai.lab.results.run import Row
from adai.lab.schedules import factor
from adai.lab.settings import Settings
from adai.lab.tasks.sources import Pair, Source, close, held_out, on_device, targets_of
from adai.lab.tasks.targets import Counted
from adai.lab.tasks.task import Factory, checked, source
from adai.lab.training import tryout
from adai.lab.training.closure import Closure
from adai.lab.training.graph import Replayed
from adai.lab.training.metrics import Frequencies, Tally, gradient_norm, inertia, state_bytes

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
EVALUATION_BATCH = 512

# The columns of a row of metrics. Rows of Adai and AdaiW also have those of `inertia`. Losses are means over the
# examples, errors are in percent, ``metric`` is the task's own. Numbers of the training are computed at each step, with
# the parameters before the step. ``lr`` is the learning rate of the last step. ``seconds`` and ``images_per_second`` do
# not include the evaluation. ``gradient_evaluations`` is the number of forward and backward passes of a batch: more
# than ``steps`` if the optimizer evaluates a batch several times. ``grad_norm`` is the mean over the steps of the norm
# of the gradient before clipping and decay. Bytes are those of one process.
COLUMNS = (
    "epoch", "train_loss", "train_error", "train_metric", "test_loss", "test_error", "test_error_top5", "test_metric",
    "lr", "seconds", "images_per_second", "steps", "gradient_evaluations", "grad_norm", "optimizer_state_bytes",
    "peak_memory_bytes",
)  # fmt: skip


class Piece(NamedTuple):
    """A part of a step's batch that goes through the model at once."""

    where: Tensor
    weight: float
    """The weight of its mean loss: the weighted sum over pieces, averaged over processes, is the batch's mean loss."""
    batch: int
    """The number of examples of the step's batch, over all pieces and processes."""
    last: bool
    """Whether it is the last piece before the step."""


# A piece with its inputs and targets.
Fed = tuple[Piece, tuple[Tensor, Tensor]]


class Learner:
    """A task's model in training with its optimizer.

    Args:
        settings: the settings of the run.
        factory: makes the task. It is called after the seed is set, which determines the initial weights.
        device: the device of this process.
        ranks: the processes of the run.
    """

    def __init__(self, settings: Settings, factory: Factory, device: torch.device, ranks: Ranks) -> None:
        random_state.seed(settings.seed)
        self.name = settings.name
        task = checked(factory, self.name)
        self.settings = settings
        self.device = device
        self.ranks = ranks
        if isinstance(task.loss, nn.Module):
            task.loss.to(device)  # a loss may have class weights
        self.loss = Counted(task.loss)
        self.model: nn.Module = task.model.to(device)
        if settings.channels_last:
            cast(Any, self.model).to(memory_format=torch.channels_last)  # missing in torch's type annotations
        self.train: Source = source(task.train, device, settings.workers)
        self.test: Source = source(task.test, device, settings.workers)
        self.metric = task.metric
        if settings.validation and task.validation is not None:
            self.test = source(task.validation, device, settings.workers)
        elif settings.validation:
            self.train, self.test = held_out(self.train, settings.validation)
        # If targets may have different weights, pieces are weighted by their targets, else by their number of examples.
        self.uneven = self.loss.may_leave_out(targets_of(self.train))
        recipe = settings.recipe
        self.with_closure = tryout.needs_closure(recipe, self.model, settings.precision)
        self.optimizer = recipe.build(self.model, task.decays)
        # The learning rate of each group, which the schedule multiplies; None if the group has none.
        self.rates = [group.get("lr") for group in self.optimizer.param_groups]
        self.rates = [None if rate is None else float(rate) for rate in self.rates]
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        self.draws = torch.Generator().manual_seed(settings.seed)
        # Of an epoch's training. A graph writes to these tensors, so they stay.
        self.tally = Tally(device, counted=self.loss, metric=self.metric)
        self.norms = torch.zeros(2, device=device)  # sum of the finite ones, and how many
        self.parallel = ranks.parallel(self.model)
        self.forward = torch.compile(self.parallel, dynamic=False) if settings.compile else self.parallel
        self.replayed = self._replayed() if settings.graph and not self.with_closure else None
        random_state.seed(settings.seed + ranks.rank)  # dropout differs between processes

    def _replayed(self) -> Replayed:
        if not on_device(self.train):
            raise UserError(
                f"{self.name}: `graph` needs training data in memory, but processes read these one by one; leave it out"
            )

        def gradient(where: Tensor, pair: Pair) -> None:
            self._gradient([(Piece(where, 1.0, len(where), last=True), pair)])

        return Replayed(self.train, self.settings.batch, gradient, self.model, self.device)

    @property
    def steps(self) -> int:
        """The number of steps in an epoch. A last batch with fewer examples than processes is left out."""
        whole, rest = divmod(len(self.train), self.settings.batch)
        return whole + (rest >= self.ranks.world)

    def try_out(self) -> None:
        """Evaluate the model on the largest and the smallest piece of a step and on test examples, before training.

        Parameters, buffers, gradients and random generators do not change.

        Raises:
            UserError: a target is not a class, the loss is not one number, or the smallest piece is too small.
            Failed: the model, the loss or the data raise an error.
        """
        draws, buffers = self.draws.get_state(), [(b, b.clone()) for b in self.model.buffers()]
        try:
            with random_state.untouched(self.device), theirs(self.name):
                self._try_pieces()
                self.ranks.agree_on_buffers(self.model)
                self.model.eval()
                some = torch.arange(min(len(self.test), self.settings.batch, EVALUATION_BATCH))
                with torch.no_grad():
                    for inputs, targets in self.test.batches([some], self.draws):
                        self._checked_loss(self.model, self.test, inputs, targets)
        finally:
            self.draws.set_state(draws)
            for buffer, before in buffers:
                buffer.copy_(before)

    def _try_pieces(self) -> None:
        self.model.train()
        pieces = sorted((piece.where for piece in self._pieces()), key=len, reverse=True)
        if not pieces:
            raise UserError(
                f"{self.name} has {len(self.train)} training examples, too few for {self.ranks.world} processes"
            )
        largest, smallest = pieces[0], pieces[-1]
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        for where in [largest, smallest] if len(smallest) < len(largest) else [largest]:
            try:
                for inputs, targets in self.train.batches([where], self.draws):
                    loss = self._checked_loss(self.model, self.train, inputs, targets)
                    torch.autograd.grad(loss, parameters, allow_unused=True)  # runs no hooks, writes no p.grad
            except UserError:
                raise
            except Exception as error:
                if where is largest:
                    raise
                raise UserError(
                    f"{len(largest)} examples at once go through the model, but the last {len(smallest)} do not "
                    f"({in_a_line(error)}); give another `batch`, or a number of examples that leaves more for the last"
                ) from error

    def _checked_loss(self, model: nn.Module, data: Source, inputs: Tensor, targets: Tensor) -> Tensor:
        with self._autocast():
            outputs = self._outputs(model, inputs)
            whole = targets_of(data)
            self.loss.check(outputs, targets if whole is None else whole)
            loss = self.loss.loss(outputs, targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UserError(f"{self.name}: the loss is {what}; it has to be a single number, the mean over the batch")
        return loss

    def close(self) -> None:
        """End the processes that read the data."""
        close(self.train)
        close(self.test)

    def epoch(self, done: int, stepped: Callable[[], None] = lambda: None) -> Row:
        """Train for an epoch and evaluate. There is no evaluation if the training loss is not finite.

        Args:
            done: the number of epochs before this one.
            stepped: called after every step.

        Returns:
            A row with `COLUMNS`.

        Raises:
            Failed: the model, the loss or the data raise an error.
        """
        with theirs(self.name):
            tryout.train(self.optimizer)
            trained = self._train(done, stepped)
            evaluated = self._evaluate() if math.isfinite(trained["train_loss"] or 0) else {}
        row: Row = dict.fromkeys(COLUMNS)
        row |= {**trained, **evaluated, "optimizer_state_bytes": state_bytes(self.optimizer)}
        return row | inertia(self.optimizer)

    def _train(self, done: int, stepped: Callable[[], None]) -> Row:
        self.parallel.train()
        self.tally.clear()
        self.norms.zero_()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        pieces = list(self._pieces())
        step, evaluations = done * self.steps, 0
        for take in self._steps(pieces):
            self._set_rates(step)
            evaluations += take()
            step += 1
            stepped()
        means = self.tally.means(self.ranks)  # waits for the device
        seconds = time.perf_counter() - began
        norm_sum, norm_count = self.norms.tolist()
        on_cuda = self.device.type == "cuda"
        return {
            "epoch": done + 1,
            "train_loss": means.loss,
            "train_error": means.error,
            "train_metric": means.metric,
            "lr": self.optimizer.param_groups[0].get("lr"),
            "seconds": seconds,
            "images_per_second": means.examples / seconds,
            "steps": self.steps,
            "gradient_evaluations": evaluations,
            "grad_norm": norm_sum / norm_count if norm_count else None,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(self.device) if on_cuda else None,
        }

    def _steps(self, pieces: Sequence[Piece]) -> Iterator[Callable[[], int]]:
        """What takes each step of an epoch, and returns how often it evaluated the batch."""
        places = [piece.where for piece in pieces]
        if self.replayed:
            for where in self.replayed.places(places, self.draws):
                yield partial(self._step_replayed, where)
            return
        step = self._step_with_closure if self.with_closure else self._step
        for batch in _by_step(zip(pieces, self.train.batches(places, self.draws), strict=True)):
            yield partial(step, batch)

    def _step(self, batch: Iterable[Fed]) -> int:
        self._gradient(batch)
        self._move()
        self.model.zero_grad()
        return 1

    def _step_replayed(self, where: Tensor) -> int:
        cast(Replayed, self.replayed)(where)
        self._move()
        return 1

    def _gradient(self, batch: Iterable[Fed]) -> None:
        """Add the gradients of a step's batch to those that are there, and clip them."""
        self._backward(batch, self.tally)
        self.scaler.unscale_(self.optimizer)
        self._note(self._clipped())

    def _move(self) -> None:
        with theirs(f"a step of {self.settings.contender_label}"):
            self.scaler.step(self.optimizer)
        self.scaler.update()

    def _note(self, norm: Tensor) -> None:
        self.norms += torch.stack([norm.nan_to_num(0, 0, 0), norm.isfinite().to(norm.dtype)])

    def _step_with_closure(self, batch: Iterable[Fed]) -> int:
        """A step of an optimizer that evaluates the batch by itself."""
        again = list(batch)
        norms: list[Tensor] = []

        def evaluate() -> Tensor:
            self.model.zero_grad()
            loss = self._backward(again, Tally(self.device, counted=self.loss) if norms else self.tally)
            norms.append(self._clipped())
            return self.ranks.total(loss) / self.ranks.world

        closure = Closure(list(self.model.parameters()), list(self.model.buffers()), evaluate)
        closure.evaluate()
        with theirs(f"a step of {self.settings.contender_label}"):
            self.optimizer.step(closure)  # type: ignore[arg-type]  # torch's annotation: a closure returns a float
        self.model.zero_grad()
        self._note(norms[0])
        return closure.evaluations

    def _backward(self, batch: Iterable[Fed], tally: Tally) -> Tensor:
        """Add the gradients of a step's batch to ``p.grad``; returns this process's part of its mean loss, 0-dim."""
        whole = torch.zeros((), device=self.device)
        weights = torch.zeros((), device=self.device)  # the sum of the weights of the step's targets, if they differ
        for piece, (inputs, targets) in batch:
            with self._quiet(until=piece.last):
                loss, outputs = self._loss(inputs, targets)
                if self._weighed(piece):
                    weight = torch.as_tensor(self.loss.weight(targets), device=self.device)
                    weights += weight
                    share = loss * (weight * (self.ranks.world / piece.batch))
                else:
                    share = loss * piece.weight
                self.scaler.scale(share).backward()
            tally.add(loss, outputs, targets)
            if self.with_closure:
                whole += share.detach()
            if piece.last and self._weighed(piece):
                by = self.ranks.total(weights) / piece.batch
                self._divide_gradients(by)
                whole /= torch.where(by > 0, by, 1)
        return whole

    def _clipped(self) -> Tensor:
        """Clip the gradient if the settings ask for it; returns its norm before clipping, 0-dim."""
        # Computed before the step, because AdaBound writes to the gradients.
        if self.settings.clip_norm is None:
            return gradient_norm(self.model.parameters())
        return clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)

    def _set_rates(self, step: int) -> None:
        """Multiply each group's own learning rate by the schedule's factor for this step."""
        settings = self.settings
        by = factor(
            step,
            kind=settings.schedule,
            task=settings.task,
            epochs=settings.epochs,
            steps=settings.epochs * self.steps,
            warmup=settings.warmup_steps,
        )
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            if rate is None:
                continue
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * by)
            else:
                group["lr"] = rate * by

    def _weighed(self, piece: Piece) -> bool:
        """Whether the piece is weighted by its targets: it is a part of a batch, and targets may have other weights."""
        return self.uneven and len(piece.where) != piece.batch

    def _divide_gradients(self, by: Tensor) -> None:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, torch.where(by > 0, 1 / by, 1).to(gradients[0].dtype))

    def _pieces(self) -> Iterator[Piece]:
        """This process's pieces of an epoch. The order of the examples is random, the same in all processes."""
        world = self.ranks.world
        for batch in torch.randperm(len(self.train), generator=self.draws).split(self.settings.batch):
            if len(batch) < world:
                continue
            parts = [part for part in self.ranks.share(batch).tensor_split(self.settings.accumulate) if len(part)]
            for number, part in enumerate(parts, start=1):
                yield Piece(part, len(part) * world / len(batch), len(batch), last=number == len(parts))

    def _loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
        with self._autocast():
            outputs = self._outputs(self.forward, inputs)
            # The loss that counts targets takes slightly longer, and rounds differently.
            return (self.loss if self.uneven else self.loss.loss)(outputs, targets), outputs

    def _outputs(self, model: Callable[[Tensor], Any], inputs: Tensor) -> Any:
        if self.settings.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return model(inputs)

    def _autocast(self) -> torch.autocast:
        dtype = AUTOCAST.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def _quiet(self, *, until: bool) -> contextlib.AbstractContextManager[None]:
        """A context in which gradients are averaged over the processes only if ``until``: after the last piece."""
        if until or self.ranks.world == 1:
            return contextlib.nullcontext()
        return cast(DistributedDataParallel, self.parallel).no_sync()

    @torch.no_grad()
    def start(self) -> Row:
        """Evaluate before the first step. Random generators and the model's buffers do not change."""
        drawn, buffers = self.draws.get_state(), [buffer.clone() for buffer in self.model.buffers()]
        frequencies = Frequencies(self.loss)
        with random_state.untouched(self.device):
            evaluated = self._evaluate(frequencies)
        self.draws.set_state(drawn)
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        return {**evaluated, "chance_error": frequencies.chance_error(self.ranks)}

    @torch.no_grad()
    def _evaluate(self, frequencies: Frequencies | None = None) -> Row:
        self.ranks.agree_on_buffers(self.model)
        tryout.evaluate(self.optimizer)
        self.parallel.eval()
        tally = Tally(self.device, top=True, counted=self.loss, metric=self.metric)
        places = self.ranks.share(torch.arange(len(self.test))).split(EVALUATION_BATCH)
        for inputs, targets in self.test.batches(places, self.draws):
            loss, outputs = self._loss(inputs, targets)
            tally.add(loss, outputs, targets)
            if frequencies:
                frequencies.add(outputs, targets)
        means = tally.means(self.ranks)
        return {
            "test_loss": means.loss,
            "test_error": means.error,
            "test_error_top5": means.error_top,
            "test_metric": means.metric,
        }

    def state(self) -> dict[str, Any]:
        """The state that the next epoch depends on, of all processes. Weights are those of an evaluation."""
        tryout.evaluate(self.optimizer)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "draws": self.draws.get_state(),
            "random": self.ranks.gathered(random_state.get(self.device)),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.draws.set_state(state["draws"])
        random_state.put(state["random"][self.ranks.rank], self.device)


def _by_step(fed: Iterator[Fed]) -> Iterator[Iterable[Fed]]:
    """The pieces of each step. A piece is read only when it is needed."""

    def rest() -> Iterator[Fed]:
        for each in fed:
            yield each
            if each[0].last:
                return

    for first in fed:
        yield [first] if first[0].last else chain([first], rest())
