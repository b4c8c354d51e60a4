import pytest

from vsrbench.config import compose
from vsrbench.errors import ConfigError
from vsrbench.evaluation.protocol import Protocol


def test_the_shipped_protocol_states_every_switch():
    from omegaconf import OmegaConf

    cfg = compose(["method=bicubic"], verb="eval")
    protocol = Protocol.from_config(OmegaConf.to_container(cfg.protocol, resolve=True))
    assert protocol.id == "vsrbench"
    assert protocol.metrics == ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y", "sharpness", "consistency")
    assert protocol.scale == cfg.scale and protocol.degradation["name"] == cfg.degradation.name


def test_warping_errors_are_asked_for_by_name():
    from omegaconf import OmegaConf

    cfg = compose(["method=bicubic", "protocol.metrics=[psnr_y,ssim_y,ewarp,rwe]"], verb="eval")
    protocol = Protocol.from_config(OmegaConf.to_container(cfg.protocol, resolve=True))
    assert protocol.metrics == ("psnr_y", "ssim_y", "ewarp", "rwe")


def test_equal_switches_have_equal_hashes_whatever_the_id(make_protocol):
    assert make_protocol().hash == make_protocol(id="other").hash
    assert len(make_protocol().hash) == 16


@pytest.mark.parametrize(
    "change",
    [{"crop": 4}, {"averaging": "frames"}, {"frames": "all"}, {"scale": 4}, {"consistency_flow": "dis"},
     {"metrics": ["psnr_y"]}, {"perceptual": ["niqe"]}, {"degradation": {"name": "bicubic", "path": "uint8"}}],
)  # fmt: skip
def test_every_switch_changes_the_hash(make_protocol, change):
    assert make_protocol(**change).hash != make_protocol().hash


def test_the_class_behind_a_degradation_is_no_switch(make_protocol):
    assert make_protocol(degradation={"_target_": "a.B", "name": "x"}) == make_protocol(degradation={"name": "x"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"luma": "full_range"}, "protocol.luma=full_range: use bt601_studio"),
        ({"averaging": "median"}, "protocol.averaging=median: use clips or frames"),
        ({"metrics": ["psnr"]}, "unknown 'psnr'; known are psnr_rgb"),
        ({"metrics": []}, "protocol.metrics is empty"),
        ({"crop": -1}, "protocol.crop=-1"),
        ({"colour": "red"}, r"unknown switches \['colour'\]"),
    ],
)
def test_refuses_what_it_does_not_know(make_protocol, change, message):
    with pytest.raises(ConfigError, match=message):
        make_protocol(**change)


def test_refuses_a_protocol_that_leaves_a_switch_open(make_protocol):
    switches = make_protocol().switches
    del switches["crop"]
    with pytest.raises(ConfigError, match=r"missing switches \['crop'\]"):
        Protocol.from_config(switches)
