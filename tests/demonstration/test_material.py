from pathlib import Path

import av
import numpy as np
import torch

from vsrbench.config import build, compose
from vsrbench.demonstration.material import RATE, facts, save_film, save_truth, there_and_back
from vsrbench.evaluation.frames import read
from vsrbench.metrics.frame import quantise


def test_there_and_back_never_jumps_and_repeats_no_frame() -> None:
    order = there_and_back(torch.arange(5), times=2).tolist()
    assert order == [0, 1, 2, 3, 4, 3, 2, 1] * 2
    assert there_and_back(torch.arange(1), times=2).tolist() == [0, 0]


def test_a_film_has_the_frames_the_rate_and_a_tone(tmp_path: Path) -> None:
    frames = torch.linspace(0, 1, 12 * 3 * 32 * 48).reshape(12, 3, 32, 48)
    save_film(tmp_path / "film.mp4", frames, compose([], "demo").video)
    found = facts(tmp_path / "film.mp4")
    assert (found["size"], found["frames"], found["rate"]) == ("48x32", "12", f"{RATE}/s")
    assert found["audio"].startswith("aac, fingerprint")
    with av.open(str(tmp_path / "film.mp4")) as file:
        picture = next(file.decode(video=0)).to_ndarray(format="rgb24")
        sound = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], axis=1)
    assert np.abs(picture / 255 - frames[0].permute(1, 2, 0).numpy()).mean() < 0.03
    assert 0.01 < np.abs(sound).max() < 0.2
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_the_fingerprint_tells_audio_apart(tmp_path: Path) -> None:
    settings = compose([], "demo").video
    save_film(tmp_path / "a.mp4", torch.zeros(12, 3, 32, 48), settings)
    save_film(tmp_path / "b.mp4", torch.ones(12, 3, 32, 48), settings)
    save_film(tmp_path / "c.mp4", torch.zeros(24, 3, 32, 48), settings)
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
