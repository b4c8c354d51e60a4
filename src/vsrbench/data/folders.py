"""A user's own frames and video files."""

from pathlib import Path
from typing import Any

from vsrbench.data.catalog import Catalog, Settings, chosen
from vsrbench.data.readers import SUFFIXES, FrameFiles, list_frames
from vsrbench.data.sources import FolderSource, Source
from vsrbench.errors import DataError

# Subfolders with LR frames, by the kind of degradation that they must come from. ``LR`` says nothing: trusted.
LR_FOLDERS = {
    "bicubic": ("LR", "BIx{scale}", "X{scale}"),
    "blur_down_basicvsr": ("LR", "BDx{scale}"),
    "blur_down_duf": ("LR", "blur{scale}"),
    "real": ("LR",),
}


def folder(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    """``root`` with subfolders GT or HR and LR (``LR_FOLDERS``), or with frames of one ``role`` only.

    Below each of these lie clips (one folder of frames each) or the frames of a single clip. 16-bit PNG is
    rounded to 8 bits.
    """
    root, pairing = Path(settings.folder), settings.pairing
    if not root.is_dir():
        raise DataError(f"no folder {root}: set data.root to a folder of frames or of clips")
    hr = _first(root, "GT", "HR")
    lr = _first(root, *(name.format(scale=pairing.scale) for name in LR_FOLDERS[pairing.degradation.kind]))
    if hr is None and lr is None:
        hr, lr = (root, None) if settings.role == "hr" else (None, root)
    if settings.lr == "made":
        lr = None
    if (hr is None and lr is None) or (lr is None and settings.lr == "disk"):
        raise DataError(f"data.lr={settings.lr} does not fit {root}: it has {'no LR' if hr else 'no HR'} frames")
    base = hr or lr
    assert base is not None
    names = chosen(clips_in(base, root.resolve().name), partition, str(base))[:limit]
    return Catalog([_clip(settings, name, hr, lr) for name in names])


def _first(root: Path, *names: str) -> Path | None:
    return next((root / n for n in names if (root / n).is_dir()), None)


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
