"""From the name of an optimizer to the code that makes it, and back.

``torch:NAdam`` is `torch.optim.NAdam`, ``pytorch_optimizer:Lion`` is `pytorch_optimizer.Lion`, and
``package.module:thing`` is whatever that module calls ``thing``. Names without a colon are those of recipes
(`adai.lab.optimizers.recipes.recipe`).
"""

import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host.boundary import Failed, theirs

# Makes an optimizer: a class, of the parameters; or a function, of the model.
Maker = Callable[..., Optimizer]

# What comes before the colon, and the module that is meant. Any other is a module's own name.
LIBRARIES = {"torch": "torch.optim", "pytorch_optimizer": "pytorch_optimizer"}

# Of things that cannot be imported: a class of a notebook, a lambda. They are known in this process alone.
_here: dict[str, Maker] = {}
_LOCAL = " as "  # in their names, before the label


def maker(spec: str) -> Maker:
    """The class or function that a name with a colon stands for.

    Raises:
        UserError: there is no such module, it has no such thing, or the thing makes no optimizer.
        ModuleNotFoundError: pytorch_optimizer is not installed.
        Failed: the module raises an error when it is imported.
    """
    if spec in _here:
        return _here[spec]
    module_name, _, name = spec.partition(":")
    if _LOCAL in name:
        raise UserError(
            f"the optimizer {spec!r} was defined in another process, in a notebook or in a function; define it again "
            "there, or move it to a module"
        )
    module = _module(module_name, spec)
    thing: Any = module
    for part in name.split("."):
        if not hasattr(thing, part):
            near = get_close_matches(name, vars(module), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"the optimizer {spec!r}: {module.__name__} has no {name!r}{hint}")
        thing = getattr(thing, part)
    return checked(thing, spec)


def _module(name: str, spec: str) -> Any:
    if name in LIBRARIES:
        return importlib.import_module(LIBRARIES[name])
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # the working folder, as for tasks
    try:
        with theirs(f"importing the optimizer {spec}"):
            return importlib.import_module(name)
    except Failed as error:
        if not isinstance(error.__cause__, ModuleNotFoundError | ValueError):
            raise
        raise UserError(f"cannot import the optimizer {spec!r}: {error.__cause__}") from error


def checked(thing: Any, spec: str) -> Maker:
    """The thing, if it can make an optimizer.

    Raises:
        UserError: it cannot.
    """
    if inspect.isclass(thing) and not issubclass(thing, Optimizer):
        raise UserError(f"{spec!r} is a class, but no torch.optim.Optimizer")
    if not callable(thing) or isinstance(thing, Optimizer):
        made = " that is made already" if isinstance(thing, Optimizer) else ""
        raise UserError(
            f"{spec!r} is {_a(type(thing).__name__)}{made}; give a class of optimizers, or a function of the model "
            "that returns an optimizer"
        )
    maker: Maker = thing
    return maker


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def spec_of(thing: Maker, label: str) -> str:
    """The name by which a run finds the thing again.

    It is ``module:name`` where that can be imported. Anything else (a lambda, a class that was defined in a notebook or
    in a function) is remembered in this process, under a name that has the label in it.

    Args:
        thing: a class or a function.
        label: of the optimizer in the comparison.
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
    """Whether another process finds this optimizer too; if not, its runs have to stay in this one."""
    return spec not in _here


def takes_model(make: Maker) -> bool:
    """Whether it is called with the model; classes of optimizers are called with its parameters."""
    while isinstance(make, functools.partial):
        make = make.func
    return not inspect.isclass(make)


class Options(NamedTuple):
    """The options that a maker takes.

    Attributes:
        defaults: by name, in its order; `inspect.Parameter.empty` for one that has to be given.
        others: whether it takes others too, as ``**kwargs``.
    """

    defaults: dict[str, Any]
    others: bool

    def default(self, name: str) -> Any:
        """The default of an option; None if it has none."""
        value = self.defaults.get(name)
        return None if value is inspect.Parameter.empty else value


def options_of(make: Maker) -> Options:
    """The options that a maker takes after the parameters or the model, its first argument."""
    try:
        _, *parameters = inspect.signature(make).parameters.values()
    except (ValueError, TypeError):  # it has no signature, or takes nothing
        return Options({}, others=True)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Options({p.name: p.default for p in named}, any(p.kind is p.VAR_KEYWORD for p in parameters))


def value(text: str) -> Any:
    """What stands for the value of an option on the command line: ``0.9``, ``True``, ``None``, ``(0.9, 0.99)``.

    Text that is no Python literal is taken as it is.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
