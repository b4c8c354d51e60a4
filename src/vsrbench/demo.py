"""``python -m vsrbench.demo``: tunes, judges and uses the miniature on photographs that move; a page tells of it.

Takes ``runs= name= seed= size= force= inference.device= inference.precision=``; what is finished is used again.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build, compose, launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

PASSED_ON = ("size", "seed", "force", "inference.device", "inference.precision")
TUNE = [
    "trainer.max_steps=60", "trainer.log_every=1", "train.crop=32", "train.batch=4", "train.effective_batch=4",
    "optimiser.lr=1e-4", "validation.every=0", "validation.clips=1", "validation.frames=3", "data.workers=1",
]  # fmt: skip
JUDGED = {
    "bicubic": ("bicubic interpolation, the baseline", "bicubic"),
    "prior alone": ("the diffusion prior alone, frame by frame", "ldm"),
    "DGAF": ("DGAF: the prior, guided by its neighbours' motion", "dgaf"),
    "DGAF, fine-tuned": ("DGAF with the weights of step 1", "dgaf"),
}


def run(cfg: "DictConfig") -> None:
    """The whole demo; the page's path is printed last. Raises what the single commands raise."""
    check_arguments()
    from vsrbench.reports.page import Content, render
    from vsrbench.reports.rows import read_row
    from vsrbench.runs import open_run

    demo = open_run(cfg, "demo")
    steps = Steps(cfg, demo.folder / "runs")
    start = [f"ckpt_path={cfg.weights}"] if cfg.weights else []
    tuned = steps.do("fine-tune DGAF on the sample's training photographs", "train", ["method=dgaf", *TUNE, *start])
    folders = {}
    for label, (what, method) in JUDGED.items():
        weights = [f"ckpt_path={tuned}"] if label == "DGAF, fine-tuned" else []
        folders[label] = steps.do(f"judge {what}", "eval", [f"method={method}", *weights])
    film = upscaled_film(cfg, demo.folder, steps)

    steps.say("write the page")
    rows = [read_row(label, folder, demo.folder / "truth") for label, folder in folders.items()]
    content = Content(rows, rows[2], rows[3], demo.folder / "truth", tuned, film, steps.commands, remarks(cfg))
    print(demo.write_text("index.html", render(content)))


def check_arguments() -> None:
    """Raises ConfigError for a setting that the demo would not pass on."""
    from hydra.core.hydra_config import HydraConfig

    known = {*PASSED_ON, "runs", "name", "verb"}
    for argument in HydraConfig.get().overrides.task if HydraConfig.initialized() else []:
        if argument.split("=")[0] not in known:
            raise ConfigError(f"the demo takes no {argument}: give it to the commands that the demo's page lists")


class Steps:
    """Runs the other commands in this process, announces them, and remembers how a user would call them."""

    total = len(JUDGED) + 4

    def __init__(self, cfg: "DictConfig", runs: Path) -> None:
        from omegaconf import OmegaConf
        from rich.console import Console

        self.console, self.number = Console(), 0
        self.commands: list[tuple[str, str]] = []
        self.common = ["data=sample", *(f"{key}={OmegaConf.select(cfg, key)}" for key in PASSED_ON), f"runs={runs}"]

    def say(self, what: str) -> None:
        self.number += 1
        self.console.rule(f"{self.number}/{self.total} {what}", align="left")

    def do(self, what: str, verb: str, arguments: list[str]) -> Any:
        """What the command returns: its run folder."""
        from importlib import import_module

        self.say(what)
        self.commands.append((what, shlex.join(["python", "-m", f"vsrbench.{verb}", *arguments, *self.common])))
        return import_module(f"vsrbench.{verb}").run(compose([*arguments, *self.common], verb))


def upscaled_film(cfg: "DictConfig", folder: Path, steps: Steps) -> Any:
    """Write a low-resolution film of the first test clip and upscale it; a film that is there is kept."""
    from vsrbench import demo_material as material
    from vsrbench.reports.page import Film

    before, after = folder / "film_low.mp4", folder / "film_dgaf.mp4"
    steps.say("write the ground truth and a short low-resolution film with a tone")
    ...
