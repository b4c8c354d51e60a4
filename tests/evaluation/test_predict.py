"""Evaluation by several processes: the same digits as by one, nothing twice, nothing lost, and what a failure keeps."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vsrbench import eval as entry
from vsrbench.config import build, compose
from vsrbench.errors import ConfigError, RunError
from vsrbench.evaluation.predict import Others, Piece, method_facts, own_device, pieces

CLIPS = {"GT/a": 3, "GT/b": 5, "GT/c": 4, "GT/d": 2}


@pytest.fixture
def evaluated(make_tree: Any, tmp_path: Path) -> Any:
    """evaluated("name", "key=value", ...) evaluates a tiny method on four clips; gives the run folder."""
    root = make_tree(CLIPS, size=(64, 64))

    def go(name: str, *overrides: str) -> Path:
        fixed = ["data=folder", f"data.root={root}", "inference.device=cpu", "inference.chunk=2", "inference.batch=2"]
        fixed += ["size=tiny", "protocol.metrics=[psnr_y,ssim_y]"]
        entry.run(compose([*fixed, f"runs={tmp_path}", f"name={name}", *overrides], verb="eval"))
        return tmp_path / name

    return go


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As each rank has on two cores: PyTorch's sums depend on the number of threads in the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_one_two_and_three_ranks_give_the_same_digits(evaluated: Any) -> None:
    dgaf = ["method=dgaf", "method.max_context=1"]
    one, two, three = (evaluated(f"run{n}", *dgaf, f"inference.devices={n}") for n in (1, 2, 3))
    for run in (two, three):
        assert result(run)["metrics"] == result(one)["metrics"]
        assert result(run)["data"] == result(one)["data"]
        assert result(run)["cost"]["parameters"] == result(one)["cost"]["parameters"]
        timings = json.loads((run / "timings.json").read_text())["clips"]
        assert {name: timing["frames"] for name, timing in timings.items()} == {"a": 3, "b": 5, "c": 4, "d": 2}
        ours, theirs = (sorted(f.relative_to(r) for f in r.rglob("*.png")) for r in (run, one))
        assert ours == theirs
        assert all((run / file).read_bytes() == (one / file).read_bytes() for file in ours)


def test_a_clip_that_fails_is_named_and_the_others_are_kept(evaluated: Any, make_tree: Any, tmp_path: Path) -> None:
    evaluated("whole", "method=bicubic")  # makes the tree
    broken = tmp_path / "tree" / "GT" / "c" / "00000002.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:200])
    with pytest.raises(RunError, match=r"rank \d, clip c, frames .* 3 of 4 clips are complete and kept"):
        evaluated("run", "method=bicubic", "inference.devices=2", "inference.chunk=4", "inference.batch=4")
    frames = tmp_path / "run" / "frames"
    kept = {file: file.stat().st_mtime_ns for file in frames.rglob("*.png") if file.parent.name != "c"}
    assert len(kept) == 10 and not (tmp_path / "run" / "result.json").exists()
    broken.write_bytes(content)
    run = evaluated("run", "method=bicubic", "inference.devices=2", "inference.chunk=4", "inference.batch=4")
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert result(run)["metrics"] == result(tmp_path / "whole")["metrics"]


def test_clips_are_cut_where_one_process_cuts_them() -> None:
    assert pieces(3, 5, 2) == [Piece(3, 0, 2), Piece(3, 2, 4), Piece(3, 4, 5)]
    assert pieces(0, 5, None) == [Piece(0, 0, 5)]
    assert [n in Others(Piece(0, 2, 4)) for n in range(6)] == [True, True, False, False, True, True]


def test_every_rank_gets_a_gpu_of_its_own_where_there_are_any() -> None:
    assert [own_device("auto", rank, 2) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert own_device("auto", 1, 0) == own_device("cpu", 1, 4) == "cpu"
    with pytest.raises(ConfigError, match="there are 2"):
        own_device("auto", 2, 2)


def test_no_process_at_all_is_refused(evaluated: Any) -> None:
    with pytest.raises(ConfigError, match=r"inference\.devices=0"):
        evaluated("run", "method=bicubic", "inference.devices=0")


def test_clips_that_inference_would_cut_short_are_refused_before_any_work(evaluated: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is for upscale.*data\.splits\.test\.frames=2 takes the first 2"):
        evaluated("run", "method=bicubic", "inference.max_frames=2")
    assert not list((tmp_path / "run").rglob("*.png"))


def test_the_cost_counts_what_upscaling_needs() -> None:
    cfg = compose(["method=videogigagan", "size=tiny"], verb="bench")
    method = build(cfg.method)
    parameters, _, _ = method_facts(method, cfg)
    assert parameters == sum(p.numel() for p in method.generator.parameters())
    trained = build(compose(["method=videogigagan", "size=tiny"], verb="train").module, method=method)
    assert parameters < sum(p.numel() for p in trained.parameters())  # the discriminator is not needed
