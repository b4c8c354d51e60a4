"""``python -m vsrbench.upscale in.mp4 out.mp4 method=basicvsr``: upscale a video or a folder of frames.

Both paths may be video files or folders of frames; the settings ``inference`` and ``video`` say how.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build_method, launch
from vsrbench.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")


def run(cfg: "DictConfig") -> None:
    """Upscale ``input`` to ``output``, whose path is printed last.

    Raises ConfigError, DataError or RunError, most of them before the first frame; nothing half-written is
    left under the name of a video, and finished frames of a folder are kept.
    """
    source_path, target = paths(cfg)
    from vsrbench.diffusion.noise import Noise
    from vsrbench.inference.files import Job, notices, open_input
    from vsrbench.progress import Bars

    source = open_input(source_path, int(cfg.scale), bool(cfg.video.deinterlace))
    method = build_method(cfg)
    started = time.perf_counter()
    with Bars() as bars:
        job = Job(method, source, Noise(int(cfg.seed)), cfg.inference, bars.row(), bars.row())
        if is_video(target):
            for notice in notices(source):
                bars.print(notice)
            count = job.to_video(target, cfg.video)
        else:
            count = job.to_folder(target, made_with(cfg, source_path, method), bool(cfg.force))
    height, width = (side * method.scale for side in source.size)
    seconds = time.perf_counter() - started
    print(f"{count} frames of {width}x{height} in {seconds:.1f} s, {seconds / max(count, 1):.2f} s per frame")
    print(target)


def paths(cfg: "DictConfig") -> tuple[Path, Path]:
    """Input and output, checked as far as names allow.

    Raises ConfigError for a path that is not given or an unknown suffix, DataError for an absent input,
    RunError for an output that exists already or is the input itself.
    """
    for name in ("input", "output"):
        if cfg[name] is None:
            raise ConfigError(f"no {name} given: vsrbench upscale IN OUT method=bicubic (video files or folders)")
    source, target = Path(cfg.input).expanduser(), Path(cfg.output).expanduser()
    if not source.exists():
        raise DataError(f"no such file or folder: {source}")
    if target.suffix and not is_video(target) and not target.is_dir():
        raise ConfigError(
            f"cannot write {target}: use a folder (no suffix) for PNG frames, or one of {', '.join(SUFFIXES)}"
        )
    if source.resolve() == target.resolve():
        raise RunError(f"{target} is the input itself: choose another output")
    if is_video(target) and target.exists() and not cfg.force:
        raise RunError(f"{target} exists already: add force=true to replace it")
    if target.is_file() and not is_video(target):
        raise RunError(f"{target} is a file: choose a folder for the frames")
    return source, target


def is_video(target: Path) -> bool:
    return target.suffix.lower() in SUFFIXES and not target.is_dir()


def made_with(cfg: "DictConfig", source: Path, method: "Method") -> dict[str, Any]:
    """What the pixels depend on; frames of a folder made with anything else are not used again."""
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    names = ("method", "size", "variant", "scale", "seed", "prior", "sampler", "flow", "weights", "ckpt_path")
    inference = {k: settings["inference"][k] for k in ("chunk", "tile", "overlap", "max_frames")}
    precision = {"precision": "exact" if method.exact else str(method.precision)}
    return {"input": str(source.resolve()), **{k: settings[k] for k in names}, **inference, **precision}


if __name__ == "__main__":
    launch(run, "upscale")
