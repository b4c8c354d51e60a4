"""Zero initialisation, recomputation, full precision and the Charbonnier error."""

import pytest
import torch
from torch import Tensor, nn

from vsrbench.nn.functional import charbonnier, full_precision, precise, recomputed, zero_init


def test_zero_init_empties_a_layer_and_leaves_those_inside_it() -> None:
    layer = zero_init(nn.Conv2d(2, 3, 3))
    assert not layer.weight.any() and layer.bias is not None and not layer.bias.any()
    assert not zero_init(nn.Linear(2, 2, bias=False)).weight.any()
    outer = nn.Sequential(nn.Linear(2, 2))
    assert zero_init(outer) is outer and all(p.any() for p in outer.parameters())


def test_recomputed_runs_again_in_the_backward_pass_where_it_is_enabled() -> None:
    calls = []

    def double(x: Tensor) -> Tensor:
        calls.append(None)
        return x * x

    x = torch.tensor(3.0, requires_grad=True)
    for enabled, count in ((True, 2), (False, 1)):
        calls.clear()
        x.grad = None
        recomputed(double, x, enabled=enabled).backward()
        assert x.grad == 6 and len(calls) == count
    calls.clear()
    with torch.no_grad():
        assert recomputed(double, x) == 9 and len(calls) == 1


def test_precise_raises_16_bits_alone() -> None:
    for kind, wanted in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        assert precise(torch.ones(1, dtype=kind)).dtype == wanted


def test_full_precision_ends_autocast_where_there_is_one() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        with full_precision(x.device):
            assert layer(x).dtype == torch.float32
    with full_precision(torch.device("meta")):
        assert nn.Linear(2, 2, device="meta")(x.to("meta")).shape == (1, 2)


@pytest.mark.parametrize("eps", [1e-3, 1e-6])
def test_charbonnier_is_eps_where_nothing_differs_and_nearly_the_distance_elsewhere(eps: float) -> None:
    error = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    assert float(charbonnier(torch.zeros(3), eps)) == pytest.approx(eps)
    assert float(charbonnier(error, eps)) == pytest.approx(float(error.abs().mean()), rel=1e-3)
    nothing = torch.zeros(3, requires_grad=True)
    charbonnier(nothing, eps).backward()
    assert nothing.grad is not None and torch.equal(nothing.grad, torch.zeros(3))
