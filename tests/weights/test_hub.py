"""Weights by hub id: cached copies, what is fetched, and errors that come at once and say what to do."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HTTPError

from vsrbench.errors import WeightsError
from vsrbench.weights import hub
from vsrbench.weights.hub import PRIOR, Selection, locate, select

ID = "someone/upscaler"
PRIOR_FILES = (
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json", "prompt_embeds.safetensors",
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache of its own; the environment's proxies and offline switch are out of the way."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "*")
    return folder


def store(cache: Path, hub_id: str = ID, files: tuple[str, ...] = PRIOR_FILES) -> Path:
    """A snapshot as the hub's client lays it out."""
    entry = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = entry / "snapshots" / "abc123"
    for name in files:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_text("x")
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("abc123")
    return snapshot


def unreachable(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def asked(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", asked)


class TouchedError(Exception):
    """Raised when the network is touched although it must not be."""


# --- on this machine -----------------------------------------------------------------------------


def test_a_local_folder_is_itself_and_a_missing_one_is_named(tmp_path: Path, cache: Path) -> None:
    assert locate(str(tmp_path)) == tmp_path
    with pytest.raises(WeightsError, match=r"flow\.x=\./absent/folder: no such folder"):
        locate("./absent/folder", "flow.x")


def test_a_whole_cached_copy_needs_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = store(cache)
    unreachable(monkeypatch, TouchedError())
    assert locate(ID) == snapshot
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert locate(ID) == snapshot


@pytest.mark.parametrize("lost", ["unet/diffusion_pytorch_model.safetensors", "prompt_embeds.safetensors"])
def test_a_part_of_a_copy_is_not_taken_for_the_whole(cache: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    (store(cache) / lost).unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE is set.* The cached copy is incomplete"):
        locate(ID)


def test_an_interrupted_download_leaves_links_to_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store(cache) / "vae/diffusion_pytorch_model.safetensors"
    file.unlink()
    file.symlink_to(cache / "blobs" / "absent")
    unreachable(monkeypatch, TouchedError())
    with pytest.raises(TouchedError):
        locate(ID)


# --- errors --------------------------------------------------------------------------------------


def test_an_offline_machine_is_recognised(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (HTTPError("no route to host"), ConnectionError("refused"), OSError("name or service not known")):
        unreachable(monkeypatch, error)
        with pytest.raises(WeightsError, match=rf"prior\.path={ID} .* this machine does not reach the hub") as told:
            locate(ID)
        assert "Give prior.path=DIR, a local diffusers folder" in str(told.value)
        assert f"models--someone--upscaler from a machine that has it into {cache}" in str(told.value)


def test_offline_by_setting(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set, and the cache holds no complete copy"):
        locate(ID)


def test_what_is_no_hub_id(cache: Path) -> None:
    with pytest.raises(WeightsError, match="this is no hub id"):
        locate("not a/hub name")


class Answers(BaseHTTPRequestHandler):
    status, headers_sent, asked = 404, {"X-Error-Code": "RepoNotFound"}, 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(self.status)
        for key, value in self.headers_sent.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    """A hub on this machine that answers as the returned class says."""
    handler = type("Handler", (Answers,), {})
    listening = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{listening.server_port}")
    yield handler
    listening.shutdown()
    listening.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (
            404,
            {"X-Error-Code": "RepoNotFound"},
            "the hub has no such repository: it was removed, renamed, or is private",
        ),
        (403, {"X-Error-Code": "GatedRepo"}, "its owner wants terms accepted on its page first"),
        (401, {}, "the hub answers with an error .*401"),
        (503, {}, "the hub answers with an error .*503"),
    ],
)
def test_answers_of_the_hub(server: type[Answers], status: int, headers: dict[str, str], told: str) -> None:
    server.status, server.headers_sent = status, headers
    with pytest.raises(
        WeightsError, match=f"prior.path={ID} is no folder here and cannot be fetched from the hub: {told}"
    ):
        locate(ID)
    assert server.asked == 1, "without retries"


def test_a_hub_that_does_not_answer(server: type[Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    waited = threading.Event()
    monkeypatch.setattr(server, "do_GET", lambda _: waited.wait(60))
    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    with pytest.raises(WeightsError, match="this machine does not reach the hub"):
        locate(ID)
    assert not waited.is_set(), "given up while the hub was still silent"
    waited.set()


def test_a_repository_that_is_known_to_be_gone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch, ConnectionError())
    with pytest.raises(WeightsError, match="removed from the hub in November 2025") as told:
        locate("stabilityai/stable-diffusion-2-1-base")
    assert "or prior.path=Manojb/stable-diffusion-2-1-base" in str(told.value)


# --- what is fetched -----------------------------------------------------------------------------


def test_one_kind_of_weights_is_fetched() -> None:
    names = (
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.fp16.bin",
    )
    files = ["x4-upscaler-ema.ckpt", "README.md", "unet/config.json", "safety_checker/model.safetensors"]
    files += [f"unet/{name}" for name in names] + ["text_encoder/pytorch_model.bin", "tokenizer/vocab.json"]
    assert select(files, PRIOR) == [
        "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "text_encoder/pytorch_model.bin",
        "tokenizer/vocab.json",
    ]  # fmt: skip
    files.append("unet/diffusion_pytorch_model.safetensors")
    assert [f for f in select(files, PRIOR) if f.startswith("unet/d")] == ["unet/diffusion_pytorch_model.safetensors"]


def test_pieces_of_a_large_file_stay_together() -> None:
    pieces = [f"unet/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    assert select([*pieces, index, "unet/diffusion_pytorch_model.bin"], PRIOR) == [*pieces, index]


def test_a_download_asks_for_the_chosen_files(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(hub_id: str, **settings: object) -> str:
        asked.update(settings, id=hub_id)
        return str(cache)

    siblings = [
        SimpleNamespace(rfilename=name) for name in (*PRIOR_FILES, "unet/diffusion_pytorch_model.bin", "big.ckpt")
    ]
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(siblings=siblings))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert locate(ID) == cache
    assert asked["id"] == ID and asked["allow_patterns"] == list(PRIOR_FILES)
    with pytest.raises(WeightsError, match="holds nothing of that kind"):
        locate(ID, selection=Selection(("controlnet/*",), lambda _: False))


def test_a_download_that_breaks_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise OSError("No space left on device")

    siblings = [SimpleNamespace(rfilename=name) for name in PRIOR_FILES]
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(siblings=siblings))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(WeightsError, match=r"broke off \(No space left on device\); the same command goes on"):
        locate(ID)
