"""L2 attention through the fused kernels against its formula."""

import math

import pytest
import torch
from torch import Tensor

from vsrbench.nn.attention import L2Attention, l2_attention


def naive(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    distance = (query.unsqueeze(-2) - key.unsqueeze(-3)).square().sum(-1)
    return torch.softmax(-distance / math.sqrt(query.shape[-1]), dim=-1) @ value


@pytest.mark.parametrize("width", [3, 16, 64])
def test_equals_the_formula_with_its_gradient(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    parts = [torch.randn(2, 2, n, width, generator=generator, dtype=torch.float64) for n in (9, 10, 10)]
    parts = [part.requires_grad_() for part in parts]
    ours, theirs = l2_attention(*parts), naive(*parts)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    slopes = [torch.autograd.grad(result.sin().sum(), parts) for result in (ours, theirs)]
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_tied_queries_have_finite_gradients() -> None:
    key = torch.randn(1, 1, 6, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(l2_attention(key, key, key).square().sum(), key)
    assert torch.isfinite(gradient).all()


def test_sixteen_bits_keep_large_norms_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    key = 4 * torch.randn(1, 1, 50, 64, generator=generator).bfloat16()  # |k|² about 1000: bf16 is 4 off there
    value = torch.randn(1, 1, 50, 64, generator=generator).bfloat16()
    near = key + 0.5 * torch.randn(key.shape, generator=generator).bfloat16()
    exact = naive(near.double(), key.double(), value.double())
    assert (l2_attention(near, key, value) - exact).abs().mean() < 0.02


def test_starts_near_the_identity_and_keeps_the_shape() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12, 5, 7)
    y = L2Attention(12, heads=3, head_dim=8)(x)
    assert y.shape == x.shape
    assert 0 < (y - x).square().mean() < 0.1


def test_attends_to_places_by_content_alone() -> None:
    """Without positions, moved content moves the result along."""
    torch.manual_seed(1)
    layer, x = L2Attention(8, 2, 4).double(), torch.randn(1, 8, 4, 6).double()
    torch.testing.assert_close(layer(x.flip(-1)), layer(x).flip(-1))


def test_large_maps_are_cut_into_windows() -> None:
    torch.manual_seed(2)
    layer = L2Attention(4, 1, 4, limit=100).double()
    x = torch.randn(1, 4, 65, 10).double()
    apart = torch.cat([layer(half) for half in x.tensor_split(2, dim=2)], dim=2)
    torch.testing.assert_close(layer(x), apart)


def test_second_derivative_with_the_plain_kernel() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.manual_seed(3)
    layer = L2Attention(4, 1, 4, mlp_ratio=1).double()
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(layer, torch.randn(1, 4, 2, 2).double().requires_grad_())
