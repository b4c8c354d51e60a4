"""``weights check PATH``: what a folder, file or hub id holds and whether it fits, as a table."""

from pathlib import Path
from typing import TYPE_CHECKING

from vsrbench.weights.commands.check_file import check_file
from vsrbench.weights.commands.check_folder import check_folder
from vsrbench.weights.commands.fit import Fit
from vsrbench.weights.hub import Selection, locate
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
SHOWN = 3  # names listed of each kind of misfit


def check_path(path: str, cfg: "DictConfig") -> list[Fit]:
    """All parts behind a path. Raises WeightsError where there is nothing to check_path."""
    source = Path(path).expanduser()
    if source.is_file():
        return check_file(source, cfg)
    folder = locate(path, "input", ANYTHING)
    run = any((folder / sub / name).is_file() for sub in ("", "checkpoints") for name in ("best.ckpt", "last.ckpt"))
    return check_file(checkpoint_file(folder), cfg) if run else check_folder(folder)


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
    counted = [
        f"{len(names)} {what}: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}"
        for what, names in misfits.items()
        if names
    ]
    return counted + [f"error: {f}" for f in fit.errors] + [f"warning: {d}" for d in fit.warnings] + fit.notes


def _types(fit: Fit) -> str:
    return ", ".join(sorted(fit.dtypes, key=lambda name: -fit.dtypes[name]))
