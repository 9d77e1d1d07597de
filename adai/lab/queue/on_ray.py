"""Runs on a Ray cluster: one Ray task a run."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch

from adai.errors import UserError
from adai.lab.host.boundary import explain
from adai.lab.queue.attempts import Attempt, Attempts, Failure, carried_out
from adai.lab.queue.executors import SECOND, Tick
from adai.lab.queue.jobs import Job


class OnRay:
    """As many runs at a time as the cluster has room for; one on a node that dies is done again elsewhere.

    All nodes have to see the comparison's folder, and the data if they are in files, under the same path: a run that
    moves goes on from the checkpoints that it finds there. adai has to be installed on each.

    Args:
        address: of the cluster, as `ray.init` takes it; None is the one of the environment's ``RAY_ADDRESS``, else the
            one that runs on this machine, else one that is started here and ends with the comparison.
        cpus: of each run, and so many threads it has. Two comparisons are equal bit for bit only with the same.
        gpus: of each run; a fraction shares one.
    """

    elsewhere = True

    def __init__(self, address: str | None = None, *, cpus: int = 1, gpus: float = 0.0) -> None:
        self.address = address
        self.cpus = cpus
        self.gpus = gpus

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns those that failed.

        Raises:
            UserError: there is no cluster at the address.
        """
        self._connect()
        try:
            # Ray starts a process anew for each run (max_calls), and does not decide by itself what to try again.
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0, max_calls=1)(_carry_out)
            return _all(jobs, lambda job: remote.remote(job, self.cpus, os.getcwd()), tick)
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        # Ray's own processes have the environment of their node's start, not this one's.
        own = {name: value for name, value in os.environ.items() if name.startswith("ADAI_")}
        try:
            ray.init(
                address=self.address,
                runtime_env={"env_vars": own},
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            line = str(error).strip().splitlines()[0]
            raise UserError(
                f"cannot use a Ray cluster at {self.address}: {line}; start one with ray start --head"
            ) from error


def _all(jobs: Sequence[Job], start: Any, tick: Tick) -> list[Failure]:
    attempts = Attempts(jobs)
    running: dict[Any, Attempt] = {}
    while attempts or running:
        while attempts:
            attempt = attempts.take()
            running[start(attempt.job)] = attempt
        ended, _ = ray.wait(list(running), timeout=SECOND)
        for reference in ended:
            attempt = running.pop(reference)
            try:
                reason = ray.get(reference)
            except ray.exceptions.RayError as error:  # the process or its node died
                reason = explain(attempt.job.folder, error)
            attempts.ended(attempt, reason)
        tick()
    return attempts.failures


def _carry_out(job: Job, threads: int, working_folder: str) -> str | None:
    """What a Ray task does; returns why it failed."""
    if Path(working_folder).is_dir():
        os.chdir(working_folder)  # where a task of the user's own is looked for
    torch.set_num_threads(threads)
    return carried_out(job)
