"""The run folder: one place per configuration, written atomically, found again by the same command."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vsrbench.errors import RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Settings that only lengthen or relocate a run: they neither change its name nor forbid resuming.
MAY_CHANGE = (
    "runs", "name", "force", "tags", "logger", "verb", "debug", "dashboard", "sweep", "launcher", "optimise", "budget",
    "trainer.max_steps", "trainer.max_epochs", "trainer.devices", "trainer.num_nodes", "trainer.accelerator",
    "trainer.strategy", "trainer.accumulate", "trainer.max_time", "trainer.compile", "trainer.checkpointing",
    "inference.devices", "data.workers", "inference.device", "train.batch",
    "video", "bench", "data.packed", "validation.every", "validation.metrics", "validation.strips", "checkpoint",
    "trainer.log_every",
    "data.recipe",  # repeats train
    "plan",  # what is set for the stage in hand stands in train, trainer, optimiser, ...
)  # fmt: skip
# train.batch may change because accumulation keeps train.effective_batch (checked when training starts).
UNFINISHED = ".part"  # end of the name of a file that is being written
JUDGING = ("protocol", "protocols")  # how frames are judged: nothing but eval depends on it
PACKAGES = (
    "torch", "torchvision", "pytorch-lightning", "diffusers", "numpy", "opencv-python-headless", "av", "kornia",
    "pyiqa",
)  # fmt: skip


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is either whole or absent: written beside ``path``, then fsync and rename.

    Raises RunError when the folder cannot be written or the disk is full; the old file stays untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; choose another folder (runs=DIR)") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}; free space or choose another folder") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes through ``atomic_file``."""
    with atomic_file(path) as file:
        file.write(data)


def flush(path: Path) -> None:
    """Wait until a file is on the disk; nothing where there is none."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def discard_unfinished(folder: Path) -> None:
    """Remove what killed processes left of files that they were writing through ``atomic_file``."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Run:
    """``<runs>/<name>/``; every file in it is written through here."""

    folder: Path

    @property
    def frames(self) -> Path:
        return self.folder / "frames"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def finished(self) -> bool:
        """True once ``result.json`` is there; it is the last file that a verb writes."""
        return self.result.is_file()

    def write_text(self, name: str, text: str) -> Path:
        write_atomic(self.folder / name, text.encode())
        return self.folder / name

    def write_json(self, name: str, content: Any) -> Path:
        """Write JSON; NaN and infinities are refused (ValueError), since no reader could trust them."""
        return self.write_text(name, json.dumps(content, indent=1, allow_nan=False) + "\n")


def open_run(cfg: "DictConfig", verb: str) -> Run:
    """The folder of this configuration, made or found again.

    Raises RunError when the folder (given by ``name=``) holds another configuration, with the differences.
    """
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    run = Run(run_folder(cfg, verb))
    known = run.folder / "config.yaml"
    if known.is_file():
        refuse_other(run, OmegaConf.to_container(OmegaConf.load(known), resolve=True), settings)
    run.write_text("config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    run.write_json("provenance.json", provenance(int(cfg.seed)))
    return run


def run_folder(cfg: "DictConfig", verb: str) -> Path:
    """Where the run of this configuration is, or would be."""
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    return Path(cfg.runs).expanduser().resolve() / (cfg.name or derived_name(settings, verb))


def digest(settings: dict[str, Any]) -> str:
    """Hash of everything that changes the outcome, 8 hexadecimal digits."""
    text = json.dumps(essential(settings), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def derived_name(settings: dict[str, Any], verb: str) -> str:
    """Readable name plus the hash of everything that changes the outcome."""
    parts = [] if verb == "train" else [verb]
    foreign = settings.get("predictions")
    sized = [settings["size"]] if settings["supports"]["size"] else []
    parts += ["frames"] if foreign else [settings["method"]["name"], *sized]
    if verb in ("train", "eval"):
        parts.append(settings["data"]["set"])
    return "-".join([*parts, digest(settings)])


def essential(settings: dict[str, Any]) -> dict[str, Any]:
    """Flat ``{"a.b": value}`` of the settings that must agree for a folder to be used again."""
    flat: dict[str, Any] = {}
    free = MAY_CHANGE if settings.get("verb") == "eval" else (*MAY_CHANGE, *JUDGING)

    def walk(prefix: str, node: Any) -> None:
        if prefix in free:
            return
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = node

    walk("", settings)
    return flat


def refuse_other(run: Run, before: Any, now: Any) -> None:
    """Raise RunError naming each setting that differs from the one stored in the folder."""
    old, new = essential(before), essential(now)
    differing = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if differing:
        shown = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differing[:6])
        more = f" (+{len(differing) - 6} more)" if len(differing) > 6 else ""
        raise RunError(f"{run.folder} holds a run with other settings ({shown}{more}): choose another name=...")


def provenance(seed: int) -> dict[str, Any]:
    """Version, commit, packages, device and seed that a number depends on."""
    import torch

    import vsrbench

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor() or "cpu"
    return {
        "vsrbench": vsrbench.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
        "device": device,
        "seed": seed,
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _commit() -> str | None:
    """Commit of the checkout the package lies in, with ``+changes``; None for an installed wheel or without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    git = ["git", "-C", str(root)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (commit + ("+changes" if changed else "")) or None
