"""HTML pages read by a strict parser, and in a real headless browser: pictures, and how wide their content is."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

PLACES = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
ASK = """<script>addEventListener("load", () => setTimeout(() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > wide + 1
    && !e.closest(".wide") && !e.closest("svg"));
  const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
  parent.postMessage(`width=${document.documentElement.scrollWidth} view=${wide} broken=${broken} ` +
    `outside=${out.slice(0, 5).map(e => e.tagName + "." + e.className)}`, "*");
}, 50));</script></body>"""
FRAME = """<!doctype html><pre id="told"></pre>
<iframe width="{width}" height="900" style="border:0" src="{page}"></iframe>
<script>onmessage = e => {{ document.getElementById("told").textContent = e.data; }};</script>"""


VOID = {"meta", "img", "line", "polyline", "br"}


class Tree(HTMLParser):
    """Collects tags, attributes and text; complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def chromium() -> str:
    """The browser's path; skips the test where there is none."""
    found = next((path for place in PLACES if (path := shutil.which(place))), None)
    if found is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    return found


def call(arguments: list[str], folder: Path) -> str:
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    told = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=600)
    return told.stdout


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """A picture of the top of a page. The browser's windows are at least 500 pixels wide."""
    call([f"--screenshot={picture}", f"--window-size={width},{height}", page.as_uri()], picture.parent)


def measured(page: Path, width: int, folder: Path) -> dict[str, str]:
    """At a width in pixels: content's ``width``, ``view``, number of ``broken`` pictures, elements ``outside``."""
    copy, frame = page.with_name("measured.html"), page.with_name("frame.html")
    copy.write_text(page.read_text().replace("</body>", ASK))
    frame.write_text(FRAME.format(width=width, page=copy.name))
    text = call(["--virtual-time-budget=4000", "--dump-dom", frame.as_uri()], folder)
    told = re.search(r'<pre id="told">(.*?)</pre>', text, re.DOTALL)
    assert told and told.group(1), "the page did not answer"
    return dict(part.split("=", 1) for part in told.group(1).split(" ", 3))
