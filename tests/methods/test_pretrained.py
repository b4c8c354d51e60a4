"""Pretrained parts without weights: refused in the same words by every method, and named where a switch allows them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import latent
from vsrbench import train
from vsrbench.config import build_method, compose
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.flow.spynet import SpyNetwork
from vsrbench.nn import perceptual
from vsrbench.training.trainer import build_module

WORDS = r"has no weights: .*, or {} to go on without them"
SMALL = ["data=sample", "data.workers=0", "trainer.accelerator=cpu", "trainer.max_steps=1", "validation.clips=0"]
SPYNET = {
    "basicvsr": ["method.flow_net=spynet"],
    "basicvsrpp": ["method.flow_net=spynet"],
    "videogigagan": ["method.front.flow_net=spynet", "module.from_scratch=true", "stage=video"],
}


@pytest.fixture(autouse=True)
def _nothing_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PRIOR", "SD_PRIOR", "RAFT", "SPYNET", "VIT"):
        monkeypatch.delenv(f"VSRBENCH_{name}", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("method", "settings", "switch"),
    [
        ("dgaf", [], "prior.random=true"),
        ("stablevsr", [], "prior.random=true"),
        ("sateco", [], "prior.random=true"),
        ("adapter", [], "prior.random=true"),
        ("basicvsr", ["weights=null"], "untrained=true"),
        ("basicvsrpp", [], "untrained=true"),
        ("dgaf", ["prior=mini"], "flow.random=true"),
        ("stablevsr", ["prior=mini", "flow=spynet"], "flow.random=true"),
    ],
)
@pytest.mark.parametrize("verb", ["eval", "upscale", "train"])
def test_the_same_words_at_size_paper(method: str, settings: list[str], switch: str, verb: str) -> None:
    given = [f"method={method}", "size=paper", *settings]
    make: Callable[[], object]
    if verb == "train":
        cfg = compose([*given, "data=sample"], verb="train")
        make = lambda: build_module(cfg, load=True).method.check_pretrained(cfg.untrained)  # noqa: E731
    else:
        more = ["data=sample"] if verb == "eval" else ["input=in", "output=out"]
        make = lambda: build_method(compose([*given, *more], verb=verb))  # noqa: E731
    with pytest.raises(WeightsError, match=WORDS.format(switch.replace(".", r"\."))):
        make()


@pytest.mark.parametrize("method", SPYNET)
def test_training_from_a_random_spynet_is_refused_or_named(method: str, tmp_path: Path) -> None:
    given = [f"method={method}", "size=tiny", *SPYNET[method], *SMALL, f"runs={tmp_path}", "name=run"]
    with pytest.raises(WeightsError, match=f"SPyNet {WORDS.format('untrained=true')}"):
        train.run(compose(given))
    assert not list(tmp_path.rglob("*.ckpt"))
    train.run(compose([*given, "untrained=true"]))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["substitutes"]["SPyNet"].startswith("random")
    assert "| in place of SPyNet | random weights at the start |" in (tmp_path / "run" / "README.md").read_text()
    train.run(compose([*given, "name=next", f"ckpt_path={tmp_path / 'run'}"]))
    result = json.loads((tmp_path / "next" / "result.json").read_text())
    assert "SPyNet" not in result["substitutes"], "weights of the whole hold SPyNet's"
    train.run(compose([*given, "name=next", f"ckpt_path={tmp_path / 'run'}", "trainer.max_steps=2"]))
    assert json.loads((tmp_path / "next" / "result.json").read_text())["substitutes"] == result["substitutes"]


def test_files_of_spynet_are_enough(tmp_path: Path) -> None:
    torch.save(SpyNetwork().state_dict(), tmp_path / "spynet.pth")
    file = tmp_path / "spynet.pth"
    latent.method("basicvsrpp", "method.flow_net=spynet", f"method.flow_weights={file}").check_pretrained(False)
    settings = ("method.front.flow_net=spynet", f"method.front.flow_weights={file}")
    latent.method("videogigagan", *settings).check_pretrained(False)
    made = latent.module("videogigagan", "method.front.flow_net=spynet")
    made.begin_stage("image", None, None)
    made.method.check_pretrained(False)  # the image model has no flow


@pytest.mark.parametrize("method", ["videogigagan", "sateco", "basicvsrpp"])
@pytest.mark.parametrize("size", ["paper", "tiny"])
def test_no_feature_loss_but_by_name(method: str, size: str) -> None:
    """size=paper wants LPIPS; the smaller sizes, for which nobody ships it, name the random features."""
    cfg = compose([f"method={method}", f"size={size}", "data=sample"])
    assert cfg.module.features == ("lpips_vgg" if size == "paper" or method == "basicvsrpp" else "random_features")
    if size == "paper":
        with pytest.raises(WeightsError, match=r"LPIPS has no weights: .*, or module\.features=random_features"):
            perceptual.feature_loss(cfg.module.features)
    else:
        with pytest.raises(ConfigError, match=r"features=auto: use lpips_vgg or random_features"):
            latent.module(method, "module.features=auto")


def test_the_result_names_random_features(tmp_path: Path) -> None:
    given = ["method=videogigagan", "size=tiny", "stage=image", *SMALL, f"runs={tmp_path}"]
    train.run(compose([*given, "name=run"]))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["substitutes"] == {"LPIPS": "random_features"}
    assert "| in place of LPIPS | random_features |" in (tmp_path / "run" / "README.md").read_text()
    with pytest.raises(WeightsError, match="LPIPS has no weights"):
        train.run(compose([*given, "name=other", "module.features=lpips_vgg"]))


def test_the_result_names_frozen_networks_with_random_weights(tmp_path: Path) -> None:
    train.run(
        compose(["method=dgaf", "size=tiny", *SMALL, "flow=spynet", "flow.random=true", f"runs={tmp_path}", "name=run"])
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["substitutes"] == {"prior": "random weights", "flow": "random weights"}


def test_stages_before_the_vaes_say_that_lpips_will_be_missing(capsys: pytest.CaptureFixture[str]) -> None:
    made = latent.module("sateco", "module.features=lpips_vgg")
    made.begin_stage("upscaler", None, None)
    assert "note for stage=vae: LPIPS has no weights" in capsys.readouterr().out
    with pytest.raises(WeightsError, match="LPIPS has no weights"):
        made.begin_stage("vae", None, None)
    named = latent.module("sateco")
    assert named.substitutes() == {}
    named.begin_stage("vae", None, None)
    assert named.substitutes() == {"LPIPS": "random_features"}
