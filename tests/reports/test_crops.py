from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsrbench.errors import RunError
from vsrbench.reports.crops import flow_picture, make_crops

CLIP = "coffee"


@pytest.fixture
def folders(make_run, truth: Path) -> dict[str, Path]:
    values = {"psnr_y": 26.0}
    runs = {"blurred": make_run("a", values), "equal": make_run("b", values, blur=False)}
    return {**{label: run / "frames" / CLIP for label, run in runs.items()}, "truth": truth / CLIP}


def test_the_same_place_for_all_methods(folders: dict[str, Path]) -> None:
    found = make_crops(CLIP, folders, "truth")
    views = {view.label: view for view in found.views}
    assert found.frames == 5 and found.middle == 2
    assert np.array_equal(views["equal"].crop, views["truth"].crop)
    assert np.array_equal(views["equal"].profile, views["truth"].profile)
    assert not np.array_equal(views["blurred"].crop, views["truth"].crop)
    assert views["truth"].strip.shape == (2 * 64, 5 * 128 + 4 * 4, 3)


def test_equal_frames_have_a_black_error_map(folders: dict[str, Path]) -> None:
    views = {view.label: view for view in make_crops(CLIP, folders, "truth").views}
    assert views["truth"].error is None
    assert len(np.unique(views["equal"].error.reshape(-1, 3), axis=0)) == 1
    assert views["equal"].error.max() < 8 < views["blurred"].error.max()


def test_without_truth_there_are_no_errors(folders: dict[str, Path]) -> None:
    del folders["truth"]
    assert all(view.error is None for view in make_crops(CLIP, folders, None).views)


def test_frames_that_do_not_fit_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(folders["blurred"] / "00000002.png")
    with pytest.raises(RunError, match=r"00000002\.png is 8x8, others 96x72"):
        make_crops(CLIP, folders, "truth")
    (folders["blurred"] / "00000002.png").unlink()
    with pytest.raises(RunError, match=r"methods have \[4, 5\] frames"):
        make_crops(CLIP, folders, "truth")
    with pytest.raises(RunError, match="no frames in"):
        make_crops(CLIP, {"nothing": tmp_path / "nothing"}, None)


def test_flow_colours() -> None:
    flow = np.zeros((2, 1, 3))
    flow[0, 0, 1], flow[0, 0, 2] = 2.0, -2.0
    still, right, left = flow_picture(flow, 2.0)[0]
    assert tuple(still) == (255, 255, 255) and tuple(right) == (255, 0, 0) and tuple(left) == (0, 255, 255)
