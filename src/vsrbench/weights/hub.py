"""Weights by hub id: a copy that is already here without any network, else a short look at the hub and a download."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from vsrbench.errors import WeightsError
from vsrbench.weights.catalogue import withdrawn

TIMEOUT = 5.0  # seconds without an answer until the hub counts as out of reach
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".msgpack", ".ckpt", ".h5", ".onnx", ".pt", ".pth")


@dataclass(frozen=True)
class Selection:
    """Which of a repository's files are needed (patterns), which are not, and what a usable folder must hold.

    what: the same in words, for errors.
    """

    files: tuple[str, ...]
    complete: Callable[[Path], bool]
    skip: tuple[str, ...] = ()
    what: str = ""


def is_prior(folder: Path) -> bool:
    """Whether a folder holds configs and weights of ``unet`` and ``vae``, a scheduler, and a prompt or its encoder."""
    weights = all(any(f.exists() for f in (folder / p).glob("diffusion_pytorch_model*")) for p in ("unet", "vae"))
    configs = ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
    prompt = ("prompt_embeds.safetensors", "text_encoder/config.json")
    return weights and all((folder / c).exists() for c in configs) and any((folder / p).exists() for p in prompt)


PRIOR = Selection(
    ("unet/*", "vae/*", "scheduler/*", "text_encoder/*", "tokenizer/*", "prompt_embeds.safetensors"),
    is_prior,
    what=" with unet/, vae/, scheduler/ and text_encoder/",
)


def locate(path: str, setting: str = "prior.path", selection: Selection = PRIOR) -> Path:
    """The local folder of a path or hub id; a complete cached copy is used without asking the hub.

    setting: what the user gave it as. Raises WeightsError within seconds when it is neither on disk nor reachable.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise WeightsError(f"{setting}={path}: no such folder")
    cached_folder = cached(path)
    if cached_folder is not None and selection.complete(cached_folder):
        return cached_folder
    return fetch(path, setting, selection)


def cache_entry(hub_id: str) -> Path:
    """Where the hub's client keeps a repository on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"


def cached(hub_id: str) -> Path | None:
    """The newest snapshot of a repository that is in the hub's cache, whole or not."""
    store = cache_entry(hub_id)
    reference = store / "refs" / "main"
    if not reference.is_file():
        return None
    folder = store / "snapshots" / reference.read_text().strip()
    return folder if folder.is_dir() else None


def fetch(hub_id: str, setting: str, selection: Selection) -> Path:
    """Download the selection into the hub's cache. Raises WeightsError with the reason and what to do instead."""
    from huggingface_hub import HfApi, snapshot_download

    # HTTPError is the base of what the client's transport raises, whichever library that is in its version
    from huggingface_hub.errors import HTTPError

    try:
        siblings = HfApi().model_info(hub_id, timeout=TIMEOUT).siblings or []
    except (HTTPError, OSError, ValueError) as error:
        raise WeightsError(unavailable(hub_id, setting, why(error), selection)) from error
    files = select((sibling.rfilename for sibling in siblings), selection)
    if not files:
        raise WeightsError(unavailable(hub_id, setting, "the repository holds nothing of that kind", selection))
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, etag_timeout=TIMEOUT))
    except (HTTPError, OSError, ValueError) as error:
        reason = f"the download broke off ({_first_line(error)}); the same command goes on with it"
        raise WeightsError(unavailable(hub_id, setting, reason, selection)) from error


def why(error: Exception) -> str:
    """The reason in a user's words, from the error of the first request."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.errors import RepositoryNotFoundError as NotFoundError

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, and the cache holds no complete copy"
    if isinstance(error, HFValidationError):
        return "this is no hub id"
    if isinstance(error, GatedRepoError):
        return "its owner wants terms accepted on its page first, then `hf auth login`"
    if isinstance(error, NotFoundError):
        return "the hub has no such repository: it was removed, renamed, or is private (`hf auth login`)"
    if isinstance(error, HfHubHTTPError):
        return f"the hub answers with an error ({_first_line(error)})"
    return f"this machine does not reach the hub ({type(error).__name__})"


def unavailable(hub_id: str, setting: str, reason: str, selection: Selection) -> str:
    """The whole message: which id, why, what to put instead, where a local copy goes."""
    entry = withdrawn(hub_id)
    note = f" Known of it: {entry.note}." if entry else ""
    note += " The cached copy is incomplete." if cached(hub_id) else ""
    copies = f" or {setting}={' or '.join(entry.copies)}" if entry and entry.copies else ""
    return (
        f"{setting}={hub_id} is no folder here and cannot be fetched from the hub: {reason}.{note} Give "
        f"{setting}=DIR, a local diffusers folder{selection.what}{copies}; or bring the folder "
        f"{cache_entry(hub_id).name} from a machine that has it into {cache_entry(hub_id).parent}"
    )


def select(files: Iterable[str], selection: Selection) -> list[str]:
    """The files to fetch: of each folder's weights one kind alone, safetensors and full precision first."""
    names = [
        f
        for f in files
        if any(fnmatch(f, p) for p in selection.files) and not any(fnmatch(f, p) for p in selection.skip)
    ]
    best: dict[str, int] = {}
    for file in names:
        if file.endswith(WEIGHT_SUFFIXES):
            folder = file.rpartition("/")[0]
            best[folder] = min(best.get(folder, 9), _rank(file))
    return [f for f in names if not f.endswith(WEIGHT_SUFFIXES) or _rank(f) == best[f.rpartition("/")[0]]]


def _rank(file: str) -> int:
    """0 safetensors, 1 a variant of it (.fp16.), 2 PyTorch's pickles, 3 their variants, 4 other software's."""
    name = file.rpartition("/")[2]
    variant = len(name.split(".")) > 2
    kinds = {".safetensors": 0, ".bin": 2}
    return kinds.get(Path(name).suffix, 4) + variant


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
