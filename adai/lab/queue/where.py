"""Finds the executor of a comparison by its name."""

from adai.errors import UserError
from adai.lab.host.extras import needed
from adai.lab.queue.executors import Executor, Processes, in_process


def executor_named(
    executor: str = "local",
    *,
    jobs: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    gpus: float | None = None,
) -> Executor:
    """Make the executor that carries out the runs.

    Args:
        executor: ``local`` or ``ray``.
        jobs: for ``local``: the number of runs at a time, each in a child process; default one, in this process.
        address: for ``ray``: the address of the cluster; default the one that is found.
        cpus: for ``ray``: the number of CPUs of each run; default 1.
        gpus: for ``ray``: the number of GPUs of each run; default 0.

    Raises:
        UserError: there is no such executor, it does not take one of the arguments, or Ray is not installed.
    """
    if executor not in ("local", "ray"):
        raise UserError(f"unknown `executor` {executor!r}; choose from local, ray")
    if executor == "ray":
        if jobs is not None:
            raise UserError("`jobs` is for `executor` local; leave it out: Ray does as many runs as it has room for")
        with needed("ray", by="`executor` ray", install="'adai[ray]'"):
            from adai.lab.queue.on_ray import OnRay
        return OnRay(address, cpus=cpus or 1, gpus=gpus or 0.0)
    for name, given in {"address": address, "cpus": cpus, "gpus": gpus}.items():
        if given is not None:
            raise UserError(f"`{name}` is for `executor` ray; add that, or leave `{name}` out")
    return Processes(jobs) if jobs and jobs > 1 else in_process
