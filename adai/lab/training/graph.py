"""A full batch's gradient as a CUDA graph: the host launches one graph in place of some hundred kernels."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor, nn

from adai.errors import UserError
from adai.lab.host.boundary import in_a_line
from adai.lab.tasks.sources import OnDevice, Pair

WARM_UP = 3  # full batches before the capture: libraries choose algorithms and take memory when they first run

Work = Callable[[], None]


class CudaGraphs:
    """Records work on a GPU and repeats it.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # torch asks for another one than the default stream

    def aside(self, work: Work) -> None:
        """Do the work on the stream on which it will be captured."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def captured(self, work: Work) -> Work:
        """Record the work without doing it; returns what does it, with the same tensors in the same places."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=self._stream):
            work()
        replay: Work = graph.replay
        return replay


class Replayed:
    """The gradients of batches: full ones by a captured graph, others eagerly.

    A graph repeats the same kernels on the same memory. So what differs between batches is copied into tensors that
    stay: the indices of the examples, and what is drawn for an epoch. The gradients stay too and are set to 0 first, so
    the optimizer finds them where they were.

    Args:
        source: the examples.
        batch: how many a full batch has.
        gradient: adds a batch's gradients to those that are there, and does all else that is done with them before the
            optimizer's step; called with the indices of the examples, and with the examples.
        model: its parameters get the gradients.
        device: where all of it is.
    """

    def __init__(
        self,
        source: OnDevice,
        batch: int,
        gradient: Callable[[Tensor, Pair], None],
        model: nn.Module,
        device: torch.device,
    ) -> None:
        self._source, self._gradient, self._graphs = source, gradient, CudaGraphs(device)
        self._parameters = list(model.parameters())
        self._where = torch.zeros(batch, dtype=torch.int64, device=device)
        self._drawn: tuple[Tensor, ...] = ()
        self._kept: list[tuple[nn.Parameter, Tensor]] = []
        self._warm = 0
        self._replay: Work | None = None

    def places(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Tensor]:
        """The indices of an epoch's batches on the device, after all has been drawn that the epoch needs."""
        drawn = self._source.drawn(draws)
        if self._drawn:
            for stays, new in zip(self._drawn, drawn, strict=True):
                stays.copy_(new)
        else:
            self._drawn = drawn
        yield from torch.cat(list(places)).to(self._where.device).split([len(place) for place in places])

    def __call__(self, where: Tensor) -> None:
        """Set the gradients to those of the examples with these indices.

        Raises:
            UserError: the work cannot be captured.
        """
        for p, gradient in self._kept:  # whatever the optimizer has put there
            p.grad = gradient
        if len(where) != len(self._where):
            self._set_gradients(where)
        else:
            self._where.copy_(where)
            self._full()
        if self._replay is None:
            self._kept = [(p, p.grad) for p in self._parameters if p.grad is not None]

    def _full(self) -> None:
        if self._warm < WARM_UP:
            self._graphs.aside(self._work)
            self._warm += 1
            return
        if self._replay is None:
            self._replay = self._capture()
        self._replay()

    def _capture(self) -> Work:
        try:
            return self._graphs.captured(self._work)
        except RuntimeError as error:
            raise UserError(
                f"a batch cannot be captured as a CUDA graph ({in_a_line(error)}); leave `graph` out"
            ) from error

    def _work(self) -> None:
        """What is captured: a function of nothing but tensors that stay where they are."""
        self._set_gradients(self._where)

    def _set_gradients(self, where: Tensor) -> None:
        if self._kept:
            torch._foreach_zero_([gradient for _, gradient in self._kept])
        self._gradient(where, self._source.at(where, self._drawn))
