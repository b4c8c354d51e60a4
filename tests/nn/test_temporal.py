"""The module over time: nothing at the start, then over frames alone."""

import pytest
import torch

from vsrbench.errors import ConfigError
from vsrbench.nn import temporal
from vsrbench.nn.temporal import TemporalModule


def awake(channels: int = 8, head_dim: int = 4, reach: int = 16, depth: int = 1, kind: str = "dot") -> TemporalModule:
    """A module that does something, in float64."""
    torch.manual_seed(0)
    module = TemporalModule(channels, head_dim, reach, depth, kind).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    return module


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_starts_as_the_identity_bit_for_bit(frames: int) -> None:
    x = torch.randn(2, frames, 8, 3, 5)
    assert torch.equal(TemporalModule(8, 4)(x), x)


def test_gradients_at_the_first_and_second_step() -> None:
    """At the first step the convolution and the last layer move, then everything does."""
    torch.manual_seed(0)
    module, x = TemporalModule(8, 4), torch.randn(1, 4, 8, 3, 3)
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    moved = []
    for _ in range(2):
        optimiser.zero_grad()
        module(x).sin().sum().backward()
        assert all(p.grad is not None for p in module.parameters())
        moved.append({name for name, p in module.named_parameters() if p.grad.abs().max() > 0})
        optimiser.step()
    assert moved[0] == {"conv.weight", "conv.bias", "to_out.weight", "to_out.bias"}
    assert moved[1] == {name for name, _ in module.named_parameters()}


def test_positions_do_not_see_each_other() -> None:
    module, x = awake(), torch.randn(1, 4, 8, 2, 3).double()
    other = x.clone()
    other[..., 1, 2] += 1
    changed = (module(x) - module(other)).abs().amax((0, 1, 2)) > 0
    assert changed.nonzero().tolist() == [[1, 2]]


def test_convolution_over_time() -> None:
    module, x = awake(), torch.randn(2, 5, 8, 2, 3).double()
    line = module.conv(x[:, :, :, 1, 2].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(module.convolved(x.movedim(2, -1))[:, :, 1, 2], line)


def test_attention_equals_the_formula() -> None:
    module, x = awake(), torch.randn(1, 5, 2, 3, 8).double()
    sequence = x[0, :, 1, 2]
    q, k, v = (part.unflatten(-1, (2, 4)) for part in module.to_qkv(module.norm(sequence)).chunk(3, dim=-1))
    time = torch.arange(5)
    bias = module.distance[:, time - time[:, None] + module.reach]
    weights = (torch.einsum("thd,shd->hts", q, k) / 2 + bias).softmax(-1)
    expected = module.to_out(torch.einsum("hts,shd->thd", weights, v).flatten(1))
    torch.testing.assert_close(module.attended(x)[0, :, 1, 2], expected)


def test_distances_instead_of_products_equal_the_formula() -> None:
    """GigaGAN's attention: queries and keys are one, their squared distances the logits."""
    module, x = awake(kind="l2"), torch.randn(1, 5, 2, 3, 8).double()
    k, v = (part.unflatten(-1, (2, 4)) for part in module.to_kv(module.norm(x[0, :, 1, 2])).chunk(2, dim=-1))
    time = torch.arange(5)
    bias = module.distance[:, time - time[:, None] + module.reach]
    distances = (k[:, None] - k[None]).square().sum(-1)  # (t, s, heads)
    weights = (bias - distances.permute(2, 0, 1) / 2).softmax(-1)
    expected = module.to_out(torch.einsum("hts,shd->thd", weights, v).flatten(1))
    torch.testing.assert_close(module.attended(x)[0, :, 1, 2], expected)


@pytest.mark.parametrize("kind", ["dot", "l2"])
def test_deeper_modules_attend_once_more_per_layer(kind: str) -> None:
    x = torch.randn(2, 3, 8, 2, 2)
    assert torch.equal(TemporalModule(8, 4, depth=3, kind=kind)(x), x)
    module, x = awake(depth=3, kind=kind), x.double()
    y = x.movedim(2, -1)
    y = y + module.convolved(y)
    for layer in (module, *module.deeper):
        y = y + layer.attended(y)
    torch.testing.assert_close(module(x), y.movedim(-1, 2))


def test_pieces_of_positions_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = awake(), torch.randn(2, 3, 8, 3, 5).double()
    whole = module(x)
    monkeypatch.setattr(temporal, "SEQUENCES", 40)  # 2 heads of 2 clips and 5 columns: 2 of 3 rows
    torch.testing.assert_close(module(x), whole)


def test_distances_beyond_reach_share_a_bias() -> None:
    bias = awake(reach=2).bias(6)[0]
    assert torch.equal(bias[:, 0, 2], bias[:, 0, 5])
    assert torch.equal(bias[:, 1, 2], bias[:, 3, 4])
    assert not torch.equal(bias[:, 0, 1], bias[:, 1, 0])


def test_narrow_maps_have_one_head_and_odd_ones_are_refused() -> None:
    assert TemporalModule(24).heads == 1
    with pytest.raises(ConfigError, match="do not divide 100 channels"):
        TemporalModule(100, head_dim=30)
