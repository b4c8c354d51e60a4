import shlex
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from vsrbench.config import build, compose
from vsrbench.demonstration import RATE, Steps, check_arguments, facts, save_truth, save_video, there_and_back
from vsrbench.errors import ConfigError
from vsrbench.evaluation.frames import read
from vsrbench.metrics.frame import quantise


def steps(calls: list[Any], *overrides: str) -> Steps:
    def note(cfg: Any) -> str:
        calls.append(cfg)
        return "what it made"

    return Steps(compose(list(overrides), "demo"), {"eval": note}, Path("/tmp/some where"), total=2)


def test_a_step_composes_with_the_demos_settings_and_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Any] = []
    made = steps(calls, "size=tiny", "seed=7", "inference.device=cpu").do("evaluate it", "eval", ["method=bicubic"])
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
    assert "1/2 evaluate it" in capsys.readouterr().out


def test_the_command_shown_is_the_command_run() -> None:
    calls: list[Any] = []
    walked = steps(calls, "seed=7")
    walked.do("evaluate it", "eval", ["method=ldm"])
    [(what, line)] = walked.commands
    assert what == "evaluate it"
    python, flag, module, *arguments = shlex.split(line)
    assert (python, flag, module) == ("python", "-m", "vsrbench.eval")
    assert compose(arguments, "eval") == calls[0]


def test_a_skipped_step_is_remembered_but_not_run() -> None:
    calls: list[Any] = []
    walked = steps(calls)
    assert walked.do("evaluate it", "eval", ["method=bicubic"], skip=True) is None
    assert calls == [] and len(walked.commands) == 1


def test_settings_that_no_step_would_see_are_refused() -> None:
    check_arguments(["runs=x", "size=tiny", "seed=3", "force=true", "verb=demo"])
    with pytest.raises(ConfigError, match=r"no setting method=bicubic: it takes size, seed"):
        check_arguments(["runs=x", "method=bicubic"])


def test_there_and_back_never_jumps_and_repeats_no_frame() -> None:
    order = there_and_back(torch.arange(5), times=2).tolist()
    assert order == [0, 1, 2, 3, 4, 3, 2, 1] * 2
    assert there_and_back(torch.arange(1), times=2).tolist() == [0, 0]


def test_a_video_has_the_frames_the_rate_and_a_tone(tmp_path: Path) -> None:
    frames = torch.linspace(0, 1, 12 * 3 * 32 * 48).reshape(12, 3, 32, 48)
    save_video(tmp_path / "video.mp4", frames, compose([], "demo").video)
    found = facts(tmp_path / "video.mp4")
    assert (found["size"], found["frames"], found["rate"]) == ("48x32", "12", f"{RATE}/s")
    assert found["audio"].startswith("aac, fingerprint")
    with av.open(str(tmp_path / "video.mp4")) as file:
        picture = next(file.decode(video=0)).to_ndarray(format="rgb24")
        sound = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], axis=1)
    assert np.abs(picture / 255 - frames[0].permute(1, 2, 0).numpy()).mean() < 0.03
    assert 0.01 < np.abs(sound).max() < 0.2
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]


def test_the_fingerprint_tells_audio_apart(tmp_path: Path) -> None:
    settings = compose([], "demo").video
    save_video(tmp_path / "a.mp4", torch.zeros(12, 3, 32, 48), settings)
    save_video(tmp_path / "b.mp4", torch.ones(12, 3, 32, 48), settings)
    save_video(tmp_path / "c.mp4", torch.zeros(24, 3, 32, 48), settings)
    a, b, c = (facts(tmp_path / f"{name}.mp4")["audio"] for name in "abc")
    assert a == b != c


def test_the_truth_is_saved_as_it_is_scored(tmp_path: Path) -> None:
    sources = build(compose(["data.splits.test.clips=1", "data.splits.test.frames=2"]).data).clips("test")
    save_truth(sources, tmp_path)
    files = sorted(tmp_path.rglob("*.png"))
    frames = sources[0].read(0, 2).hr
    assert [f.relative_to(tmp_path).as_posix() for f in files] == [
        f"{sources[0].name}/{stem}.png" for stem in sources[0].frame_names
    ]
    assert all(torch.equal(read(f), quantise(hr)) for f, hr in zip(files, frames[0], strict=True))
    before = [f.stat().st_mtime_ns for f in files]
    save_truth(sources, tmp_path)
    assert [f.stat().st_mtime_ns for f in files] == before
