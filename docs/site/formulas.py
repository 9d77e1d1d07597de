"""Writes formulas as MathML, which browsers draw without a script or fonts of ours.

In pages a formula stands in a block fenced with ``math``, or in a sentence between ``$`` and backquotes, as on GitHub;
in docstrings after ``.. math::`` or in ``:math:``, as for Sphinx.
"""

import re
from textwrap import dedent
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig

BLOCK = re.compile(r"^( *)\.\. math::\n((?:\1 +.*\n|\n(?=\1 ))+)", re.M)
INLINE = re.compile(r":math:`([^`]+)`")
IN_A_PAGE = re.compile(r"\$`([^`]+)`\$")
EXAMPLE = re.compile(r"^Example:$", re.M)
LITERAL = re.compile(r"(\S)::\n\n(?=    )|^::\n\n(?=    )", re.M)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Hand MkDocs the functions that write formulas."""
    fence = {"name": "math", "class": "formula", "format": block}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    inline = {"name": "math", "class": "formula", "format": in_a_line}
    config.mdx_configs.setdefault("pymdownx.inlinehilite", {})["custom_inline"] = [inline]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Make GitHub's formulas in a sentence this site's."""
    return IN_A_PAGE.sub(r"`#!math \1`", markdown)


def block(source: str, *_: Any, **__: Any) -> str:
    """A formula that stands by itself."""
    # latex2mathml knows align* but not aligned, which GitHub wants; Sphinx aligns without being told.
    bare = source.replace(r"\begin{aligned}", "").replace(r"\end{aligned}", "")
    lines = rf"\begin{{align*}}{bare}\end{{align*}}" if "&" in bare else bare
    return f'<div class="formula">{convert(lines, display="block")}</div>'


def in_a_line(source: str, *_: Any) -> str:
    """A formula within a sentence."""
    return f'<span class="formula">{convert(source)}</span>'


def in_markdown(docstring: str) -> str:
    """A docstring in which what is reStructuredText is Markdown."""
    fenced = BLOCK.sub(lambda found: f"\n```math\n{dedent(found[2]).strip()}\n```\n", docstring)
    literal = LITERAL.sub(lambda found: f"{found[1]}:\n\n" if found[1] else "", INLINE.sub(r"`#!math \1`", fenced))
    return EXAMPLE.sub("Examples:", literal)  # the heading by which griffe knows code


class Docstrings(griffe.Extension):
    """Makes docstrings Markdown before they are read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring:
            obj.docstring.value = in_markdown(obj.docstring.value)
