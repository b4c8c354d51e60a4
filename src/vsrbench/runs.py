"""The run folder: one place per configuration, written atomically, found again by the same command."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from vsrbench.errors import ConfigError, RunError, VsrbenchError
from vsrbench.schema.verbs import VERBS, Evaluation, identity
from vsrbench.stored import CONFIG, below, inside, read_config

if TYPE_CHECKING:
    from omegaconf import DictConfig

OLD_LAYOUT = {"analysis", "video", "budget", "trainer"}  # side by side in versions with one root for all commands
MARKS = {"verb", "runs", "seed"}  # settings that config.yaml of every run folder has, old versions' as well
LEASE = 120  # seconds that a network file system may keep the lock of a node that failed, and whose job is queued again
LOCK, LOG = "lock", "log.txt"
BEGUN = (CONFIG, "provenance.json", "checkpoints", "samples")  # what a run folder holds before there was any work
UNFINISHED = ".part"  # end of the name of a file that is being written
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


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a run folder while this process writes to it; the lock ends with the process, however that ends.

    A lock of the process (``lockf``) rather than of the file's descriptor: data workers that outlive a killed process
    do not hold it. Raises RunError where another process, also of another machine on the same file system, holds it.
    """
    refuse_foreign(folder)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644), "a+")
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}; choose another folder (runs=DIR)") from error
    with file:
        try:
            _take(file, LEASE if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else 0)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise RunError(
                f"{folder} is at work already ({file.read().strip() or 'another process'}): wait for it, or end it and "
                f"give the same command again; where that process is gone, delete {file.name}"
            ) from error
        except OSError as error:  # a file system without locks
            print(f"{folder}: {error.strerror}; nobody will notice a second process in this run folder")
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
        discard_unfinished(folder)
        try:
            with logged(folder / LOG):
                yield
        except VsrbenchError:
            if new and all(path.name in (LOCK, LOG, *BEGUN) for path in folder.rglob("*")):
                shutil.rmtree(folder)  # refused before there was any work
            raise


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """All that is printed goes into a file as well, without progress bars; the last line is the error, if any."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o644)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; remove it or choose another name=...") from error
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        now = occasion()
        file.write(f"--- {now['date']} {now['host']} {now['command']}\n")
        outputs = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (cast(TextIO, Tee(output, file)) for output in outputs)
        try:
            yield
        except BaseException as error:
            file.write(f"ended: {type(error).__name__}: {error}\n")
            raise
        finally:
            sys.stdout, sys.stderr = outputs


class Tee:
    """A stream whose text goes into a file as well; everything else is the stream's."""

    MOVES, COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-KJhl]|\r(?!\n)"), re.compile(r"\x1b\[[0-9;]*m")

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self.stream, self.file = stream, file

    def write(self, text: str) -> int:
        if not self.MOVES.search(text):
            self.file.write(self.COLOURS.sub("", text))
            self.file.flush()
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _take(file: TextIO, patience: float) -> None:
    """Lock a file, now or within so many seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            return fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= until:
                raise
        time.sleep(1)


def read_run_settings(file: Path, remedy: str = "remove the folder, or give another one") -> dict[str, Any]:
    """The settings in a run folder's config.yaml, plain values. Raises RunError for a file that is damaged."""
    settings = read_config(file, remedy)
    if settings.get("verb") not in VERBS:
        raise RunError(f"{file} is damaged ({settings.get('verb')!r} is no command of vsrbench): {remedy}")
    return settings


def is_run(folder: Path) -> bool:
    """Whether a folder carries our mark: a config.yaml with the settings that every run has."""
    return (folder / CONFIG).is_file() and read_config(folder / CONFIG).keys() >= MARKS


def refuse_foreign(folder: Path) -> None:
    """Raise RunError for a folder with files in it that is no run folder: its files may be someone's own."""
    if not folder.is_dir() or is_run(folder):
        return
    names = {p.name for p in folder.iterdir() if not p.name.endswith(UNFINISHED)}
    others = sorted(names - ({LOCK, LOG} if LOCK in names else set()))
    if others:
        raise RunError(f"{folder} is no run folder (it holds {', '.join(others[:3])}): choose another name=...")


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

    def clip(self, name: str) -> Path:
        """Folder of a clip's frames. Raises RunError for a name that leads elsewhere."""
        return below(self.frames, name)

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


def open_run(cfg: "DictConfig", verb: str, free: Sequence[str] = ()) -> Run:
    """The folder of this configuration, made or found again.

    free: settings that may differ from those in the folder. Raises RunError when the folder (given by ``name=``) holds
    another configuration, with the differences; how frames are evaluated may differ, they are made once.
    """
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    run = Run(run_folder(cfg, verb))
    refuse_foreign(run.folder)
    if (run.folder / CONFIG).is_file():
        refuse_other(run, read_run_settings(run.folder / CONFIG), settings, free)
    run.write_text(CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
    run.write_json("provenance.json", {**provenance(int(cfg.seed)), **occasion()})
    return run


def occasion() -> dict[str, str]:
    """The command that can be typed again, when and where it was given."""
    program = Path(sys.argv[0])
    words = [program.parent.name if program.stem.startswith("__") else program.stem]
    words = ["vsrbench", *words] if words[0] in VERBS else words
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": shlex.join([*words, *sys.argv[1:]]), "date": date, "host": platform.node()}


def run_folder(cfg: "DictConfig", verb: str) -> Path:
    """Where the run of this configuration is, or would be."""
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    name = str(cfg.name or derived_name(settings, verb))
    if not inside(name):
        raise ConfigError(f"name={name}: the name of a folder below runs={cfg.runs}; runs=DIR sets where that is")
    return Path(cfg.runs).expanduser().resolve() / name


def digest(settings: dict[str, Any]) -> str:
    """Hash of everything that changes the outcome, 8 hexadecimal digits."""
    return short_hash(essential(settings))


def short_hash(flat: dict[str, Any]) -> str:
    """Hash of flat settings in any order, 8 hexadecimal digits."""
    text = json.dumps(flat, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def derived_name(settings: dict[str, Any], verb: str) -> str:
    """Readable name plus the hash of everything that changes the outcome."""
    parts = [] if verb == "train" else [verb]
    foreign = verb != "train" and settings.get("predictions")
    sized = [settings["size"]] if settings["supports"]["size"] else []
    parts += ["frames"] if foreign else [settings["method"]["name"], *sized]
    if verb in ("train", "eval"):
        parts.append(settings["data"]["set"])
    return "-".join([*parts, digest(settings)])


def essential(settings: dict[str, Any]) -> dict[str, Any]:
    """Flat ``{"a.b": value}`` of the settings that must agree for a folder to be used again.

    ``schema.verbs`` says which these are. trainer and train.batch may differ in part because accumulation keeps
    train.effective_batch (checked when training starts), inference.batch because noise belongs to a frame.
    """
    return identity(settings, settings["verb"])


def making(settings: dict[str, Any]) -> dict[str, Any]:
    """``essential`` without how frames are evaluated."""
    return {
        key: value for key, value in essential(settings).items() if key.split(".")[0] not in Evaluation.model_fields
    }


def differing(before: Any, now: Any) -> list[str]:
    """Settings that a folder's content depends on and that differ between two configurations."""
    old, new = making(before), making(now)
    return sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))


def refuse_other(run: Run, before: Any, now: Any, free: Sequence[str] = ()) -> None:
    """Raise RunError naming each setting that differs from the one stored in the folder, but for those in ``free``."""
    if others := [key for key in differing(before, now) if key not in free]:
        if set(before) >= OLD_LAYOUT:
            raise RunError(
                f"{run.folder} was made by a version with other settings, and cannot go on: choose another name=...; "
                f"ckpt_path={run.folder} starts from its weights"
            )
        old, new = making(before), making(now)
        differences = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in others[:6])
        more = f" (+{len(others) - 6} more)" if len(others) > 6 else ""
        raise RunError(f"{run.folder} holds a run with other settings ({differences}{more}): choose another name=...")


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
