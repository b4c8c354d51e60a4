"""The catalogue of weights: every entry says what it is for, where it comes from and what takes it."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from vsrbench.config import compose
from vsrbench.errors import ConfigError
from vsrbench.flow.estimators import RAFT
from vsrbench.flow.spynet import SpyNetwork
from vsrbench.metrics.perceptual import RECIPES
from vsrbench.weights.catalogue import Entry, Withdrawn, catalogue, withdrawn

ENTRIES = {entry.name: entry for entry in catalogue()}


def test_every_setting_that_takes_weights_has_an_entry() -> None:
    assert {entry.variable for entry in catalogue() if entry.variable} == {
        "VSRBENCH_PRIOR", "VSRBENCH_RAFT", "VSRBENCH_SPYNET",
    }  # fmt: skip
    files = {f"{entry.place}/{entry.files}" for entry in catalogue()}
    assert {file for recipe in RECIPES.values() for file in recipe.files} <= files


def test_what_the_sizes_ship_has_an_entry() -> None:
    shipped = {entry.files for entry in catalogue() if entry.place == "shipped"}
    for method in ("ldm", "dgaf", "stablevsr"):
        cfg = compose([f"method={method}", "size=mini"], verb="eval")
        assert Path(cfg.prior.path).name in shipped
        assert cfg.weights is None or Path(cfg.weights).name in shipped


def test_parameters_are_those_of_the_networks() -> None:
    with torch.device("meta"):
        raft, spynet = RAFT(random=True), SpyNetwork()
    assert sum(p.numel() for p in raft.parameters()) == ENTRIES["raft_large"].parameters
    assert sum(p.numel() for p in spynet.parameters()) == ENTRIES["spynet_mmagic"].parameters


def test_a_lost_repository_names_its_copies() -> None:
    assert withdrawn("damo-vilab/text-to-video-ms-1.7b") == Withdrawn(
        "moved to another owner", ("ali-vilab/text-to-video-ms-1.7b",)
    )
    assert withdrawn("stabilityai/stable-diffusion-x4-upscaler") is None


def entry(**changes: object) -> dict[str, object]:
    return {"name": "a", "purpose": "b", "setting": "c", "source": "d", **changes}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"version": 2}, "has version 2; this program reads version 1"),
        ({"weights": [entry(licens="MIT")]}, "licens.*an entry has the keys name, purpose"),
        ({"weights": [entry(), entry()]}, "a needs a name of its own"),
        ({"weights": [entry(place="elsewhere")]}, "a needs .* a known place"),
        ({"weights": [entry(source=None)]}, "a needs .* hub or source"),
    ],
)
def test_a_damaged_catalogue_is_refused(content: dict, told: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.yaml"
    OmegaConf.save({"version": 1, "withdrawn": {}, "weights": [], **content}, file)
    with pytest.raises(ConfigError, match=told):
        catalogue(file)


def test_unknown_facts_stay_unknown() -> None:
    assert Entry("a", "b", "c").licence is None
