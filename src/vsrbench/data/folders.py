"""A user's own frames and video files."""

from pathlib import Path
from typing import Any

from vsrbench.data.catalog import Catalog, Settings, chosen
from vsrbench.data.readers import SUFFIXES, FrameFiles, list_frames, unread
from vsrbench.data.sources import FolderSource, Source
from vsrbench.errors import DataError

HR_FOLDERS = ("GT", "HR", "ground_truth", "truth", "original", "target", "sharp")
# Subfolders with LR frames, by the kind of degradation that they must come from; ``ANY_LR`` say nothing: trusted.
LR_FOLDERS = {
    "bicubic": ("BIx{scale}", "X{scale}", "LRx{scale}", "matlabLRx{scale}", "bicubic"),
    "blur_down_basicvsr": ("BDx{scale}", "BDLRx{scale}"),
    "blur_down_duf": ("blur{scale}",),
    "real": (),
}
ANY_LR = ("LR", "LQ", "input", "low")


def folder(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    """``root`` with subfolders of HR and LR frames (``HR_FOLDERS``, ``LR_FOLDERS``), or frames of one ``role`` only.

    Case does not matter. Raises DataError for a folder of smaller pictures of the same names that is not read.

    Below each of these lie clips (one folder of frames each) or the frames of a single clip. 16-bit PNG is
    rounded to 8 bits.
    """
    root, pairing = Path(settings.folder), settings.pairing
    if not root.is_dir():
        raise DataError(f"no folder {root}: set data.root to a folder of frames or of clips")
    hr = _first(root, *HR_FOLDERS)
    kinds = (name.format(scale=pairing.scale) for name in LR_FOLDERS[pairing.degradation.kind])
    lr = _first(root, *(ANY_LR if hr else ANY_LR[:1]), *kinds)
    if hr is None and lr is None:
        hr, lr = (root, None) if settings.role == "hr" else (None, root)
    if settings.lr == "made":
        lr = None
    if (hr is None and lr is None) or (lr is None and settings.lr == "disk"):
        raise DataError(f"data.lr={settings.lr} does not fit {root}: it has {'no LR' if hr else 'no HR'} frames")
    base = hr or lr
    assert base is not None
    names = chosen(clips_in(base, root.resolve().name), partition, str(base))[:limit]
    if hr and hr != root and not lr and settings.lr == "auto" and names:
        _refuse_unread(hr, names[0], pairing.degradation.kind)
    return Catalog([_clip(settings, name, hr, lr) for name in names])


def _first(root: Path, *names: str) -> Path | None:
    """The folder with the first of these names that is there, whatever its case. Raises DataError for two spellings."""
    folders: dict[str, list[Path]] = {}
    for entry in sorted(root.iterdir()):
        if entry.is_dir():
            folders.setdefault(entry.name.casefold(), []).append(entry)
    same = next((folders[name.casefold()] for name in names if name.casefold() in folders), [])
    if len(same) > 1:
        raise DataError(f"{same[0]} and {same[1]} are one name in two spellings: move one of them elsewhere")
    return same[0] if same else None


def _refuse_unread(hr: Path, name: str, kind: str) -> None:
    """LR is about to be made beside a folder that may be it."""
    clip = hr / name if (hr / name).is_dir() else hr
    if other := unread(clip, clip.name if clip != hr else ""):
        raise DataError(
            f"{other} holds smaller pictures of the same names as {clip} and is not read: choose the degradation that "
            f"made them, call the folder LR if it was {kind}, or set data.lr=made to make LR from HR"
        )


def clips_in(base: Path, own_name: str) -> list[str]:
    """Names of the clips below a folder; ``own_name`` where it holds the frames of a single clip itself."""
    entries = [p for p in sorted(base.iterdir()) if not p.name.startswith(".")]
    folders = [p.name for p in entries if p.is_dir()]
    frames = [p.name for p in entries if p.suffix.lower() in SUFFIXES]
    if frames and folders:
        raise DataError(f"{base} holds frames ({frames[0]}) and folders ({folders[0]}): keep one kind there")
    if not frames and not folders:
        raise DataError(f"{base} holds neither frames nor clips: expected {base}/CLIP/00000000.png")
    return folders or [own_name]


def _clip(settings: Settings, name: str, hr: Path | None, lr: Path | None) -> Source:
    def listed(base: Path | None) -> FrameFiles | None:
        if base is None:
            return None
        single = not any(p.is_dir() for p in base.iterdir())
        return list_frames(base if single else base / name, deep=True)

    return FolderSource(name, settings.pairing, listed(hr), listed(lr))


def video(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    """One video file, ``root``, as a clip."""
    from vsrbench.data.video import VideoSource

    source = VideoSource(Path(settings.folder), settings.pairing, settings.role)
    chosen([source.name], partition, str(settings.folder))
    return Catalog([source])
