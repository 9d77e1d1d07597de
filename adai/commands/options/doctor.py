"""The options of `adai doctor`, of which there are none."""

from adai.commands.options.later import Commands, later


def add_doctor(commands: Commands) -> None:
    """Add `adai doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="what is installed, and which engine is used: for bug reports",
        description="Print versions, the engine that a step uses on each device and why, data sets and extras. Needs "
        "torch alone.",
    )
    doctor.set_defaults(run=later("doctor"))
