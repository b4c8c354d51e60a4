import shlex
from pathlib import Path
from typing import Any

import pytest

from vsrbench.config import compose
from vsrbench.demonstration.steps import Steps, check_arguments
from vsrbench.errors import ConfigError


def steps(calls: list[Any], *overrides: str) -> Steps:
    def note(cfg: Any) -> str:
        calls.append(cfg)
        return "what it made"

    return Steps(compose(list(overrides), "demo"), {"eval": note}, Path("/tmp/some where"), total=2)


def test_a_step_composes_with_the_demos_settings_and_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Any] = []
    made = steps(calls, "size=tiny", "seed=7", "inference.device=cpu").do("judge it", "eval", ["method=bicubic"])
    [cfg] = calls
    assert made == "what it made"
    assert (cfg.method.name, cfg.size, cfg.seed, cfg.inference.device, cfg.verb) == (
        "bicubic",
        "tiny",
        7,
        "cpu",
        "eval",
    )
    assert cfg.runs == "/tmp/some where"
    assert "1/2 judge it" in capsys.readouterr().out


def test_the_command_shown_is_the_command_run() -> None:
    calls: list[Any] = []
    walked = steps(calls, "seed=7")
    walked.do("judge it", "eval", ["method=ldm"])
    [(what, line)] = walked.commands
    assert what == "judge it"
    python, flag, module, *arguments = shlex.split(line)
    assert (python, flag, module) == ("python", "-m", "vsrbench.eval")
    assert compose(arguments, "eval") == calls[0]


def test_a_skipped_step_is_remembered_but_not_run() -> None:
    calls: list[Any] = []
    walked = steps(calls)
    assert walked.do("judge it", "eval", ["method=bicubic"], skip=True) is None
    assert calls == [] and len(walked.commands) == 1


def test_settings_that_no_step_would_see_are_refused() -> None:
    check_arguments(["runs=x", "size=tiny", "seed=3", "force=true", "verb=demo"])
    with pytest.raises(ConfigError, match=r"no setting method=bicubic: it takes size, seed"):
        check_arguments(["runs=x", "method=bicubic"])
