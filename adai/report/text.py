"""Escapes text from outside (paths, labels, messages) for LaTeX, Markdown, matplotlib and terminals.

What is drawn by rich needs nothing of this: the console of `adai.lab.host.terminal` takes all text as it is. HTML is
escaped by the page's template.
"""

import codecs
import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "[": "{[}", "]": "{]}",
    "±": r"$\pm$", "−": "$-$", "–": "--", "’": "'", "‘": "`", "“": "``", "”": "''", "…": r"\dots{}", "\u00a0": "~",
    "μ": r"$\mu$", "θ": r"$\theta$", "α": r"$\alpha$", "λ": r"$\lambda$", "×": r"$\times$", "·": r"$\cdot$",
    "≤": r"$\le$", "≥": r"$\ge$", "‖": r"$\Vert$",
}  # fmt: skip

# Replacements for characters that an encoding lacks; others are replaced by the nearest ASCII letter, or their number.
_PLAIN = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "×": "x", "·": "*",
    "‖": "||", "≤": "<=", "≥": ">=", "μ": "mu", "θ": "theta", "α": "alpha", "β": "beta", "λ": "lambda", "τ": "tau",
    "ρ": "rho", "Δ": "Delta", "η": "eta", "σ": "sigma", "→": "->", "⟨": "<", "⟩": ">", "∇": "grad ",
}  # fmt: skip

ENCODING_ERRORS = "adai.plain"


def latex(text: str) -> str:
    """Text for LaTeX, on one line, because a line break could end a comment or a paragraph."""
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def markdown(text: str) -> str:
    """Text for a cell of a Markdown table, escaped so that it is shown literally."""
    return re.sub(r"([\\|`*_<\[\]])", r"\\\1", one_line(text))


def drawn(text: str) -> str:
    """Text for matplotlib, which would interpret text between two dollars as mathematics."""
    return encodable(text).replace("$", r"\$")


def legend(text: str) -> str:
    """Text for a legend of matplotlib, which omits labels that begin with an underscore."""
    return drawn(f" {text}" if text.startswith("_") else text)


def one_line(text: str) -> str:
    """Text with spaces for line breaks, in characters that UTF-8 can encode."""
    return " ".join(encodable(text).splitlines())


def encodable(text: str) -> str:
    """Text that UTF-8 can encode: bytes of a file name that are not text become numbers, such as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The replacement of characters that a terminal's encoding lacks; a handler for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = (error.object[place] for place in range(error.start, error.end))
    return "".join(map(_nearest, letters)), error.end


def _nearest(letter: str) -> str:
    if letter in _PLAIN:
        return _PLAIN[letter]
    nearest = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return nearest or letter.encode("ascii", "backslashreplace").decode()


codecs.register_error(ENCODING_ERRORS, _plain)
