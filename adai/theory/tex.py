"""Formulas as TeX. The table of results has them in one line, ``D/(γM²)(1 - e^{-γt})²``, as a terminal shows them.

In that notation a fraction has to its left all factors up to a space or an operator, and one factor to its right.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<word>(?:eqs?\.|Theorem)\ [\d.]+(?:[-,\ ]+\d+)*|\([a-z][a-z'.\ ]{3,}\d*\)|(?<![^\s(])'[^']{3,}'|L2\b
        |(?!(?:exp|sign|det|diag|mean|min_inertia|sd)(?![a-z]))(?:(?:SGD|EMA|RMSprop)\b|[A-Z]?[a-z]{2,})(?:[-'][a-z]+)*)
    |(?P<name>min_inertia|λmax|sd|exp|sign|det|diag|mean)
    |(?P<number>\d*\.?\d+)
    |(?P<letter>β\d|[A-Za-zα-ωΓΔ]\u0302?\u0304?)
    |(?P<raised>[²³⁴¹⁻⁺ᵀᵗ]+|\^(?:\{[^}]*\}|-?.)|'+)
    |(?P<lowered>[₀₁]|_(?:\{[^}]*\}|[a-z0-9]+))
    |(?P<space>\ +)
    |(?P<other>.)""",
    re.X,
)
_NAMES = {
    "min_inertia": r"\mathrm{min\_inertia}",
    "λmax": r"\lambda_{\max}",
    "sd": r"\mathrm{sd}",
    "exp": r"\exp",
    "det": r"\det",
    "sign": r"\operatorname{sign}",
    "diag": r"\operatorname{diag}",
    "mean": r"\operatorname{mean}",
}
_GREEK = (
    r"α\alpha β\beta γ\gamma ε\epsilon ζ\zeta η\eta θ\theta λ\lambda μ\mu π\pi σ\sigma τ\tau φ\varphi χ\chi "
    r"Γ\Gamma Δ\Delta"
)
_LETTERS = {pair[0]: pair[1:] for pair in _GREEK.split()}
_ACCENTS = {"\u0302": r"\hat", "\u0304": r"\bar"}
_FACTORS = {"∫": r"\int", "Σ": r"\sum", "∇": r"\nabla", "…": r"\dots", "⟨": r"\langle", "⟩": r"\rangle"}
_BETWEEN = {"±": r"\pm", "≈": r"\approx", "≪": r"\ll", "≤": r"\le", "≥": r"\ge", "×": r"\times", "~": r"\sim"}
_SMALL = {**dict(zip("²³⁴¹⁻⁺ᵗ₀₁", "2341-+t01", strict=True)), "ᵀ": r"\top", "½": "1/2"}
_BRACKETS = {"(": ("(", ")"), "[": ("[", "]"), "|": (r"\lvert", r"\rvert")}
_CLOSING = {"(": ")", "[": "]", "|": "|"}
_PUNCTUATION = re.compile(r"([,;:]?)(?: ?\\(?:quad|;))? ?(.*?)(?: ?([,;:])(?: \\;)?)?", re.S)
"""Of what stands between words: what belongs to the sentence around it."""


class _Token(NamedTuple):
    kind: str
    text: str


class _Part(NamedTuple):
    is_words: bool
    text: str


def markdown(formula: str) -> str:
    """A formula of the table as Markdown: what is not words is TeX in ``$`…`$``, which GitHub and the site draw.

    Args:
        formula: in the notation of the table of results.

    Example:
        >>> markdown("unbiased: η²C/(1 - a²)")
        'unbiased: $`\\\\dfrac{\\\\eta^{2} C}{1 - a^{2}}`$'
    """
    shown = ""
    for part in _Reader(formula).parts(""):
        found = _PUNCTUATION.fullmatch(part.text)
        before, inside, after = found.groups("") if found else ("", part.text, "")
        text = inside if part.is_words or not inside else f"$`{inside}`$"
        joint = " " if shown and shown[-1] not in " (" and not before else ""
        shown += f"{joint}{before}{' ' if before else ''}{text}{after}"
    return shown


