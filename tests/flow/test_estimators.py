from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.config import build, compose
from vsrbench.errors import ConfigError, WeightsError
from vsrbench.flow.estimators import DIS, RAFT, Exact, Farneback
from vsrbench.flow.warp import warp


def texture(height: int, width: int, x: float = 0, y: float = 0) -> Tensor:
    """A band-limited picture (1,3,H,W) in [0,1], read at pixel + (x,y): any shift is exact."""
    generator = torch.Generator().manual_seed(0)
    columns, rows = torch.meshgrid(torch.arange(width) + float(x), torch.arange(height) + float(y), indexing="xy")
    picture = torch.zeros(3, height, width)
    for _ in range(24):
        across, down = (torch.rand(2, generator=generator) - 0.5) * 1.4
        phase = torch.rand(3, 1, 1, generator=generator) * 6.28
        picture += torch.sin(across * columns + down * rows + phase)
    return (picture / 20 + 0.5).clamp(0, 1)[None]


@pytest.fixture(scope="module")
def raft() -> RAFT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RAFT(random=True, updates=1)


CLASSICAL = [DIS, Farneback]


@pytest.mark.parametrize("estimator", CLASSICAL)
@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (2.4, -1.7), (-0.5, 3.25)])
def test_classical_finds_a_known_shift(estimator: type[DIS | Farneback], x: float, y: float) -> None:
    """b(p) = a(p - shift), so flow[a→b] is the shift, and it brings b onto a."""
    a, b = texture(64, 80), texture(64, 80, -x, -y)
    flow = estimator()(a, b)
    inner = flow[..., 12:-12, 12:-12]
    before, after = ((frame - a)[..., 12:-12, 12:-12].abs().mean() for frame in (b, warp(b, flow)))
    assert after < before / 5
    assert torch.allclose(inner.mean((2, 3)), torch.tensor([[x, y]]), atol=0.2)
    assert (inner - torch.tensor([x, y]).view(1, 2, 1, 1)).abs().median() < 0.2


@pytest.mark.parametrize("estimator", CLASSICAL)
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (24, 9), (30, 200)])
def test_classical_takes_any_size(estimator: type[DIS | Farneback], size: tuple[int, int]) -> None:
    flow = estimator()(texture(*size), texture(*size))
    assert flow.shape == (1, 2, *size)
    assert flow.abs().max() < 0.2


@pytest.mark.parametrize("preset", ["ultrafast", "fast"])
def test_dis_presets(preset: str) -> None:
    flow = DIS(preset)(texture(64, 64), texture(64, 64, -2))
    assert torch.allclose(flow[..., 16:-16, 16:-16].mean((2, 3)), torch.tensor([[2.0, 0.0]]), atol=0.3)


def test_dis_refuses_an_unknown_preset() -> None:
    with pytest.raises(ConfigError, match=r"flow\.preset=best: use ultrafast, fast or medium"):
        DIS("best")


def test_farneback_settings_reach_opencv() -> None:
    a, b = texture(160, 160), texture(160, 160, -2.4, 1.7)  # room for a pyramid, whose levels keep 32 pixels
    shipped = build(compose(["flow=farneback"]).flow)(a, b)
    assert torch.equal(shipped, Farneback()(a, b))
    others = ["pyr_scale=0.7", "levels=1", "winsize=9", "iterations=1", "poly_n=7", "poly_sigma=1.5"]
    for setting in others:
        changed = build(compose(["flow=farneback", f"flow.{setting}"]).flow)(a, b)
        assert not torch.equal(changed, shipped), setting


@pytest.mark.parametrize(
    ("name", "value"),
    [("pyr_scale", 1.0), ("pyr_scale", 0.0), ("levels", 0), ("winsize", 0), ("iterations", 0), ("poly_n", 2),
     ("poly_sigma", 0.0)],
)  # fmt: skip
def test_farneback_refuses_what_opencv_cannot_use(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"flow\.{name}={value}: use "):
        Farneback(**{name: value})


def pairs() -> tuple[Tensor, Tensor]:
    first = torch.cat([texture(20, 30), texture(20, 30, 5), texture(20, 30, 0, 9)])
    return first, torch.cat([texture(20, 30, -1), texture(20, 30, 4.5), texture(20, 30, 1, 9)])


@pytest.mark.parametrize("estimator", CLASSICAL)
def test_classical_does_not_depend_on_the_batch(estimator: type[DIS | Farneback]) -> None:
    a, b = pairs()
    together = estimator()(a, b)
    assert torch.equal(together, torch.cat([estimator()(a[i : i + 1], b[i : i + 1]) for i in range(3)]))


