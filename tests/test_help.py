"""Help, lists and completion: short, whole, and true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vsrbench import __version__, completion
from vsrbench import help as texts
from vsrbench.command_line import home
from vsrbench.errors import ConfigError
from vsrbench.schema.verbs import VERBS


def vsrbench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vsrbench", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", VERBS)
def test_the_usual_settings_fit_a_screen(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = texts.page(verb).splitlines()
    assert len(lines) < 80
    assert max(len(line) for line in lines) <= 100


@pytest.mark.parametrize("verb", VERBS)
def test_every_usual_setting_has_a_meaning_and_its_default(verb: str) -> None:
    text = texts.page(verb).partition("\nChoices")[2].partition("\n\n")[2]
    rows = re.findall(r"^  ([\w.]+)=(\S*)(?: +(\S.*))?\n(?= {34}(\S.*))?", text, re.MULTILINE)
    assert rows
    assert [key for key, _, here, below in rows if not here and not below] == []


def test_all_settings_are_shown_on_request() -> None:
    short, whole = texts.page("train"), texts.page("train", everything=True)
    assert "trainer.sync_batchnorm" in whole and "trainer.sync_batchnorm" not in short
    assert "method.rescale_mode=nearest" in whole


def test_defaults_are_those_of_the_command_that_was_typed() -> None:
    assert "sampler.steps=50" in texts.page("upscale", ["method=dgaf", "size=paper"])


@pytest.mark.parametrize("verb", ["upscale", "train"])
def test_help_is_asked_for_in_the_usual_ways(verb: str) -> None:
    page = vsrbench("help", verb)
    assert page.returncode == 0 and page.stdout == vsrbench(verb, "--help").stdout == vsrbench(verb, "-h").stdout


def test_the_overview_names_every_verb() -> None:
    text = vsrbench().stdout
    assert text == vsrbench("help").stdout == vsrbench("--help").stdout
    assert all(f"\n  {verb} " in text for verb in (*texts.VERBS, *texts.OTHERS))


def test_version() -> None:
    assert vsrbench("--version").stdout == f"vsrbench {__version__}\n"


def test_a_mistyped_verb_is_answered_with_the_nearest() -> None:
    said = vsrbench("upscal", "a", "b")
    assert said.returncode == 2 and "unknown verb 'upscal': did you mean upscale?" in said.stderr
    assert "did you mean" not in vsrbench("qqqq").stderr


@pytest.mark.parametrize("verb", texts.NEEDS)
def test_a_bare_verb_says_what_it_needs(verb: str) -> None:
    said = vsrbench(verb)
    assert said.returncode == 2 and said.stdout == ""
    first, example, last = said.stderr.splitlines()
    assert first.startswith(f"error: {verb} needs ") and example.startswith(f"  vsrbench {verb} ") and "--help" in last


@pytest.mark.parametrize("what", ["methods", "data", "experiments", "protocols", "metrics"])
def test_lists_have_a_line_for_each_name(what: str) -> None:
    text = texts.listing(what)
    names = re.findall(r"^  (\S+)(?: +(\S.*))?\n(?: {24}(\S.*))?", text + "\n", re.MULTILINE)
    assert len(names) > 4 and all(here or below for _, here, below in names)
    assert max(len(line) for line in text.splitlines()) <= 100


def test_another_list_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="list needs one of methods, data"):
        texts.listing("nothing")
    assert vsrbench("list").returncode == 2


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("vsrbench up", {"upscale"}),
        ("vsrbench list me", {"methods", "metrics"}),
        ("vsrbench train meth", {"method="}),
        ("vsrbench train method=d", {"method=dgaf"}),
        ("vsrbench train method=dgaf data=v", {"data=vid4", "data=video", "data=videolq", "data=vimeo"}),
        ("vsrbench train logger=[csv,w", {"logger=[csv,wandb"}),
        ("vsrbench upscale a.mp4 b.mp4 inference.ti", {"inference.tile="}),
        ("vsrbench eval method=dgaf method.resc", {"method.rescale=", "method.rescale_mode="}),
        ("vsrbench eval experiments=dgaf/t3_case2", {"experiments=dgaf/t3_case2"}),
        ("vsrbench eval data=reds data.ro", {"data.root="}),
        ("vsrbench train trainer.max_s", {"trainer.max_steps="}),
    ],
)
def test_words_that_a_line_may_go_on_with(line: str, some: set[str]) -> None:
    assert set(completion.words(line)) == some


def test_what_a_command_does_not_read_is_not_offered() -> None:
    assert completion.words("vsrbench upscale a b trainer.max") == []


def test_completion_in_a_real_bash(tmp_path: Path) -> None:
    """As bash calls it: the function is registered, and gives what belongs behind the last word break."""
    (tmp_path / "vsrbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vsrbench "$@"\n')
    (tmp_path / "vsrbench").chmod(0o755)
    line = "vsrbench train method=dg"
    code = f"""
