from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vsrbench.config import build, compose
from vsrbench.errors import WeightsError
from vsrbench.flow.spynet import SpyNet, SpyNetwork, load_spynet
from vsrbench.weights.key_maps import spynet_state

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> SpyNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = SpyNetwork().requires_grad_(False)
        for level in built.basic_module:  # motions of several pixels, so that warping and borders matter
            level.basic_module[-1].weight.mul_(30)
        return built


@pytest.fixture(scope="module")
def frames() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 9, 11, generator=generator)
    a, b = F.interpolate(coarse, size=(64, 96), mode="bicubic").clamp(0, 1)[:, None]
    return a, b


def test_parameters_by_layer() -> None:
    """7x7 convolutions 8→32→64→32→16→2 with biases, six times."""
    widths = [8, 32, 64, 32, 16, 2]
    one = sum(i * o * 49 + o for i, o in zip(widths, widths[1:], strict=False))
    assert one == 240_050
    assert sum(p.numel() for p in SpyNetwork().parameters()) == 6 * one == 1_440_300


def test_no_correction_is_no_flow(frames: tuple[Tensor, Tensor]) -> None:
    network = SpyNetwork()
    for level in network.basic_module:
        for parameter in level.basic_module[-1].parameters():
            torch.nn.init.zeros_(parameter)
    assert torch.equal(network(*frames), torch.zeros(1, 2, 64, 96))