def test_raft_does_not_depend_on_the_batch_or_on_training_mode(raft: RAFT) -> None:
    a, b = (frames[:2] for frames in pairs())
    before = {key: value.clone() for key, value in raft.state_dict().items()}
    together = raft.train()(a, b)
    assert together.shape == (2, 2, 20, 30)
    assert not together.requires_grad
    alone = torch.cat([raft(a[i : i + 1], b[i : i + 1]) for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in raft.state_dict().items())
    assert not any(p.requires_grad for p in raft.parameters())


def test_raft_pads_behind_the_last_pixel(raft: RAFT) -> None:
    """A frame that needs no padding gives what the network itself gives; a smaller one what its padded copy gives."""
    a, b = texture(128, 136), texture(128, 136, -1)
    assert torch.equal(raft(a, b), raft.net(2 * a - 1, 2 * b - 1, num_flow_updates=1)[-1])
    small = [x[..., :20, :30] for x in (a, b)]
    padded = [F.pad(x, (0, 98, 0, 108), mode="replicate") for x in small]
    assert torch.equal(raft(*small), raft(*padded)[..., :20, :30])


@pytest.fixture(scope="module")
def as_released(raft: RAFT) -> RAFT:
    """The same weights, normalised by batch statistics."""
    copy = RAFT(random=True, updates=1, batch_statistics=True)
    copy.load_state_dict(raft.state_dict())
    return copy


def test_raft_batch_statistics_are_those_of_train_mode(raft: RAFT, as_released: RAFT) -> None:
    """One pair a call: what torchvision's network gives when left in train mode, as in the released codes."""
    from torchvision.models.optical_flow import raft_large

    a, b = texture(128, 136), texture(128, 136, -1)
    left_in_train_mode = raft_large(weights=None).requires_grad_(False).train()
    left_in_train_mode.load_state_dict(raft.net.state_dict())
    flow = as_released(a, b)
    assert torch.equal(flow, left_in_train_mode(2 * a - 1, 2 * b - 1, num_flow_updates=1)[-1])
    assert not torch.allclose(flow, raft(a, b), atol=1e-3)


def test_raft_batch_statistics_depend_on_the_pair_alone(raft: RAFT, as_released: RAFT) -> None:
    a, b = (frames[:2] for frames in pairs())
    state = {key: value.clone() for key, value in as_released.state_dict().items()}
    together = as_released.train()(a, b)
    alone = torch.cat([as_released.eval()(a[i : i + 1], b[i : i + 1]) for i in (1, 0)]).flip(0)
    assert torch.equal(together, alone), "in any order, beside any other pair, in either mode"
    assert all(torch.equal(value, state[key]) for key, value in as_released.state_dict().items())
    assert state.keys() == raft.state_dict().keys()
    assert not together.requires_grad


def test_raft_is_not_run_in_half_precision(raft: RAFT) -> None:
    a, b = texture(20, 30), texture(20, 30, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flow = raft(a, b)
    assert flow.dtype == torch.float32
    assert torch.equal(flow, raft(a, b))


def test_raft_loads_weights_by_path(raft: RAFT, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.save(raft.net.state_dict(), tmp_path / "raft.pth")
    save_file(raft.net.state_dict(), tmp_path / "raft.safetensors")
    for name in ("raft.pth", "raft.safetensors"):
        loaded = RAFT(str(tmp_path / name))
        assert all(torch.equal(value, raft.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_raft_says_where_weights_go(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"flow\.weights=FILE .* use flow=dis"):
        RAFT()
    with pytest.raises(WeightsError, match=r"flow\.weights=.*none\.pth: no such file"):
        RAFT(str(tmp_path / "none.pth"))
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(WeightsError, match=r"cut\.pth.*truncated"):
        RAFT(str(tmp_path / "cut.pth"))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth.*raft_large.*0 of 169 tensors fit.*1 unexpected \['other'\]"):
        RAFT(str(tmp_path / "other.pth"))


def test_exact_estimates_nothing() -> None:
    with pytest.raises(ConfigError, match="flow=exact needs data that know their flow"):
        Exact()(texture(4, 4), texture(4, 4))


def test_a_pairs_flow_does_not_depend_on_the_pairs_before_it() -> None:
    """OpenCV's solver remembers its last flow; on ambiguous pictures that showed."""
    coarse = torch.rand(4, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    frames = torch.nn.functional.interpolate(coarse, size=(32, 40), mode="bicubic").clamp(0, 1)
    together = DIS()(frames[:-1], frames[1:])
    alone = torch.cat([DIS()(frames[t : t + 1], frames[t + 1 : t + 2]) for t in range(3)])
    assert together.equal(alone)
