"""Renders a page in headless Chromium, in frames of several widths."""

import html
import json
import re
import shutil
import subprocess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Measured in each frame: boxes of the figures, what of them lies outside their figure, and text that a box cuts off.
# What scrolls inside a box of its own is not cut off.
_SCRIPT = """
function look(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const figures = [...page.querySelectorAll("figure svg")].map(svg => {
    const box = svg.getBoundingClientRect(), inner = [...svg.querySelectorAll("text")];
    const outside = inner.filter(e => {
      const b = e.getBoundingClientRect();
      return b.width == 0 || b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1
        || b.bottom > box.bottom + 1;
    }).map(e => e.textContent);
    const shapes = [...svg.querySelectorAll("path, use")].filter(e => e.getBoundingClientRect().width > 0).length;
    return {width: box.width, height: box.height, shapes, texts: inner.length, outside};
  });
  const clipped = [...page.querySelectorAll("body *:not(svg *)")].filter(e => {
    const b = e.getBoundingClientRect(), hidden = e.closest(".skip, details:not([open]) > :not(summary)");
    if (hidden || !e.textContent.trim()) return false;
    const closed = getComputedStyle(e).overflowX != "visible" && !e.matches(".scroll");
    if (closed && e.scrollWidth > e.clientWidth + 1) return true;
    return !e.closest(".scroll") && (b.left < -1 || b.right > root.clientWidth + 1);
  }).map(e => e.tagName + ": " + e.textContent.trim().slice(0, 40));
  const style = getComputedStyle(page.body);
  return {page: root.scrollWidth, window: root.clientWidth, figures, clipped,
    colours: [style.color, style.backgroundColor]};
}
addEventListener("load", () => {
  document.getElementById("out").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(look));
});
"""


def measure(page, widths, folder):
    """Open a page at several widths; returns a dict for each.

    Args:
        page: the file.
        widths: in CSS pixels.
        folder: for the browser's own files.
    """
    frames = "".join(
        f'<iframe src="{page.as_uri()}" width={w} height=900 style="border:0" scrolling="no"></iframe>' for w in widths
    )
    outer = folder / "frames.html"
    outer.write_text(f'<!doctype html><meta charset="utf-8"><script>{_SCRIPT}</script>{frames}<pre id="out"></pre>')
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
               "--allow-file-access-from-files", "--disable-dev-shm-usage", "--window-size=1400,1000",
               f"--user-data-dir={folder / 'profile'}"]  # fmt: skip
    command = [CHROMIUM, *options, "--virtual-time-budget=20000", "--dump-dom", outer.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="out">(.+?)</pre>', done.stdout, re.S)
    assert found, done.stderr
    return json.loads(html.unescape(found[1]))
