"""Calling the other commands in one process, announced, and remembered as a user would type them."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.console import Console

from vsrbench.config import compose
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

PASSED_ON = ("size", "seed", "force", "inference.device", "inference.precision")
TAKEN = (*PASSED_ON, "runs", "name")


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise ConfigError for a setting that no step would see."""
    for argument in arguments:
        if argument.split("=")[0] not in (*TAKEN, "verb"):
            raise ConfigError(f"the demo has no setting {argument}: it takes {', '.join(TAKEN)}")


class Steps:
    """Runs commands with the demo's settings.

    verbs: what runs each command. runs: folder for their run folders. total: number of steps to announce.
    commands: (what, command line) of those run so far.
    """

    def __init__(
        self, cfg: "DictConfig", verbs: Mapping[str, Callable[["DictConfig"], Any]], runs: Path, total: int
    ) -> None:
        usual = compose([], "demo")
        changed = [key for key in PASSED_ON if OmegaConf.select(cfg, key) != OmegaConf.select(usual, key)]
        passed = [f"{key}={OmegaConf.select(cfg, key)}" for key in dict.fromkeys(["size", *changed])]
        self.common = ["data=sample", *passed, f"runs={runs}"]
        self.verbs, self.console = verbs, Console()
        self.total, self.number = total, 0
        self.commands: list[tuple[str, str]] = []

    def say(self, what: str) -> None:
        """Announce the next step."""
        self.number += 1
        self.console.rule(f"{self.number}/{self.total} {what}", align="left")

    def do(self, what: str, verb: str, arguments: Sequence[str], skip: bool = False) -> Any:
        """Announce and run ``python -m vsrbench.VERB``; returns what it returns: train and eval, the run folder.

        skip: only remember the command, for a step whose output is there already.
        """
        self.say(what)
        self.commands.append((what, shlex.join(["python", "-m", f"vsrbench.{verb}", *arguments, *self.common])))
        if skip:
            self.console.print("done before: force=true does it again")
            return None
        return self.verbs[verb](compose([*arguments, *self.common], verb))
