"""The `adai` command. Bad input gives one line on standard error and exit status 2; an interruption gives 130."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from adai import __version__
from adai.commands.flags import in_flags
from adai.commands.options import comparison, doctor, lr, measurement, paper, simulation, stability, suite
from adai.commands.status import INTERRUPTED
from adai.errors import UserError, did_you_mean
from adai.files import removed_if_refused
from adai.report.text import ENCODING_ERRORS


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    # Each subcommand parses its own arguments, and leaves those that it does not know to `adai`. It reports them here
    # itself, because it knows its flags. The signature is argparse's.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; one that is unknown is an error, with the flag that was meant."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = [each.partition("=")[0] for each in unknown if each.startswith("-")]
            hint = did_you_mean(flags[0], self._option_string_actions) if flags else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the message with a hint to ``--help``, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    _survive_any_encoding()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
    try:
        with _terminated_in_order(), _no_empty_folder(getattr(options, "out", None)):
            status: int = options.run(options)
    except UserError as error:
        print(f"adai {options.command}: {in_flags(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # commands that keep results print their own message
        print(f"adai {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        package = (error.name or "adai").partition(".")[0]
        if package == "adai":
            raise
        message = f"cannot run without {package} installed; pip install 'adai[lab]'"
        print(f"adai {options.command}: {message}", file=sys.stderr)
        return 2
    return status


def _no_empty_folder(out: Path | None) -> AbstractContextManager[None]:
    """A command that is refused leaves no folder behind in which there is nothing."""
    return nullcontext() if out is None else removed_if_refused(out, unless="*")


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Treat SIGTERM, which schedulers send before they kill a process, as Ctrl-C: what is finished is kept."""
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _survive_any_encoding() -> None:
    """Make standard output and error replace characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)


def parser() -> Parser:
    """What parses the arguments of the command."""
    parser = Parser(prog="adai", description="Adaptive Inertia: compare optimizers.")
    parser.add_argument("--version", action="version", version=f"adai {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    comparison.add_train(commands)
    comparison.add_compare(commands)
    comparison.add_report(commands)
    suite.add_suite(commands)
    lr.add_lr(commands)
    measurement.add_curvature(commands)
    measurement.add_noise(commands)
    stability.add_stability(commands)
    simulation.add_theory(commands)
    simulation.add_escape(commands)
    simulation.add_saddle(commands)
    paper.add_paper(commands)
    doctor.add_doctor(commands)
    return parser
