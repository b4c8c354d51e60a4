"""Making a report from run folders: groups, papers' tables, crops and videos, then the page, with a bar.

Ground truth and motion come from the data that the runs name; that alone needs torch, and only when it is asked for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vsrbench.errors import RunError
from vsrbench.progress import Bars
from vsrbench.reports import charts, html, papers
from vsrbench.reports.arguments import Arguments
from vsrbench.reports.crops import flow_picture, frame_files
from vsrbench.reports.entries import Group, groups
from vsrbench.reports.formats import Table
from vsrbench.reports.html import TRUTH, Motion, Scene
from vsrbench.stored import CONFIG, read_config

if TYPE_CHECKING:
    from vsrbench.data.sources import Source


def make(arguments: Arguments, folders: Sequence[Path], output: Path, remarks: Sequence[str] = ()) -> Path:
    """Write everything below ``output``; returns the page. Only ground truth, flow and videos need torch.

    Raises RunError for folders without results, ConfigError for a table or setting that is not there.
    """
    run_groups = groups(folders)
    tables = _tables(arguments, run_groups)
    clips = arguments.number("clips", html.CLIPS)
    steps = sum(2 * min(clips, len(group.clips)) + 1 for group in run_groups)
    with Bars() as bars:
        bar = bars.row(steps, "report")
        parts, names = [], set()
        for number, group in enumerate(run_groups):
            frames = frozenset(folder for entry in group.entries for folder in entry.folders)
            scenes = [] if frames in names else _scenes(arguments, group, output, number, clips)
            bar.advance(len(scenes))
            parts.append(
                html.Part(group, scenes, _against(arguments, group), _swept(arguments, group), frames in names)
            )
            names.add(frames)
        return html.write(output, _heading(arguments, run_groups), parts, tables, remarks, bar.advance)


def _heading(arguments: Arguments, run_groups: Sequence[Group]) -> str:
    labels = dict.fromkeys(entry.label for group in run_groups for entry in group.methods)
    methods = dict.fromkeys(label.partition(" (")[0] for label in labels)
    sets = " and ".join(dict.fromkeys(str(group.result["data"]["set"]) for group in run_groups))
    names = " and ".join(methods) if 0 < len(methods) < 3 else f"{len(methods)} methods"
    settings = f", {len(labels)} settings" if len(labels) > len(methods) else ""
    return arguments.settings.get("title", f"{names} on {sets}{settings}")


def _tables(arguments: Arguments, run_groups: Sequence[Group]) -> list[Table]:
    table_name = arguments.settings.get("table", "")
    names = [place for reference in table_name.split(",") if reference for place in papers.find(reference)]
    return [papers.table(paper, table, run_groups) for paper, table in names]


def _against(arguments: Arguments, group: Group) -> str | None:
    label = arguments.settings.get("against")
    if label is not None:
        group.named(label)
    return label


def _swept(arguments: Arguments, group: Group) -> str | None:
    key = arguments.settings.get("x")
    if key is None:
        return charts.swept(group)
    if not any(charts.numeric(entry, key) for entry in group.methods):
        raise RunError(f"x={key}: no run of {group.title} states a number for it")
    return key


def _scenes(arguments: Arguments, group: Group, output: Path, number: int, clips: int) -> list[html.Scene]:
    """What is shown of a group; without ground truth (``truth=none``) nothing here needs torch.

    With ``truth=DIR`` the runs' data need not be there: motion is estimated.
    """
    truth, truth_entry = arguments.settings.get("truth"), group.truth()
    names = list(group.clips)[:clips]
    if truth == "none":
        return [html.Scene(clip) for clip in names]
    folder = Path(truth).expanduser() if truth else None
    if folder is not None and not all((folder / clip).is_dir() for clip in names):
        raise RunError(f"truth={truth} has no folder {next(c for c in names if not (folder / c).is_dir())}")
    material = None
    if folder is None:
        run = group.entries[0].folders[0]
        material = Material(run, str(group.result["data"]["split"]), output / "truth" / str(number))
        folder = truth_entry.frames("") if truth_entry is not None else material.truth(names)
    target = output / "videos" / str(number) if arguments.flag("videos", True) else None
    return scenes(group, names, folder, material, target)


MOST = 60  # frames of a video


class Material:
    """The data that a run was evaluated on, as its ``config.yaml`` says. run: its folder; cache: where frames go."""

    def __init__(self, run: Path, split: str, cache: Path) -> None:
        from vsrbench.config import build
        from vsrbench.trusted import stored_nodes

        file, remedy = run / CONFIG, "truth=DIR names the ground truth, truth=none goes without"
        if not file.is_file():
            raise RunError(f"no {file}: {remedy}")
        data = stored_nodes(read_config(file, remedy), file, ["data"]).data
        self.cache = cache
        self.sources: dict[str, Source] = {source.name: source for source in build(data).clips(split)}

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
        flow = source.read(frame, frame + 2).flow_forward
        if flow is None:
            return None
        return np.asarray(flow[0, 0]).repeat(source.scale, axis=1).repeat(source.scale, axis=2) * source.scale


def estimated_flow(folder: Path, frame: int) -> np.ndarray:
    """Motion from a frame of ``folder`` to the next, (2,H,W) in its pixels, by DIS."""
    import torch

    from vsrbench.evaluation.frames import read
    from vsrbench.flow.estimators import DIS

    files = frame_files(folder)[frame : frame + 2]
    a, b = (read(file)[None] / 255 for file in files)
    with torch.inference_mode():
        return np.asarray(DIS()(a, b)[0])


def videos(folders: Mapping[str, Path], output: Path) -> dict[str, Path]:
    """An mp4 per label, ``<output>/<number>.mp4``; short clips are repeated so that an eye sees flicker."""
    from PIL import Image

    from vsrbench.training.media import write_video

    paths = {}
    for number, (label, folder) in enumerate(folders.items()):
        files = frame_files(folder)[:MOST]
        paths[label] = output / f"{number}.mp4"
        write_video(paths[label], np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))
    return paths


def scenes(
    group: Group, clips: Sequence[str], truth: Path | None, material: Material | None, target: Path | None
) -> list[Scene]:
    """Some clips of a group with all that can be shown of them.

    truth: folder of ground truth frames, if there is any. material: the data, for exact motion; None without them.
    target: where videos go; None for none.
    """
    scenes = []
    for n, clip in enumerate(clips):
        folders = {entry.label: entry.frames(clip) for entry in group.methods}
        if truth is not None:
            folders[TRUTH] = truth / clip
        motion = _motion(material, group.clips[clip], clip, folders)
        played = videos(folders, target / str(n)) if target is not None else {}
        scenes.append(Scene(clip, None if truth is None else truth / clip, motion, played))
    return scenes


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
    source = "exact flow of the data, and DIS on the frames" if exact is not None else "DIS on the frames"
    return Motion(f"{source}, frame {frame + 1} to {frame + 2}; full colour is {longest:.1f} pixels", maps)
