"""Data without ground truth from the configuration to result.json: VideoLQ in small."""

import json

import pytest

from vsrbench import eval as entry
from vsrbench.config import compose


@pytest.fixture
def result(make_tree, tmp_path):
    """result(*overrides): of `eval method=bicubic data=videolq` on two short clips of different sizes."""
    root = make_tree({"000": 52}, size=(8, 12))
    make_tree({"001": 2}, size=(12, 8))

    def run(*overrides: str) -> dict:
        fixed = [f"runs={tmp_path / 'runs'}", "name=x", "inference.device=cpu", f"data.root={root}"]
        entry.run(compose(["method=bicubic", "data=videolq", *fixed, *overrides], verb="eval"))
        return json.loads((tmp_path / "runs/x/result.json").read_text())

    return run


@pytest.mark.parametrize(("frames", "counts"), [("convention", [2, 1]), ("all", [52, 2])])
def test_full_reference_metrics_do_not_apply(result, tmp_path, capsys, frames: str, counts: list[int]) -> None:
    """RealBasicVSR's frames 0, 50 and 99 are the convention: a clip of 52 frames has two of them."""
    found = result(f"protocol.frames={frames}")
    for name in ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y", "sharpness", "consistency"):
        metric = found["metrics"][name]
        assert metric["mean"] == "not_applicable"
        if name != "consistency":
            assert [metric["clips"][c]["frames"] for c in ("000", "001")] == [["not_applicable"] * n for n in counts]
    assert found["data"]["clips"] == {"000": 52, "001": 2} and not found["data"]["short"]
    assert len(found["data"]["absent"]) == 48 and found["partial"]
    assert (tmp_path / "runs/x/frames/000/00000051.png").is_file()
    assert "000" in capsys.readouterr().out
