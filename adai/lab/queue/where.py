"""Where the runs of a comparison are carried out, by name."""

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
    """What carries out the runs.

    Args:
        executor: ``local`` or ``ray``.
        jobs: of ``local``: so many runs at a time, each in a process of its own; default one, in this process.
        address: of the ``ray`` cluster; default the one that is found.
        cpus: of each run on ``ray``; default 1.
        gpus: of each run on ``ray``; default 0.

    Raises:
        UserError: there is no such executor, it does not take one of the arguments, or Ray is not installed.
    """
    if executor not in ("local", "ray"):
        raise UserError(f"unknown `executor` {executor!r}; choose from local, ray")
    if executor == "ray":
        if jobs is not None:
            raise UserError("`jobs` is for `executor` local; leave it out, Ray runs as many as it has room for")
        with needed("ray", by="`executor` ray", install="'adai[ray]'"):
            from adai.lab.queue.on_ray import OnRay
        return OnRay(address, cpus=cpus or 1, gpus=gpus or 0.0)
    for name, given in {"address": address, "cpus": cpus, "gpus": gpus}.items():
        if given is not None:
            raise UserError(f"`{name}` is for `executor` ray; add that, or leave `{name}` out")
    return Processes(jobs) if jobs and jobs > 1 else in_process