source <(vsrbench completion bash)
complete -p vsrbench
COMP_LINE="{line}" COMP_POINT={len(line)} COMP_WORDS=(vsrbench train method = dg) COMP_CWORD=4
_vsrbench 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.splitlines() == ["complete -o default -F _vsrbench vsrbench", "dgaf"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_says_how_to_install_it(shell: str) -> None:
    assert "Install: " in completion.script(shell) or "source <(" in completion.script(shell)
    with pytest.raises(ConfigError, match="vsrbench completion bash"):
        completion.script("tcsh")


def test_completion_loads_nothing_heavy() -> None:
    heavy = "torch", "pytorch_lightning", "hydra", "omegaconf", "diffusers"
    code = (
        "import sys; from vsrbench import completion; completion.words('vsrbench train method=d'); "
        f"print(*(set(sys.modules) & set({heavy!r})))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""


# --- settings of a method ------------------------------------------------------------------------

METHODS = texts.options("method")


@pytest.mark.parametrize("verb", ["upscale", "eval", "train", "bench"])
@pytest.mark.parametrize("method", METHODS)
def test_settings_of_the_chosen_method_are_among_the_usual_ones(
    verb: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = texts.page(verb, [f"method={method}"])
    assert len(page.splitlines()) < 80 and max(len(line) for line in page.splitlines()) <= 100
    text = (home() / "conf" / "method" / f"{method}.yaml").read_text()
    own = re.findall(r"^  (\w+): (?!\$\{)", text.partition("\nmethod:")[2].partition("\nsupports:")[0], re.MULTILINE)
    shown = [key for key in own if f"\n  method.{key}=" in page]
    assert len(shown) >= min(len(set(own) - {"name", "_target_"}), texts.MOST) - 1
    assert ("\n  module." in page) is (verb == "train" and (home() / "conf" / "training" / f"{method}.yaml").is_file())


def test_a_narrow_terminal_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    for width in (80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        pages.append(texts.page("train", ["method=dgaf"]))
        assert max(len(line) for line in pages[-1].splitlines() if "=" not in line) <= min(width, 100)
    assert len({tuple(re.findall(r"^  ([\w.]+)=", page, re.MULTILINE)) for page in pages}) == 1


def test_settings_of_no_method_are_shown_before_one_is_chosen() -> None:
    page = texts.page("upscale")
    assert "method.align" not in page and "method=NAME --help" in page
    assert "method.align=exact" in texts.page("upscale", ["experiment=dgaf/t3_case2"])


def test_a_method_with_many_settings_says_that_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST", 3)
    page = texts.page("upscale", ["method=dgaf"])
    assert "method.align=exact" in page and "method.pick" not in page and " more: --help all" in page


def test_comments_belong_to_settings_by_their_full_names() -> None:
    text = "method:\n  a: 1  # first\n  b:  # group\n    a: [2]  # second\n  # b.c: third\nc: {d: 4}  # fourth\n"
    assert dict(texts.commented(text)) == {
        "method.a": "first", "method.b": "group", "method.b.a": "second", "b.c": "third", "c": "fourth"
    }  # fmt: skip
    assert "method.upscaler.heads=4         attention heads\n" in texts.page("eval", ["method=sateco"], everything=True)
