"""``weights check PATH``: what a folder, file or hub id holds and whether it fits, as a table.

Which network a single file is of is seen by its keys.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vsrbench.benchmarks.shapes import without_weights
from vsrbench.config import build, given
from vsrbench.errors import WeightsError
from vsrbench.flow.spynet import SpyNetwork
from vsrbench.runs import is_run
from vsrbench.stored import CONFIG, read_config
from vsrbench.trusted import stored_nodes
from vsrbench.weights.commands.check_folder import check_folder, check_part
from vsrbench.weights.commands.fit import Fit, compare
from vsrbench.weights.files import Header, headers_of, read, read_headers
from vsrbench.weights.hub import Selection, locate
from vsrbench.weights.key_maps import is_published, own_state, spynet_state
from vsrbench.weights.layout import FILES, folder_kind
from vsrbench.weights.trained import checkpoint_file

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

ANYTHING = Selection(
    (
        "config.json", "diffusion_pytorch_model*", "*/config.json", "*/diffusion_pytorch_model*", "text_encoder/*",
        "tokenizer/*", "scheduler/*", "prompt_embeds.safetensors",
    ),
    complete=lambda folder: any(folder.glob("*/config.json")) or (folder / "config.json").is_file(),
    skip=("safety_checker/*", "low_res_scheduler/*"),
)  # fmt: skip
SPYNET = ("basic_module.", "spynet.", "generator.spynet.", "netBasic.", "moduleBasic.")
SHOWN = 3  # names listed of each kind of misfit


def check_path(path: str, cfg: "DictConfig") -> list[Fit]:
    """All parts behind a path. Raises WeightsError where there is nothing to check."""
    source = Path(path).expanduser()
    if source.is_file():
        return check_file(source, cfg)
    folder = locate(path, "input", ANYTHING)
    run = any((folder / sub / name).is_file() for sub in ("", "checkpoints") for name in ("best.ckpt", "last.ckpt"))
    return check_file(checkpoint_file(folder), cfg) if run else check_folder(folder, prior_kind(cfg))


def prior_kind(cfg: "DictConfig") -> str | None:
    """The kind of prior that the command names, by its method or prior; None where it names neither."""
    is_named = any(word.startswith(("method=", "prior=", "prior.")) for word in given())
    kind = str((cfg.prior or {}).get("kind", "upscaler"))
    return kind if is_named or kind != "upscaler" else None


def show(fits: list[Fit], console: "Console") -> bool:
    """Print a table and what does not fit; True where everything fits."""
    from rich.table import Table

    table = Table("part", "kind", "file", "matched", "parameters", "type", "", box=None)
    for fit in fits:
        matched = f"{fit.matched} of {fit.expected}" if fit.expected else ""
        parameters = f"{fit.parameters:,}" if fit.parameters else ""
        table.add_row(fit.part, fit.kind, fit.source, matched, parameters, _types(fit), "fits" if fit.fits else "NO")
    console.print(table)
    for fit in fits:
        for line in lines(fit):
            console.print(f"{fit.part}: {line}", markup=False, highlight=False, soft_wrap=True)
    return all(fit.fits for fit in fits)


def lines(fit: Fit) -> list[str]:
    """Everything to say of a part below the table: misfits by kind with the first names, errors, warnings, notes."""
    misfits = {"missing": fit.missing, "unexpected": fit.unexpected, "of wrong shape": fit.shapes}
    sizes = [
        f"{len(names)} {what}: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}"
        for what, names in misfits.items()
        if names
    ]
    return sizes + [f"error: {f}" for f in fit.errors] + [f"warning: {d}" for d in fit.warnings] + fit.notes


def _types(fit: Fit) -> str:
    return ", ".join(sorted(fit.dtypes, key=lambda name: -fit.dtypes[name]))


# --- single files ---


def check_file(file: Path, cfg: "DictConfig") -> list[Fit]:
    """One Fit, or one per part of a trained method's file. Raises WeightsError for a file of an unknown kind.

    cfg: the method that trained parts are compared with, unless the file lies in a run folder, which names its own.
    """
    if file.name in FILES and (file.parent / "config.json").is_file():
        return [check_part(file.parent, prior_kind(cfg) or folder_kind(file.parent))]
    headers = read_headers(file)
    if file.suffix == ".ckpt":
        return _trained(file, headers, _run_config(file) or cfg)
    keys = {key.removeprefix("module.") for key in headers}
    if any(key.startswith("feature_encoder.") for key in keys):
        return [_raft(file, headers)]
    if any(key.startswith(("fnet.", "cnet.")) for key in keys):
        fault = (
            "RAFT under the names of its original code: give torchvision's file (raft_large_C_T_SKHT_V2-ff5fadd5.pth)"
        )
        return [Fit("flow", "RAFT", file.name, parameters=_numbers(headers), errors=[fault])]
    if is_published(keys) and cfg.method.name in ("basicvsr", "basicvsrpp"):
        return _trained(file, headers_of(own_state(read(file).tensors, str(file))), cfg)
    whole = file.suffix == ".safetensors" and any(key.startswith("propagation.") for key in keys)
    if any(key.startswith(SPYNET) for key in keys) and not whole:  # of a published generator its SPyNet
        return [_spynet(file)]
    if file.suffix == ".safetensors":
        return _trained(file, headers, _run_config(file) or cfg)
    raise WeightsError(
        f"{file} is of no kind known here: its keys are {', '.join(sorted(headers)[:4])}, ...; known are RAFT, SPyNet, "
        "trained parts of this project, and folders with a config.json"
    )


def _raft(file: Path, headers: Mapping[str, Header]) -> Fit:
    from torchvision.models.optical_flow import raft_large

    with torch.device("meta"):
        own = raft_large(weights=None).state_dict()
    fit = compare("flow", "raft_large", file.name, own, headers)
    fit.notes.append("for flow=raft flow.weights=FILE")
    return fit


def _spynet(file: Path) -> Fit:
    with torch.device("meta"):
        own = SpyNetwork().state_dict()
    try:
        state = spynet_state(read(file).tensors, str(file))
    except WeightsError as error:
        return Fit("flow", "SPyNet", file.name, errors=[str(error)])
    fit = compare("flow", "SPyNet", file.name, own, headers_of(state))
    fit.notes.append("for flow=spynet flow.weights=FILE")
    return fit


def _trained(file: Path, headers: Mapping[str, Header], cfg: "DictConfig") -> list[Fit]:
    """Parts of a method (``<part>.<key>``) against the method of a configuration, built on the meta device."""
    from omegaconf import open_dict

    cfg = without_weights(cfg)
    with open_dict(cfg):  # in a run folder's file these are copies, no references
        cfg.method.update({key: cfg[key] for key in ("prior", "flow") if key in cfg.method})
    with torch.device("meta"):
        method: Any = build(cfg.method)
    parts = method.parts()
    against = f"method={cfg.method.name} size={cfg.size} variant={cfg.variant}"
    stored: dict[str, dict[str, Header]] = {}
    for key, header in headers.items():
        name, _, rest = key.partition(".")
        stored.setdefault(name, {})[rest] = header
    if not stored.keys() & parts.keys():
        raise WeightsError(
            f"{file} holds {', '.join(sorted(stored)[:4])}; {against} has the parts {', '.join(parts)}: name the "
            "method that it belongs to, or give the folder with its config.json"
        )
    fits = []
    for name, shapes in stored.items():
        if name not in parts:
            fits.append(Fit(name, "?", file.name, parameters=_numbers(shapes), errors=[f"{against} has no such part"]))
            continue
        fit = compare(name, type(parts[name]).__name__, file.name, parts[name].state_dict(), shapes)
        fit.notes.append(f"compared with {against}")
        fits.append(fit)
    return fits


def _run_config(file: Path) -> "DictConfig | None":
    """The method that a run folder's configuration names, for a checkpoint inside it; none but our own is built."""
    for folder in file.parents[:2]:
        if (config := folder / CONFIG).is_file():
            settings = read_config(config, "move the checkpoint out of this folder, and name its method (method=...)")
            names = ["method", "prior", "flow", "size", "variant"]
            return stored_nodes(settings, config, names) if is_run(folder) else None
    return None


def _numbers(headers: Mapping[str, Header]) -> int:
    return sum(header.numbers for header in headers.values())
