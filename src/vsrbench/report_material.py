"""What a report shows that run folders do not hold: ground truth and motion from the data, films. Needs torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsrbench.errors import RunError
from vsrbench.reports.entries import Group
from vsrbench.reports.pictures import frame_files
from vsrbench.reports.shots import flow_picture
from vsrbench.reports.whole import TRUTH, Motion, Scene

if TYPE_CHECKING:
    from vsrbench.data.sources import Source

MOST = 60  # frames of a film


class Material:
    """The data that a run was judged on, as its ``config.yaml`` says. run: its folder; cache: where frames go."""

    def __init__(self, run: Path, split: str, cache: Path) -> None:
        from omegaconf import OmegaConf

        from vsrbench.config import build

        if not (run / "config.yaml").is_file():
            raise RunError(f"no {run / 'config.yaml'}: truth=DIR names the ground truth, truth=none goes without")
        cfg: Any = OmegaConf.load(run / "config.yaml")
        self.cache = cache
        self.sources: dict[str, Source] = {source.name: source for source in build(cfg.data).clips(split)}

    def truth(self, clips: Sequence[str]) -> Path | None:
        """Folder of ground truth frames, ``<clip>/<frame>.png``; None where the data have none."""
        from vsrbench.demonstration import save_truth

        sources = [self.sources[clip] for clip in clips]
        if not all(source.has_hr for source in sources):
            return None
        save_truth(sources, self.cache)
        return self.cache

    def exact_flow(self, clip: str, frame: int) -> np.ndarray | None:
        """Motion from a frame to the next, (2,H,W) in HR pixels, where the data know it (on the LR grid)."""
        source = self.sources[clip]
        found = source.read(frame, frame + 2).flow_forward
        if found is None:
            return None
        return np.asarray(found[0, 0]).repeat(source.scale, axis=1).repeat(source.scale, axis=2) * source.scale


def estimated_flow(folder: Path, frame: int) -> np.ndarray:
    """Motion from a frame of ``folder`` to the next, (2,H,W) in its pixels, by DIS."""
    import torch

    from vsrbench.evaluation.frames import read
    from vsrbench.flow.estimators import DIS

    files = frame_files(folder)[frame : frame + 2]
    a, b = (read(file)[None] / 255 for file in files)
    with torch.inference_mode():
        return np.asarray(DIS()(a, b)[0])


def films(folders: Mapping[str, Path], output: Path) -> dict[str, Path]:
    """An mp4 per label, ``<output>/<number>.mp4``; short clips are repeated so that an eye sees flicker."""
    from PIL import Image

    from vsrbench.training.media import write_video

    found = {}
    for number, (label, folder) in enumerate(folders.items()):
        files = frame_files(folder)[:MOST]
        found[label] = output / f"{number}.mp4"
        write_video(found[label], np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))
    return found


def scenes(
    group: Group, clips: Sequence[str], truth: Path | None, material: Material | None, videos: Path | None
) -> list[Scene]:
    """Some clips of a group with all that can be shown of them.

    truth: folder of ground truth frames, if there is any. material: the data, for exact motion; None without them.
    videos: where films go; None for none.
    """
    found = []
    for n, clip in enumerate(clips):
        folders = {entry.label: entry.frames(clip) for entry in group.methods}
        if truth is not None:
            folders[TRUTH] = truth / clip
        motion = _motion(material, group.clips[clip], clip, folders)
        played = films(folders, videos / str(n)) if videos is not None else {}
        found.append(Scene(clip, None if truth is None else truth / clip, motion, played))
    return found


def _motion(material: Material | None, count: int, clip: str, folders: Mapping[str, Path]) -> Motion | None:
    """Flow of the middle pair of frames: exact where the data know it, and DIS on every method's own frames."""
    frame = min(count // 2, count - 2)
    if frame < 0:
        return None
    exact = None if material is None else material.exact_flow(clip, frame)
    flows = {label: estimated_flow(folder, frame) for label, folder in folders.items()}
    guide = flows.get(TRUTH, next(iter(flows.values()))) if exact is None else exact
    longest = float(np.quantile(np.hypot(*guide), 0.99))
    maps = [(f"{label}, DIS", flow_picture(flow, longest)) for label, flow in flows.items()]
    if exact is not None:
        maps.insert(0, ("exact", flow_picture(exact, longest)))
    told = "exact flow of the data, and DIS on the frames" if exact is not None else "DIS on the frames"
    return Motion(f"{told}, frame {frame + 1} to {frame + 2}; full colour is {longest:.1f} pixels", maps)
