import pytest
import torch
from omegaconf import OmegaConf

from vsrbench.benchmarks.shapes import on_meta, random_clip, with_absent_as_random, without_weights
from vsrbench.config import build, compose


def test_shapes_of_the_shipped_miniature_without_its_weights() -> None:
    cfg = compose(["method=ldm", "size=mini"], verb="bench")
    with torch.device("meta"):
        bare = build(without_weights(cfg).method)
    real = build(cfg.method)
    assert {k: v.shape for k, v in bare.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}
    assert all(p.is_meta for p in bare.parameters())


def test_the_given_configuration_is_left_alone() -> None:
    cfg = compose(["method=dgaf", "size=paper"], verb="bench")
    before = OmegaConf.to_yaml(cfg)
    without_weights(cfg)
    with_absent_as_random(cfg)
    assert OmegaConf.to_yaml(cfg) == before


def test_only_what_is_absent_becomes_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VSRBENCH_PRIOR", raising=False)
    monkeypatch.delenv("VSRBENCH_RAFT", raising=False)
    paper, absent = with_absent_as_random(compose(["method=dgaf", "size=paper"], verb="bench"))
    assert absent == ["prior", "flow", "trained part"]
    assert paper.prior.random and paper.flow.random
    mini, absent = with_absent_as_random(compose(["method=dgaf", "size=mini"], verb="bench"))
    assert absent == [] and not mini.prior.random and mini.prior.path
    _, absent = with_absent_as_random(compose(["method=bicubic"], verb="bench"))
    assert absent == []


def test_size_and_variant_of_the_shapes() -> None:
    cfg = on_meta("dgaf", "paper", "released")
    assert (cfg.size, cfg.variant, cfg.method.guide_attention) == ("paper", "released", False)


def test_a_clip_of_any_length() -> None:
    clip = random_clip((16, 24), 3, 4)
    assert clip.lr.shape == (1, 3, 3, 16, 24)
    assert torch.equal(clip.lr, random_clip((16, 24), 3, 4).lr)
    assert not torch.equal(clip.lr[:, 0], clip.lr[:, 1])
