"""Finds the class or function of an optimizer by its name, and the name of a class or function.

``torch:NAdam`` is `torch.optim.NAdam`, ``pytorch_optimizer:Lion`` is `pytorch_optimizer.Lion`, and
``package.module:thing`` is the attribute ``thing`` of that module. Names without a colon are names of recipes
(`adai.lab.optimizers.recipes.recipe`).
"""

import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch.optim import Optimizer

from adai.errors import UserError, did_you_mean
from adai.lab.host.boundary import Failed, theirs

# Makes an optimizer: a class, which takes the parameters; or a function, which takes the model.
Maker = Callable[..., Optimizer]

# Short names of modules before the colon. Any other text before the colon is the name of a module.
LIBRARIES = {"torch": "torch.optim", "pytorch_optimizer": "pytorch_optimizer"}

# Classes and functions that cannot be imported, such as those of a notebook and lambdas. Only this process has them.
_here: dict[str, Maker] = {}
_LOCAL = " as "  # in their names, before the label


def maker(spec: str) -> Maker:
    """The class or function of a name with a colon.

    Raises:
        UserError: the module does not exist or does not have this name, or what it has makes no optimizer.
        ModuleNotFoundError: pytorch_optimizer is not installed.
        Failed: the module raises an error when it is imported.
    """
    if spec in _here:
        return _here[spec]
    module_name, _, name = spec.partition(":")
    if _LOCAL in name:
        raise UserError(
            f"the optimizer {spec!r} was defined in another process, in a notebook or in a function; run it from there "
            "again, or move it to a module"
        )
    module = _module(module_name, spec)
    thing: Any = module
    for part in name.split("."):
        if not hasattr(thing, part):
            hint = did_you_mean(name, vars(module))
            raise UserError(f"the optimizer {spec!r}: {module.__name__} has no {name!r}{hint}")
        thing = getattr(thing, part)
    return checked(thing, spec)


def _module(name: str, spec: str) -> Any:
    if name in LIBRARIES:
        return importlib.import_module(LIBRARIES[name])
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # modules in the working folder, as for tasks
    try:
        with theirs(f"importing the optimizer {spec}"):
            return importlib.import_module(name)
    except Failed as error:
        if not isinstance(error.__cause__, ModuleNotFoundError | ValueError):
            raise
        why = str(error.__cause__)
        if name.endswith(".py"):
            module = ".".join(Path(name).with_suffix("").parts)
            why = f"name the module, not its file; did you mean {module}:{spec.partition(':')[2]}?"
        raise UserError(f"cannot import the optimizer {spec!r}: {why}") from error


def checked(thing: Any, spec: str) -> Maker:
    """Return the class or function if it can make an optimizer.

    Raises:
        UserError: it is another class, or cannot be called.
    """
    if inspect.isclass(thing) and not issubclass(thing, Optimizer):
        raise UserError(f"{spec!r} is a class that does not derive from torch.optim.Optimizer")
    if not callable(thing) or isinstance(thing, Optimizer):
        made = " that exists already" if isinstance(thing, Optimizer) else ""
        raise UserError(
            f"{spec!r} is {_a(type(thing).__name__)}{made}; give a class of optimizers, or a function that takes the "
            "model and returns an optimizer"
        )
    maker: Maker = thing
    return maker


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def spec_of(thing: Maker, label: str) -> str:
    """The name by which a run finds a class or function.

    The name is ``module:name`` if it can be imported. Otherwise (a lambda, or a class that was defined in a notebook or
    in a function) this process remembers it under a name that contains the label.

    Args:
        thing: a class or a function.
        label: the label of the optimizer in the comparison.
    """
    module, name = getattr(thing, "__module__", "") or "", getattr(thing, "__qualname__", type(thing).__qualname__)
    for library, place in LIBRARIES.items():
        if _at(place, name) is thing:
            return f"{library}:{name}"
    spec = f"{module}:{name}"
    if module != "__main__" and _at(module, name) is thing:
        return spec
    _here[local := f"{spec}{_LOCAL}{label}"] = thing
    return local


def _at(module: str, name: str) -> Any:
    thing: Any = sys.modules.get(module)
    for part in name.split("."):
        thing = getattr(thing, part, None)
    return thing


def importable(spec: str) -> bool:
    """Whether other processes can import the optimizer. If not, its runs have to be done in this process."""
    return spec not in _here


def takes_model(make: Maker) -> bool:
    """Whether it is called with the model, because it is a function. Classes are called with the parameters."""
    while isinstance(make, functools.partial):
        make = make.func
    return not inspect.isclass(make)


class Options(NamedTuple):
    """The options that a maker takes.

    Attributes:
        defaults: the defaults by name, in the order of the signature; `inspect.Parameter.empty` for an option without a
            default.
        others: whether it takes further options, as ``**kwargs``.
    """

    defaults: dict[str, Any]
    others: bool

    def default(self, name: str) -> Any:
        """The default of an option; None if it has none."""
        value = self.defaults.get(name)
        return None if value is inspect.Parameter.empty else value


def options_of(make: Maker) -> Options:
    """The options that a maker takes after its first argument, the parameters or the model."""
    try:
        _, *parameters = inspect.signature(make).parameters.values()
    except (ValueError, TypeError):  # it has no signature, or takes no arguments
        return Options({}, others=True)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Options({p.name: p.default for p in named}, any(p.kind is p.VAR_KEYWORD for p in parameters))


def value(text: str) -> Any:
    """The value of an option from the command line: ``0.9``, ``True``, ``None``, ``(0.9, 0.99)``.

    Text that is not a Python literal is a string.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
