"""README.md, CONTRIBUTING.md and docs/: every command composes, every link and every named file is there."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from vsrbench.__main__ import answer
from vsrbench.config import compose, expand_arguments
from vsrbench.help import OTHERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))) if p.is_file()
]
COMMAND = re.compile(r"(?:\.venv/bin/)?(?:python -m vsrbench\.|vsrbench )(\w[\w-]*)\b(.*)")
# what a page writes for a choice of the reader's
CHOICES = {"METHOD": "dgaf", "M": "dgaf", "SIZE": "mini", "ROW": "hf", "NAME": "reds"}
OWN_PARSER = ("report", "smoke_test", "conformance")  # commands that compose no configuration of their own
TASKS = {"check", "pack", "verify", "list", "export"}


def commands(text: str) -> list[str]:
    """Commands of a page, continued lines joined: of code blocks, and those in backticks that stand for themselves."""
    text = re.sub(r" *\\\n *", " ", text)
    spans = [
        span.replace("\n", " ")
        for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.S))
    ]
    blocks = [line for block in re.findall(r"```\w*\n(.*?)```", text, re.S) for line in block.splitlines()]
    blocks += re.findall(r"^    (\S.*)$", text, re.M)
    lines = [line.strip().removeprefix("$ ") for line in (*blocks, *spans)]
    return [line for line in lines if COMMAND.match(line) and not re.search(r"VERB|SETTING|…|\.\.\.|=A\|", line)]


def overrides(line: str) -> tuple[str, list[str]]:
    """The verb, and a single run's overrides: the first value of each list of a sweep."""
    match = COMMAND.match(line)
    assert match is not None
    words = shlex.split(re.sub(r"\s+#.*", "", match[2]))
    sweep = "-m" in words or match[1] == "compare"
    chosen = []
    for word in (word for word in words if word != "-m" and word != "--help"):
        key, equals, value = word.partition("=")
        if re.search(r"\b(interval|choice|range|tag)\(", value) or key == "sweeper" or key.startswith("sweeper."):
            continue
        value = CHOICES.get(value, value)
        if sweep and equals and not value.startswith(("[", "'", '"')):
            value = value.partition(",")[0]
        value = value.partition("|")[0] if equals else value
        chosen.append(f"{key}{equals}{value}")
    return match[1], chosen


CASES = {(page.name, line): None for page in PAGES for line in commands(page.read_text())}


@cache
def composed(verb: str, arguments: tuple[str, ...]) -> None:
    given = expand_arguments(list(arguments), verb)
    compose([re.sub(r"^(experiments=[^,]*),.*", r"\1", word) for word in given], verb)


@pytest.mark.parametrize(("page", "line"), CASES, ids=[f"{page}: {line[:80]}" for page, line in CASES])
def test_a_command_composes(page: str, line: str) -> None:
    verb, arguments = overrides(line)
    if verb in OTHERS:
        assert answer(verb, arguments)
        return
    if verb in OWN_PARSER:
        assert all(f"{word.partition('=')[0]}=" in usage() for word in arguments if "=" in word and verb == "report")
        return
    composed(verb, tuple(arguments))


@cache
def usage() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vsrbench", "report", "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Paths from the top of the checkout, and source files below ``src/vsrbench`` (``./``: the method's own folder)."""
    text, package = page.read_text(), ROOT / "src" / "vsrbench"
    named = [ROOT / path for path in re.findall(r"`((?:src|tests|conf|experiments)/[\w./-]+)`", text)]
    for path in re.findall(r"`(\.?[\w/]+\.py)`", text):
        own = [package / "methods" / page.stem / path, package / "methods" / page.stem / Path(path).name]
        places = own if path.startswith("./") else [package / path, ROOT / path, package / page.stem / path, *own]
        named.append(next((place for place in places if place.exists()), places[0]))
    assert [str(path) for path in named if not path.exists() and not path.with_name(f"{path.name}.yaml").exists()] == []
