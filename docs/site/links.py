"""A hook of MkDocs: puts on the site what pages link to outside of docs/, and points the links there.

On GitHub the link ``[results](../results/README.md)`` works as it is. MkDocs knows only docs/. So each file of the
repository that a page links to gets an address on the site: ``docs/x.md`` becomes ``x.md``, the README the front page,
and any other file keeps its path. Nothing is copied into docs/.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()[^)\s#]+(?=[)#\s])")
ADDRESSES = {"README.md": "index.md", "docs/README.md": "contents.md"}


def address(path: Path) -> str:
    """Where a file of the repository is on the site."""
    name = path.relative_to(ROOT).as_posix()
    return ADDRESSES.get(name, name.removeprefix("docs/"))


def target(link: str, path: Path) -> Path | None:
    """The file of the repository that a link in a page means; None if there is none."""
    if ":" in link:
        return None
    found = (path.parent / link).resolve()
    return found if found.is_file() and found.is_relative_to(ROOT) else None


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Add what is linked to, and what that links to."""
    files.remove(files.src_uris["README.md"])
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    seen: set[Path] = set()
    while pages:
        path = pages.pop()
        if path in seen:
            continue
        seen.add(path)
        if address(path) not in files.src_uris:
            files.append(File.generated(config, address(path), abs_src_path=str(path)))
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            pages += [found for link in LINK.findall(text) if (found := target(link, path))]
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Point links at the addresses on the site."""
    path = Path(page.file.abs_src_path or "").resolve()
    here = PurePosixPath(address(path)).parent

    def on_the_site(link: re.Match[str]) -> str:
        found = target(link[0], path)
        return link[0] if found is None else os.path.relpath(address(found), here)

    return LINK.sub(on_the_site, markdown)
