"""Imports the module of a command only when the command runs."""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


def later(name: str) -> Callable[[argparse.Namespace], int]:
    """A function that imports ``adai.commands.<name>`` and runs it."""

    def run(options: argparse.Namespace) -> int:
        status: int = import_module(f"adai.commands.{name}").run(options)
        return status

    return run