@pytest.mark.parametrize("size", [(64, 96), (1, 1), (33, 70), (40, 100)])
def test_a_constant_correction_doubles_with_each_level(size: tuple[int, int]) -> None:
    """c per level gives 63 c = (32+16+8+4+2+1) c on the grid of multiples of 32, scaled to the frame's own pixels."""
    network = SpyNetwork().requires_grad_(False)
    for level in network.basic_module:
        level.basic_module[-1].weight.zero_()
        level.basic_module[-1].bias.copy_(torch.tensor([0.5, -0.25]))
    height, width = size
    flow = network(torch.rand(2, 3, height, width), torch.rand(2, 3, height, width))
    grid = [-(-side // 32) * 32 for side in size]
    expected = torch.tensor([63 * 0.5 * width / grid[1], -63 * 0.25 * height / grid[0]])
    assert torch.allclose(flow, expected.view(1, 2, 1, 1).expand(2, 2, height, width), atol=1e-5)


def reference(state: State, a: Tensor, b: Tensor) -> Tensor:
    """SPyNet as the BasicVSR line defines it, on multiples of 32: positions normalised between the corners."""

    def normalise(x: Tensor) -> Tensor:
        return (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
            :, None, None
        ]

    first, second = [normalise(a)], [normalise(b)]
    for _ in range(5):
        first.append(F.avg_pool2d(first[-1], 2, 2, count_include_pad=False))
        second.append(F.avg_pool2d(second[-1], 2, 2, count_include_pad=False))
    flow = torch.zeros(len(a), 2, a.shape[2] // 32, a.shape[3] // 32)
    for level in range(6):
        now, other = first[5 - level], second[5 - level]
        height, width = now.shape[2:]
        if level:
            flow = F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True) * 2.0
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        across = 2 * (columns + flow[:, 0]) / max(width - 1, 1) - 1
        down = 2 * (rows + flow[:, 1]) / max(height - 1, 1) - 1
        grid = torch.stack([across, down], dim=3)
        warped = F.grid_sample(other, grid, padding_mode="border", align_corners=True)
        x = torch.cat([now, warped, flow], 1)
        for layer in range(5):
            key = f"basic_module.{level}.basic_module.{2 * layer}"
            x = F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=3)
            x = x if layer == 4 else x.relu()
        flow = flow + x
    return flow


def test_equals_the_definition(network: SpyNetwork, frames: tuple[Tensor, Tensor]) -> None:
    flow = network(*frames)
    assert flow.abs().max() > 2, "the case must move pixels"
    assert torch.allclose(flow, reference(network.state_dict(), *frames), atol=2e-4)
    assert not torch.allclose(flow, network(*reversed(frames)), atol=0.1)


def test_odd_sizes_are_resized_and_the_flow_with_them(network: SpyNetwork, frames: tuple[Tensor, Tensor]) -> None:
    small = [x[..., :50, :70] for x in frames]
    grown = [F.interpolate(x, size=(64, 96), mode="bilinear") for x in small]
    expected = F.interpolate(network(*grown), size=(50, 70), mode="bilinear")
    expected = expected * torch.tensor([70 / 96, 50 / 64]).view(1, 2, 1, 1)
    assert torch.allclose(network(*small), expected, atol=1e-5)


def test_pairs_of_a_batch_are_independent(network: SpyNetwork, frames: tuple[Tensor, Tensor]) -> None:
    a, b = frames
    together = network(torch.cat([a, b]), torch.cat([b, a]))
    assert torch.allclose(together, torch.cat([network(a, b), network(b, a)]), atol=1e-4)


def test_is_not_run_in_half_precision(network: SpyNetwork, frames: tuple[Tensor, Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flow = network(*frames)
    assert flow.dtype == torch.float32
    assert torch.equal(flow, network(*frames))


def test_network_is_trainable_and_the_estimator_is_frozen(frames: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    network = SpyNetwork()
    a = frames[0].clone().requires_grad_()
    network(a, frames[1]).square().mean().backward()
    assert a.grad is not None and a.grad.abs().sum() > 0
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any(), key
    estimator = SpyNet(random=True).train()
    assert not any(p.requires_grad for p in estimator.parameters())
    assert not estimator(*frames).requires_grad


# --- weights -------------------------------------------------------------------------------------


def openmmlab(state: State, prefix: str = "") -> State:
    """basic_module.L.basic_module.{0..4}.conv.*, with the normalisation stored beside."""
    renamed = {}
    for key, value in state.items():
        outer, level, inner, layer, kind = key.split(".")
        renamed[f"{prefix}{outer}.{level}.{inner}.{int(layer) // 2}.conv.{kind}"] = value
    return {**renamed, **normalisation(prefix)}


def normalisation(prefix: str = "") -> State:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return {f"{prefix}mean": mean.view(1, 3, 1, 1), f"{prefix}std": std.view(1, 3, 1, 1)}


def first_port(state: State, name: str) -> State:
    return {key.replace("basic_module", name): value for key, value in state.items()}


LAYOUTS = {
    "openmmlab": lambda state: openmmlab(state),
    "openmmlab below spynet.": lambda state: openmmlab(state, "spynet."),
    "openmmlab checkpoint": lambda state: {"meta": {"epoch": 1}, "state_dict": openmmlab(state)},
    "BasicVSR generator": lambda state: {
        "state_dict": {
            **openmmlab(state, "generator.spynet."),
            "generator.conv_last.bias": torch.zeros(3),
            "step_counter": torch.zeros(1),
        }
    },
    "BasicSR": lambda state: {"params": {**state, **normalisation()}},
    "BasicSR, bare": lambda state: state,
    "pytorch-spynet": lambda state: first_port(state, "netBasic"),
    "pytorch-spynet, older": lambda state: first_port(state, "moduleBasic"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_published_layout_loads(
    layout: str, network: SpyNetwork, frames: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    torch.save(LAYOUTS[layout](network.state_dict()), tmp_path / "spynet.pth")
    loaded = load_spynet(str(tmp_path / "spynet.pth"))
    assert all(p.requires_grad for p in loaded.parameters())
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("layout", ["openmmlab", "BasicSR, bare"])
def test_estimator_with_weights_gives_the_networks_flow(
    layout: str, network: SpyNetwork, frames: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    save_file(LAYOUTS[layout](network.state_dict()), tmp_path / "spynet.safetensors")
    cfg = compose(["flow=spynet", f"flow.weights={tmp_path / 'spynet.safetensors'}"])
    assert torch.equal(build(cfg.flow)(*frames), network(*frames))


def test_a_missing_key_and_a_foreign_key_are_counted_and_named(network: SpyNetwork, tmp_path: Path) -> None:
    state = openmmlab(network.state_dict())
    del state["basic_module.3.basic_module.4.conv.bias"]
    state["basic_module.6.basic_module.0.conv.bias"] = torch.zeros(32)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not hold SPyNet's weights: 59 of 60 tensors fit") as told:
        SpyNet(str(tmp_path / "other.pth"))
    assert "1 missing ['basic_module.3.basic_module.8.bias']" in str(told.value)
    assert "1 unexpected ['basic_module.6.basic_module.0.bias']" in str(told.value)


def test_a_wrong_shape_is_named(network: SpyNetwork, tmp_path: Path) -> None:
    torch.save({**network.state_dict(), "basic_module.0.basic_module.0.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"1 of wrong shape \['basic_module\.0\.basic_module\.0\.weight"):
        SpyNet(str(tmp_path / "w.pth"))


def test_another_normalisation_is_refused(network: SpyNetwork) -> None:
    for value in (torch.full((1, 3, 1, 1), 0.5), torch.zeros(1)):
        with pytest.raises(WeightsError, match=r"flow\.weights=x: its mean is not ImageNet's"):
            spynet_state({**network.state_dict(), "mean": value}, "flow.weights=x")


def test_what_was_fetched_is_taken_by_itself(
    network: SpyNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("VSRBENCH_SPYNET", raising=False)
    file = tmp_path / "BasicVSR_REDS4.pth"
    torch.save({"params": {f"spynet.{key}": value for key, value in network.state_dict().items()}}, file)
    monkeypatch.setattr("vsrbench.flow.spynet.fetched", {"basicvsr_reds4": file}.get)
    taken = build(compose(["flow=spynet"]).flow).net.state_dict()
    assert all(torch.equal(taken[key], value) for key, value in network.state_dict().items())
    untouched = build(compose(["flow=spynet", "flow.random=true"]).flow).net.state_dict()
    assert any(not torch.equal(untouched[key], value) for key, value in network.state_dict().items())


def test_without_weights_it_says_what_to_give_or_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VSRBENCH_SPYNET", raising=False)
    with pytest.raises(WeightsError, match=r"spynet_20210409-c6c1bd09\.pth.*flow=dis or flow=farneback"):
        build(compose(["flow=spynet"]).flow)
    with pytest.raises(WeightsError, match=r"flow\.weights=.*none\.pth: no such file"):
        SpyNet(str(tmp_path / "none.pth"))
    monkeypatch.setenv("VSRBENCH_SPYNET", "/data/spynet.pth")
    assert compose(["flow=spynet"]).flow.weights == "/data/spynet.pth"
