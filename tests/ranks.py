"""Processes that stand for the ranks of a distributed run, started once and given one function after the other."""

import faulthandler
import multiprocessing
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

TIMEOUT = timedelta(seconds=30)
# Imported once, in the server that the ranks are forked from.
PRELOAD = ["torch", "torch.distributed.fsdp", "torch.distributed.tensor.parallel", "torch.distributed.optim", "adai"]


class Ranks:
    """``size`` processes in a gloo process group."""

    def __init__(self, size, timeout=TIMEOUT):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._folder = tempfile.TemporaryDirectory()
        store = Path(self._folder.name, "store").as_uri()
        self._pipes, self.processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, store, rank, size, timeout), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self.processes.append(process)

    def run(self, function, *args):
        """What the function returns on each rank; what it raises on the first rank that raises."""
        results = self.outcomes(function, *args)
        for rank, result in enumerate(results):
            if isinstance(result, Failure):
                raise AssertionError(f"on rank {rank}:\n{result}")
        return results

    def outcomes(self, function, *args):
        """The same, with a `Failure` for each rank that raised or died."""
        for pipe in self._pipes:
            pipe.send((function, args))
        return [_received(pipe) for pipe in self._pipes]

    def close(self):
        """End the processes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()
        self._folder.cleanup()


class Failure(str):
    """The traceback of a rank."""


def _received(pipe):
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        return Failure("the process has ended")


def _serve(pipe, store, rank, size, timeout):
    faulthandler.enable()
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=timeout)
    while True:
        function, args = pipe.recv()
        try:
            result = function(*args)
        except BaseException:  # CheckpointException is one of those
            result = Failure(traceback.format_exc())
        pipe.send(result)