class _Reader:
    """Reads a formula from left to right."""

    def __init__(self, formula: str) -> None:
        self.tokens = [_Token(found.lastgroup or "", found[0]) for found in _TOKEN.finditer(formula)]

    def next_is(self, *texts: str) -> bool:
        """Whether the next token is one of these."""
        return bool(self.tokens) and self.tokens[0].text in texts

    def parts(self, closing: str) -> list[_Part]:
        """All up to the closing bracket, which is taken too; words and formulas by turns."""
        parts: list[_Part] = []
        done: list[str] = []
        run: list[str] = []  # the factors since the last space or operator
        while self.tokens and not self.next_is(closing):
            kind, text = self.tokens[0]
            if kind == "word":
                parts += [_Part(False, _joined([*done, *run])), _Part(True, self.words())]
                done, run = [], []
            elif text == "/" and run:
                self.tokens.pop(0)
                run = [_fraction(run, self.factor())]
            elif kind == "space" or (kind == "other" and text not in (*_FACTORS, *_CLOSING, "√")):
                done += [*run, self.between(after_factor=bool(run))]
                run = []
            else:
                run.append(self.factor())
        if self.tokens:
            self.tokens.pop(0)
        return [part for part in [*parts, _Part(False, _joined([*done, *run]))] if part.text]

    def words(self) -> str:
        """Words up to the next symbol."""
        text = ""
        while self.tokens and (self.tokens[0].kind in ("space", "word") or (text and self.next_is(",", ":"))):
            text += self.tokens.pop(0).text
        return re.sub(" +", " ", text)

    def between(self, after_factor: bool) -> str:
        """An operator, or the space of a product."""
        kind, text = self.tokens.pop(0)
        if kind != "space":
            is_pause = text in ",;:" and [token.text for token in self.tokens[:1]] == [" "]
            return rf"{text} \;" if is_pause else _BETWEEN.get(text, text)
        if len(text) > 1:
            return r"\quad"
        if not self.tokens:
            return ""
        is_factor = self.tokens[0].kind in ("letter", "number", "name") or self.next_is(*_FACTORS, *_CLOSING, "√")
        return r"\," if after_factor and is_factor else ""

    def factor(self) -> str:
        """An atom with what is raised and lowered after it."""
        result = self.atom(*self.tokens.pop(0))
        while self.tokens and self.tokens[0].kind in ("raised", "lowered"):
            kind, text = self.tokens.pop(0)
            if text[0] == "'":
                result += text
            elif text[0] in "^_":
                result += f"{text[0]}{{{_small(text[1:].strip('{}'))}}}"
            else:
                result += f"{'^' if kind == 'raised' else '_'}{{{_small(text)}}}"
        return result

    def atom(self, kind: str, text: str) -> str:
        """A number, a letter, a function with its argument, a root, or all within brackets."""
        if kind == "name":
            return _NAMES[text] + (self.factor() if self.next_is("(", "[") else "")
        if kind == "letter":
            letter = _LETTERS.get(text[0], text[0])
            for accent in text[1:]:
                letter = rf"{letter}_{accent}" if accent.isdigit() else f"{_ACCENTS[accent]}{{{letter}}}"
            return letter
        if text == "√":
            return rf"\sqrt{{{_bare(self.factor())}}}"
        if text in _CLOSING:
            left, right = _BRACKETS[text]
            inner = [rf"\text{{{p.text}}}" if p.is_words else p.text for p in self.parts(_CLOSING[text])]
            return rf"\left{left} {' '.join(inner)} \right{right}"
        return _FACTORS.get(text, text)


def _small(text: str) -> str:
    """What is raised or lowered: without fractions."""
    plain = "".join(_SMALL.get(character, character) for character in text)
    return "".join(
        _LETTERS.get(c, c) + (" " if c in _LETTERS else "") for c in re.sub(r"β(\d)", r"β_\1", plain)
    ).strip()


def _joined(pieces: list[str]) -> str:
    return " ".join(piece for piece in pieces if piece).removeprefix(r"\quad ").removesuffix(r" \quad")


def _fraction(above: list[str], below: str) -> str:
    """One fraction line; what is a fraction above or below it is smaller."""
    parts = [part.replace(r"\dfrac", r"\frac") for part in (_bare(_joined(above)), _bare(below))]
    return rf"\dfrac{{{parts[0]}}}{{{parts[1]}}}"


def _bare(factor: str) -> str:
    """The inside of round brackets, where one pair holds all of it."""
    depth, ends = 0, []
    for bracket in re.finditer(r"\\(left|right)[^a-z]", factor.replace("vert", "|")):
        depth += 1 if bracket[1] == "left" else -1
        ends += [] if depth else [bracket.end()]
    whole = factor.startswith(r"\left(") and factor.endswith(r"\right)") and len(ends) == 1
    return factor[len(r"\left( ") : -len(r" \right)")] if whole else factor
