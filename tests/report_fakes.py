"""Made-up finished runs: small frames and a result.json for each method."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from vsrbench.evaluation.results import KEYS, SCHEMA

CLIPS = {"coffee": 5, "rocket": 4}
SIZE = (72, 96)


def scene(clip: str, frames: int) -> np.ndarray:
    """A moving texture, (T,H,W,3) uint8: squares in the right half, a slope in the left."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    found = []
    for t in range(frames):
        squares = ((x + t) // 3 + y // 3) % 2 * 200 * (x > 48)
        found.append(np.stack([squares + 20, x + y, np.full_like(x, 30 * len(clip) % 255)], -1))
    return np.stack(found).astype(np.uint8)


def blurred(frames: np.ndarray) -> np.ndarray:
    mean = (frames.astype(float) + np.roll(frames, 1, 1) + np.roll(frames, 1, 2) + np.roll(frames, (1, 1), (1, 2))) / 4
    return mean.astype(np.uint8)


def save(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{n:08d}.png")


def make_result(method: str, values: dict[str, object], seconds: float, clips: Mapping[str, int]) -> dict:
    """A result of ``eval`` in which each metric has the same value in every clip, or {clip: value}."""
    metrics = {}
    for name, value in values.items():
        per_clip = value if isinstance(value, dict) and "unavailable" not in value else dict.fromkeys(clips, value)
        numbers = [v for v in per_clip.values() if isinstance(v, float)]
        metrics[name] = {
            "mean": sum(numbers) / len(numbers) if numbers else value,
            "clips": {clip: {"mean": v, "frames": [v] * clips[clip]} for clip, v in per_clip.items()},
        }
    switches = {"scale": 4, "split": "test"}
    flow = dict.fromkeys(clips, "exact")
    content = {
        "schema": SCHEMA,
        "method": method,
        "size": "mini",
        "variant": "paper",
        "protocol": {
            "id": "vsrbench",
            "hash": "0123456789abcdef",
            "conformance": "no_published_row",
            "comparison": {"verdict": "no_published_row", "why": "made up", "published": None, "row": None},
            "switches": switches,
            "flow": flow,
        },
        "data": {"set": "sample", "split": "test", "clips": dict(clips), "absent": [], "short": {}},
        "partial": False,
        "metrics": metrics,
        "cost": {"parameters": 1234567, "seconds_per_frame": seconds, "device": "cpu"},
        "warnings": [],
        "provenance": {
            "vsrbench": "0.1.0",
            "commit": "abc123",
            "python": "3.11",
            "packages": {"torch": "2"},
            "device": "cpu",
            "seed": 1,
        },
    }
    return {key: content.get(key) for key in KEYS}


def change(folder: Path, **parts: object) -> Path:
    """Parts of a run's result.json replaced; dictionaries are merged."""
    file = folder / "result.json"
    result = json.loads(file.read_text())
    for key, value in parts.items():
        result[key] = {**result[key], **value} if isinstance(value, dict) and result.get(key) else value
    file.write_text(json.dumps(result))
    return folder


def write_truth(folder: Path) -> Path:
    """Ground truth frames of all clips in ``folder/truth``."""
    for clip, frames in CLIPS.items():
        save(folder / "truth" / clip, scene(clip, frames))
    return folder / "truth"


def write_run(
    parent: Path,
    name: str,
    values: dict[str, object],
    blur: bool = True,
    seconds: float = 0.5,
    settings: dict[str, object] | None = None,
    clips: Mapping[str, int] = CLIPS,
    **changes: object,
) -> Path:
    """A finished evaluation in ``parent/name``. changes: parts of its result.json."""
    folder = parent / name
    for clip, frames in clips.items():
        save(folder / "frames" / clip, blurred(scene(clip, frames)) if blur else scene(clip, frames))
    (folder / "result.json").write_text(json.dumps(make_result(name, values, seconds, clips)))
    if settings is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump({"verb": "eval", **settings}))
    return change(folder, **changes)
