"""The site builds without a warning or the network, and no page is far; the notebook runs."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import adai.lab
from tests.documents import ROOT

NOTEBOOK = ROOT / "docs/quickstart.ipynb"


class Addresses(HTMLParser):
    """What a page links to (`links`), and what it loads without being asked (`loads`)."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loads = [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given["href"])
        elif given.get("src"):
            self.loads.append(given["src"])


def inside(page, address):
    """The file of the site that an address in a page means; None for one elsewhere."""
    path = address.partition("#")[0]
    return None if ":" in path or path.startswith("//") else (page.parent / path).resolve() if path else page


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site").resolve()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(command, cwd=ROOT, env=os.environ | nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {page: Addresses(page) for page in site.rglob("*.html") if page.name != "404.html"}


@pytest.mark.slow
def test_every_page_is_two_clicks_from_the_front_page(site, pages):
    near = {site / "index.html"}
    for _ in range(2):
        near |= {inside(page, link) for page in near & pages.keys() for link in pages[page].links}
    assert set(pages) - near == set()
    sources = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"README"}
    assert sources <= {page.stem for page in pages}


@pytest.mark.slow
def test_what_a_page_links_to_is_there_and_nothing_comes_from_elsewhere(site, pages):
    for page, found in pages.items():
        for address in [*found.links, *found.loads]:
            file = inside(page, address)
            assert file is None or file.exists(), (page, address)
        assert [address for address in found.loads if inside(page, address) is None and ":" in address] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_formulas_and_docstrings_are_drawn(site):
    rule = (site / "optimizer.html").read_text(encoding="utf-8")
    assert "<math" in rule
    assert "\\beta" not in rule
    for page in ("theory", "stability"):
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        assert "<math" in text
        assert "dfrac" not in text
        assert "#!math" not in text
    reference = (site / "reference.html").read_text(encoding="utf-8")
    for name in [*adai.__all__, *adai.lab.__all__, "adaiw", "share_mean"]:
        assert re.search(rf'<h3 id="[\w.]*\.{name}"', reference), name
    assert "<math" in reference
    assert ".. math::" not in reference
    assert '<span class="gp">&gt;&gt;&gt; </span>' in reference
    assert "<blockquote>" not in reference  # examples that were taken for quotations
    assert "max_grad_norm" in reference
    theory = (site / "reference-theory.html").read_text(encoding="utf-8")
    assert 'id="adai.theory.stability.largest_stable_lr"' in theory


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # numbers of some other machine
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.create_kernel_manager()
    with client.setup_kernel(cwd=str(tmp_path), env={**os.environ, "PYTHONPATH": str(ROOT)}):
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
    assert len(list((tmp_path / "runs/quickstart").glob("*/seed2/metrics.jsonl"))) == 3
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert "image/png" in kinds
    assert "text/html" in kinds
