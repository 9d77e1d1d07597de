"""How a command is found once it is known which one is wanted."""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


def later(name: str) -> Callable[[argparse.Namespace], int]:
    """What runs ``adai.commands.<name>``, which is imported only then."""

    def run(options: argparse.Namespace) -> int:
        status: int = import_module(f"adai.commands.{name}").run(options)
        return status

    return run
