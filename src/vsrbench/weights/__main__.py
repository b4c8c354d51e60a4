"""``python -m vsrbench.weights WORD``: weights that are known, that are here, that fit, and export.

list: what is known, with licence and size, and what of it is on this disk.
fetch NAME...: published weights into the cache, checked; `fetch method=dgaf size=paper` takes what that needs.
check PATH: whether a folder, file or hub id fits; exit code 1 where it does not.
export method=M ckpt_path=RUN output=FILE.safetensors: the trained part as this project's sizes ship it.
export method=M ckpt_path=RUN output=FOLDER: the layout of the method's released code, for diffusers; method=ldm
writes the whole prior, to be used as prior.path=FOLDER. dtype=float32 keeps full precision.
"""

from typing import TYPE_CHECKING

from vsrbench.config import launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console


def run(cfg: "DictConfig") -> None:
    """Do what the word says. Raises ConfigError for another word and for an output that cannot be meant."""
    words = {"list": show_list, "fetch": fetch, "check": check, "export": export}
    if cfg.task not in words:
        raise ConfigError(f"weights knows the words {', '.join(words)}, not {cfg.task!r}")
    if cfg.input and cfg.task != "check":
        raise ConfigError(f"weights {cfg.task} takes no path: cannot use {cfg.input!r}")
    words[cfg.task](cfg)


def show_list(cfg: "DictConfig") -> None:
    """Print the catalogue and what is here."""
    from vsrbench.weights.commands.listing import inventory, show

    show(inventory(), _console(width=240))


def fetch(cfg: "DictConfig") -> None:
    """Fetch what ``names`` or the method asks for."""
    from vsrbench.weights.commands.fetch import chosen, fetch

    fetch(chosen(cfg), lambda line: _console().print(line, markup=False, highlight=False, soft_wrap=True))


def check(cfg: "DictConfig") -> None:
    """Print whether ``input`` fits."""
    from vsrbench.weights.commands.check import check_path, show

    if not cfg.input:
        raise ConfigError("check needs a folder, file or hub id: `vsrbench weights check PATH`")
    if not show(check_path(str(cfg.input), cfg), _console()):
        raise SystemExit(1)


def export(cfg: "DictConfig") -> None:
    """Write ``output`` and print its path."""
    from vsrbench.weights.commands.export import export

    print(export(cfg))


def _console(width: int = 150) -> "Console":
    """width: of a log file, which has none of its own."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=width)


if __name__ == "__main__":
    launch(run, "weights")
