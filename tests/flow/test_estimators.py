from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.errors import ConfigError, WeightsError
from vsrbench.flow.estimators import DIS, RAFT, Exact


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


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (2.4, -1.7), (-0.5, 3.25)])
def test_dis_finds_a_known_shift(x: float, y: float) -> None:
    """b(p) = a(p - shift), so flow[a→b] is the shift."""
    flow = DIS()(texture(64, 80), texture(64, 80, -x, -y))
    inner = flow[..., 12:-12, 12:-12]
    assert torch.allclose(inner.mean((2, 3)), torch.tensor([[x, y]]), atol=0.2)
    assert (inner - torch.tensor([x, y]).view(1, 2, 1, 1)).abs().median() < 0.2


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (24, 9), (30, 200)])
def test_dis_takes_any_size(size: tuple[int, int]) -> None:
    flow = DIS()(texture(*size), texture(*size))
    assert flow.shape == (1, 2, *size)
    assert flow.abs().max() < 0.1


@pytest.mark.parametrize("preset", ["ultrafast", "fast"])
def test_dis_presets(preset: str) -> None:
    flow = DIS(preset)(texture(64, 64), texture(64, 64, -2))
    assert torch.allclose(flow[..., 16:-16, 16:-16].mean((2, 3)), torch.tensor([[2.0, 0.0]]), atol=0.3)


def test_dis_refuses_an_unknown_preset() -> None:
    with pytest.raises(ConfigError, match=r"flow\.preset=best: use ultrafast, fast or medium"):
        DIS("best")


def pairs() -> tuple[Tensor, Tensor]:
    first = torch.cat([texture(20, 30), texture(20, 30, 5), texture(20, 30, 0, 9)])
    return first, torch.cat([texture(20, 30, -1), texture(20, 30, 4.5), texture(20, 30, 1, 9)])


def test_dis_does_not_depend_on_the_batch() -> None:
    a, b = pairs()
    together = DIS()(a, b)
    assert torch.equal(together, torch.cat([DIS()(a[i : i + 1], b[i : i + 1]) for i in range(3)]))


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
    with pytest.raises(WeightsError, match=r"flow\.weights=FILE .* or use flow=dis"):
        RAFT()
    with pytest.raises(WeightsError, match=r"flow\.weights=.*none\.pth: no such file"):
        RAFT(str(tmp_path / "none.pth"))
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(WeightsError, match=r"cut\.pth.*truncated"):
        RAFT(str(tmp_path / "cut.pth"))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth.*raft_large"):
        RAFT(str(tmp_path / "other.pth"))


def test_exact_estimates_nothing() -> None:
    with pytest.raises(ConfigError, match="flow=exact needs data that know their flow"):
        Exact()(texture(4, 4), texture(4, 4))
