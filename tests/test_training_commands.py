"""Every training command of README.md, docs/ and experiments/ composes, and its samples fit the data it names."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from test_docs import PAGES, commands, overrides
from vsrbench import experiments
from vsrbench.command_line import expand_arguments
from vsrbench.config import compose
from vsrbench.data.trees import SETS, load_list

ROOT = Path(__file__).resolve().parents[1]
SETTING = re.compile(r"[+~]?[\w./@]+=[^\s]+|-m")


def of_pages() -> list[str]:
    """What follows ``vsrbench train`` on the pages, one run of each sweep."""
    runs = [overrides(line) for page in PAGES for line in commands(page.read_text())]
    return [shlex.join(arguments) for verb, arguments in runs if verb == "train" and arguments]


def of_experiments() -> list[str]:
    """What follows ``python -m vsrbench.train`` in the comments of experiments: as many words as are settings."""
    runs = []
    for path in sorted((ROOT / "experiments").rglob("*.yaml")):
        comments = " ".join(line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
        for text in comments.split("python -m vsrbench.train")[1:]:
            words = []
            for word in text.split():
                if not SETTING.fullmatch(word):
                    break
                words.append(word.rstrip(",.;"))
                if word[-1] in ",.;":
                    break
            _, arguments = overrides("vsrbench train " + " ".join(words).replace(",...,", ","))
            runs.append(shlex.join(arguments))
    return runs


COMMANDS = sorted({*of_pages(), *of_experiments()})


def rows(command: str) -> list[str]:
    """The command once per row of its experiment, where it chooses one."""
    name = re.search(r"experiments=(\S+)", command)
    if name is None or "row=" not in command:
        return [command]
    return [re.sub(r"row=\S+", f"row={row}", command) for row in experiments.rows(ROOT / "experiments", name[1])]


@cache
def composed(command: str) -> Any:
    arguments = expand_arguments(shlex.split(command), "train")
    return OmegaConf.to_container(compose(arguments, verb="train"), resolve=True)


def test_the_commands_are_there() -> None:
    assert len(of_pages()) > 20 and len(of_experiments()) > 40
    assert "experiments=dgaf/st3_x16_dgaf data.root=REDS" in COMMANDS


@pytest.mark.parametrize("command", [row for command in COMMANDS for row in rows(command)])
def test_the_samples_of_a_training_command_fit_its_data(command: str) -> None:
    """Crops in HR pixels, and the frames of a sample at its smallest stride; rendered clips have any size."""
    cfg = composed(command)
    if cfg["data"]["set"] not in SETS:
        return
    shape = load_list(cfg["data"]["set"])
    plans = {name: plan for name, plan in (cfg.get("plan") or {}).items() if name not in ("all", "default")}
    crops = {"train": cfg["train"]["crop"], **{name: plan["crop"] for name, plan in plans.items()}}
    smallest = min(shape["size"])
    assert {name: crop for name, crop in crops.items() if crop * cfg["scale"] > smallest} == {}
    assert (cfg["train"]["frames"] - 1) * min(cfg["train"]["stride"]) < shape["frames"]


@pytest.mark.parametrize("method", ["dgaf", "ldm"])
def test_crops_of_latent_methods_are_the_same_part_of_the_picture_at_every_scale(method: str) -> None:
    """The released configurations keep 256 HR pixels; x16 has LR frames of 80x45 on REDS."""
    crops = [composed(f"method={method} size=paper scale={scale}")["train"]["crop"] for scale in (4, 8, 16)]
    assert crops == [64, 32, 16]
