"""The style of figures: an optimizer has the same colour, marker and dashes in every figure of every report."""

from collections.abc import Sequence
from typing import NamedTuple

from adai.lab.optimizers.recipes import RECIPES


class Style(NamedTuple):
    """The style of one optimizer. ``light`` is its colour on a light page and on paper, ``dark`` on a dark page."""

    light: str
    dark: str
    marker: str
    dashes: tuple[float, ...]


# Each colour has a contrast of at least 3 with the page (a test checks it). No two styles share a colour or a marker.
_STYLES = [
    Style("#0b62a8", "#6cb4f5", "o", ()),
    Style("#00807a", "#4fd1c7", "s", (5, 1.5)),
    Style("#b84a00", "#f9a25c", "^", (1.2, 1.2)),
    Style("#7b3fb3", "#c79ff2", "D", (5, 1.2, 1.2, 1.2)),
    Style("#c2185b", "#f58ab5", "v", (2.5, 1.2)),
    Style("#5c6b00", "#c0cf52", "P", (7, 2)),
    Style("#8a5528", "#d8ad80", "X", (3, 1, 1, 1, 1, 1)),
    Style("#2b7a30", "#83d488", "*", (1, 2)),
    Style("#b3001b", "#ff8d85", "<", (5, 1.5)),
    Style("#4a5b6c", "#aebdcc", "H", ()),
    Style("#7d6200", "#e5c54f", ">", (7, 2)),
    Style("#5548d9", "#aca5ff", "d", (1.2, 1.2)),
    Style("#34302c", "#efe9e0", "p", ()),
    Style("#94209a", "#f08cf5", "h", (4, 1, 1, 1)),
]

# No other optimizer has their styles.
_ADAIS = ("adai", "adaiw")

# The colours of a figure's text and lines. In the page they follow the reader's light or dark setting.
INK = "#22211f"
GRID = "#d8d5cf"


def style(name: str, names: Sequence[str] = ()) -> Style:
    """The style of an optimizer.

    A recipe has the same style in every report. Other optimizers get the remaining styles in their order, but never
    Adai's.

    Args:
        name: the optimizer's label.
        names: all labels of the comparison. Up to twelve of them without a recipe have styles of their own.
    """
    return _STYLES[_number(name, names)]


def simulated(rule: str) -> Style:
    """The style of a rule of `adai.simulate`: that of the same optimizer, whose recipe may have another name."""
    return style({"momentum": "sgd", "sgd": "sgd-plain"}.get(rule, rule))


def variable(name: str, names: Sequence[str] = ()) -> str:
    """The name of the CSS variable with the optimizer's colour; see `style`."""
    return f"--c{_number(name, names)}"


def _number(name: str, names: Sequence[str]) -> int:
    recipes = list(RECIPES)
    if name in recipes:
        return recipes.index(name) % len(_STYLES)
    others = [each for each in names if each not in recipes]
    taken = {recipes.index(each) for each in (*names, *_ADAIS) if each in recipes}
    free = [number for number in range(len(_STYLES)) if number not in taken]
    place = others.index(name) if name in others else sum(name.encode(errors="backslashreplace"))
    return free[place % len(free)]


def variables() -> dict[str, tuple[str, str]]:
    """The CSS variables of the page by name, each with its light and its dark colour."""
    colours = {f"--c{number}": (s.light, s.dark) for number, s in enumerate(_STYLES)}
    return {**colours, "--grid": (GRID, "#45423e")}


def themed(svg: str) -> str:
    """An SVG with the page's colours: text and axes use its text colour, everything else its variables."""
    for name, (light, _) in variables().items():
        svg = svg.replace(light, f"var({name})")
    return svg.replace(INK, "currentColor")
