"""Writes ``docs/claims.md``: the claims of the paper, each with a verdict, our numbers, and their commands."""

import os
from collections.abc import Sequence
from pathlib import Path

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.results.run import writing_to
from adai.paper.claims.claim import VERDICTS, Claim, Found, joined
from adai.paper.claims.listed import CLAIMS
from adai.theory.page import anchor

HEAD = """# Which of the paper's claims hold

Xie et al. ([arXiv 2006.15815](https://arxiv.org/abs/2006.15815)) make {number} claims that can be tested.
We find: {counts}.

**Should I try Adai on my net?** If you train a convolutional net with SGD and momentum, try `Adai.from_sgd`, and
compare both on your own net: `adai compare --task package.module:function --optimizers adai sgd --tune 20`. There
`adai` has the lower bound of the inertia that `from_sgd` sets, 0.9. Do not expect Adai to be better than SGD because
the paper says so: the first two lines of the table show what we have seen. If you usually train with
AdamW, keep it; the authors report that Adai falls behind Adam on Transformers.

*Holds under a condition* means that the sentence names a condition that the claim needs. *Not shown* means that our
runs do not decide it. Intervals are 95 %. "Adai" is the paper's rule, without a lower bound of the inertia and a
warm-up of its own, unless the sentence says otherwise; in the lab it has the name `adai-paper`.
"""

TAIL = """
Drawn by `adai paper claims` from the files that each claim names. Verdicts follow from the numbers, by rules in
`adai/paper/claims/`. [All results](../results/README.md), [the theory](theory.md).
"""


def write(folder: Path, file: Path) -> Path:
    """Write the page.

    Args:
        folder: our results.
        file: the page.

    Raises:
        UserError: there is no such folder, or the page cannot be written.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one with runs that are kept")
    with writing_to(file.parent, "give another file with --out"):
        write_whole(file, lambda part: part.write_text(text(folder, file.parent), encoding="utf-8"))
    return file


def text(folder: Path, beside: Path) -> str:
    """The page, with links that are relative to a folder."""
    found = {claim.key: claim.found(folder) for claim in CLAIMS}
    counts = [
        f"{verdict}: {number}" for verdict in VERDICTS if (number := sum(f.verdict == verdict for f in found.values()))
    ]
    lines = [f"| [{claim.said}](#{claim.key}), {claim.where} | {found[claim.key].verdict} |" for claim in CLAIMS]
    table = "\n".join(["| claim | verdict |", "|---|---|", *lines])
    at = Path(os.path.relpath(folder, beside))
    parts = "\n".join(_part(claim, found[claim.key], at) for claim in CLAIMS)
    return "\n".join([HEAD.format(number=len(CLAIMS), counts="; ".join(counts)), f"{table}\n", parts]) + TAIL


def _part(claim: Claim, found: Found, at: Path) -> str:
    sources = _sources(claim.files, claim.commands, at) + _theory(claim.theory)
    return (
        f'<a id="{claim.key}"></a>\n\n### {claim.said}\n\n{claim.where}. **{found.verdict.capitalize()}**: '
        f"{found.sentence}{sources}\n"
    )


def _theory(keys: Sequence[str]) -> str:
    links = [f"[{key}](theory.md#{anchor(key)})" for key in keys]
    return f"\n\nIn the theory: {joined(links)}." if links else ""


def _sources(files: Sequence[str], commands: Sequence[str], at: Path) -> str:
    links = [f"[{file}]({(at / file).as_posix()})" for file in files]
    made = f"made by {joined([f'`{command}`' for command in commands])}" if commands else ""
    both = ", ".join(part for part in (joined(links) if links else "", made) if part)
    return f"\n\n({both[0].upper()}{both[1:]}.)" if both else ""
