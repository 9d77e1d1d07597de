"""Carries out runs on a Ray cluster: each run is a Ray task."""

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
    """Does as many jobs at a time as the cluster has room for. If a node dies, its jobs are done again on another one.

    All nodes need the comparison's folder under the same path, and also the data if they are in files: a run that moves
    to another node continues from its checkpoints. adai has to be installed on every node.

    Args:
        address: the address of the cluster, as for `ray.init`. None for the address in the environment variable
            ``RAY_ADDRESS``, else a cluster on this machine, else a new one that ends with the comparison.
        cpus: the number of CPUs of each run, which is also its number of threads. Two comparisons are bit for bit equal
            only with the same number.
        gpus: the number of GPUs of each run; with a fraction, runs share a GPU.
    """

    elsewhere = True

    def __init__(self, address: str | None = None, *, cpus: int = 1, gpus: float = 0.0) -> None:
        self.address = address
        self.cpus = cpus
        self.gpus = gpus

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns the failures.

        Raises:
            UserError: there is no cluster at the address.
        """
        self._connect()
        try:
            # A new process for each run (max_calls), and no retries by Ray: `Attempts` decides about them.
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0, max_calls=1)(_carry_out)
            return _all(jobs, lambda job: remote.remote(job, self.cpus, os.getcwd()), tick)
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        # Ray's processes have the environment in which their node was started, not that of this process.
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
    """Do a job in a Ray task; returns why it failed, None if it succeeded."""
    if Path(working_folder).is_dir():
        os.chdir(working_folder)  # tasks and optimizers of the user's own are imported from there
    torch.set_num_threads(threads)
    return carried_out(job)
