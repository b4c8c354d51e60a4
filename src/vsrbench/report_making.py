"""Making a report from run folders: groups, papers' tables, pictures and films, then the page, with a bar."""

from collections.abc import Sequence
from pathlib import Path

from vsrbench.errors import RunError
from vsrbench.progress import Bars
from vsrbench.reports import papers, planes, whole
from vsrbench.reports.asked import Asked
from vsrbench.reports.entries import Group, groups
from vsrbench.reports.tables import Table


def make(asked: Asked, folders: Sequence[Path], output: Path, remarks: Sequence[str] = ()) -> Path:
    """Write everything below ``output``; returns the page. Only ground truth, flow and films need torch.

    Raises RunError for folders without results, ConfigError for a table or setting that is not there.
    """
    found = groups(folders)
    tables = _tables(asked, found)
    clips = asked.number("clips", whole.CLIPS)
    steps = sum(2 * min(clips, len(group.clips)) + 1 for group in found)
    with Bars() as bars:
        bar = bars.row(steps, "report")
        parts, shown = [], set()
        for number, group in enumerate(found):
            frames = frozenset(folder for entry in group.entries for folder in entry.folders)
            scenes = [] if frames in shown else _scenes(asked, group, output, number, clips)
            bar.advance(len(scenes))
            parts.append(whole.Part(group, scenes, _against(asked, group), _swept(asked, group), frames in shown))
            shown.add(frames)
        return whole.write(output, _heading(asked, found), parts, tables, remarks, bar.advance)


def _heading(asked: Asked, found: Sequence[Group]) -> str:
    labels = dict.fromkeys(entry.label for group in found for entry in group.methods)
    methods = dict.fromkeys(label.partition(" (")[0] for label in labels)
    sets = " and ".join(dict.fromkeys(str(group.result["data"]["set"]) for group in found))
    names = " and ".join(methods) if 0 < len(methods) < 3 else f"{len(methods)} methods"
    settings = f", {len(labels)} settings" if len(labels) > len(methods) else ""
    return asked.settings.get("title", f"{names} on {sets}{settings}")


def _tables(asked: Asked, found: Sequence[Group]) -> list[Table]:
    wanted = asked.settings.get("table", "")
    names = [place for reference in wanted.split(",") if reference for place in papers.find(reference)]
    return [papers.table(paper, table, found) for paper, table in names]


def _against(asked: Asked, group: Group) -> str | None:
    label = asked.settings.get("against")
    if label is not None:
        group.named(label)
    return label


def _swept(asked: Asked, group: Group) -> str | None:
    key = asked.settings.get("x")
    if key is None:
        return planes.swept(group)
    if not any(planes.numeric(entry, key) for entry in group.methods):
        raise RunError(f"x={key}: no run of {group.title} states a number for it")
    return key


def _scenes(asked: Asked, group: Group, output: Path, number: int, clips: int) -> list[whole.Scene]:
    """What is shown of a group; without ground truth (``truth=none``) nothing here needs torch.

    With ``truth=DIR`` the runs' data need not be there: motion is estimated.
    """
    truth, judged = asked.settings.get("truth"), group.truth()
    names = list(group.clips)[:clips]
    if truth == "none":
        return [whole.Scene(clip) for clip in names]
    folder = Path(truth).expanduser() if truth else None
    if folder is not None and not all((folder / clip).is_dir() for clip in names):
        raise RunError(f"truth={truth} has no folder {next(c for c in names if not (folder / c).is_dir())}")
    from vsrbench.report_material import Material, scenes

    material = None
    if folder is None:
        run = group.entries[0].folders[0]
        material = Material(run, str(group.result["data"]["split"]), output / "truth" / str(number))
        folder = judged.frames("") if judged is not None else material.truth(names)
    films = output / "videos" / str(number) if asked.flag("films", True) else None
    return scenes(group, names, folder, material, films)
