import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vsrbench.flow.warp import consistent, inside, pixel_grid, resize_flow, warp

pixels = st.integers(2, 17)
shifts = st.floats(-1.5, 1.5)


def constant(x: float, y: float, height: int, width: int) -> Tensor:
    """A flow (1,2,H,W) that is the same everywhere."""
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, height, width)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def ramp(height: int, width: int) -> Tensor:
    """An affine image (1,1,H,W): bilinear interpolation is exact on it."""
    x, y = pixel_grid(height, width, torch.zeros(1, dtype=torch.float64))
    return (0.3 * x - 0.7 * y + 2)[None, None]


@settings(max_examples=30)
@given(pixels, pixels)
def test_zero_flow_is_the_identity(height: int, width: int) -> None:
    image = noise(2, 3, height, width)
    zero = torch.zeros(2, 2, height, width)
    for padding in ("zeros", "border"):
        assert torch.allclose(warp(image, zero, padding=padding), image, atol=2e-6)


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -2), (-4, 5)])
def test_whole_pixels_shift(x: int, y: int) -> None:
    image = noise(1, 3, 12, 14)
    moved = warp(image, constant(x, y, 12, 14))
    expected = torch.zeros_like(image)
    rows, columns = torch.arange(12) + y, torch.arange(14) + x
    known_rows, known_columns = (rows >= 0) & (rows < 12), (columns >= 0) & (columns < 14)
    block = image[..., rows[known_rows], :][..., columns[known_columns]]
    expected[..., known_rows[:, None] & known_columns] = block.flatten(-2)
    assert torch.allclose(moved, expected, atol=1e-5)


@settings(max_examples=30)
@given(shifts, shifts, st.integers(5, 17), st.integers(5, 17))
def test_affine_images_move_exactly_inside(x: float, y: float, height: int, width: int) -> None:
    image, flow = ramp(height, width), constant(x, y, height, width).double()
    known = inside(flow)
    assert torch.allclose(warp(image, flow)[known], (image + 0.3 * x - 0.7 * y)[known], atol=1e-6)


@settings(max_examples=20)
@given(shifts, shifts, st.integers(3, 17), st.integers(3, 17))
def test_released_alignment_reads_where_the_released_codes_do(x: float, y: float, height: int, width: int) -> None:
    """Position p is read at p*W/(W-1) - 0.5: an exact warp by the flow that leads there gives the same."""
    image, flow = noise(1, 2, height, width).double(), constant(x, y, height, width).double()
    size = torch.tensor([width, height], dtype=torch.float64).view(1, 2, 1, 1)
    grid = pixel_grid(height, width, flow)
    position = (grid + flow) * size / (size - 1) - 0.5
    assert torch.allclose(warp(image, flow, align="released"), warp(image, position - grid), atol=1e-6)


def test_released_alignment_zooms_by_half_a_pixel() -> None:
    image = torch.arange(9.0).expand(1, 1, 9, 9)
    moved = warp(image, torch.zeros(1, 2, 9, 9), align="released")[0, 0, 4]
    assert torch.allclose(moved[[1, 4, 7]], torch.tensor([1 * 9 / 8 - 0.5, 4.0, 7 * 9 / 8 - 0.5]), atol=1e-5)


def test_unknown_alignment() -> None:
    with pytest.raises(ValueError, match="align='corners': use exact or released"):
        warp(noise(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), align="corners")


def test_outside_is_zero_or_the_border() -> None:
    image = noise(1, 3, 6, 6) + 1
    away = constant(20, 0, 6, 6)
    assert warp(image, away).abs().max() == 0
    assert torch.allclose(warp(image, away, padding="border"), image[..., -1:].expand_as(image))


def test_half_precision_keeps_its_positions() -> None:
    """bf16 knows whole numbers up to 256 only; positions must not be computed in it."""
    image = torch.arange(600.0).expand(1, 1, 2, 600)
    flow = constant(3, 0, 2, 600)
    low = warp(image.bfloat16(), flow.bfloat16())
    assert low.dtype == torch.bfloat16
    assert torch.equal(low[..., :597], image.bfloat16()[..., 3:])


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 30), st.integers(1, 30))
def test_resized_flow_means_the_same_motion(height: int, width: int, new_height: int, new_width: int) -> None:
    flow = constant(0.5, -2, height, width)
    resized = resize_flow(flow, (new_height, new_width))
    expected = constant(0.5 * new_width / width, -2 * new_height / height, new_height, new_width)
    assert torch.allclose(resized, expected, atol=1e-5)


def test_enlarged_flow_moves_the_enlarged_image() -> None:
    image = ramp(10, 12)
    flow = constant(1, 2, 10, 12).double()
    large = torch.nn.functional.interpolate(warp(image, flow), scale_factor=4, mode="bilinear")
    enlarged = torch.nn.functional.interpolate(image, scale_factor=4, mode="bilinear")
    moved = warp(enlarged, resize_flow(flow, (40, 48)))
    assert torch.allclose(moved[..., 2:30, 2:40], large[..., 2:30, 2:40], atol=1e-5)


def test_a_rotation_and_its_inverse_agree() -> None:
    """flow[i→j] and flow[j→i] of one rigid motion: consistent inside, and warping there and back is the identity."""
    height, width, angle = 24, 30, torch.tensor(0.05)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    grid = pixel_grid(height, width, torch.zeros(1)) - torch.tensor([(width - 1) / 2, (height - 1) / 2]).view(2, 1, 1)
    there = (torch.einsum("ij,jhw->ihw", turn, grid) - grid)[None]
    back = (torch.einsum("ji,jhw->ihw", turn, grid) - grid)[None]
    assert torch.equal(consistent(there, back), inside(there))
    image = ramp(height, width).float()
    returned = warp(warp(image, back), there)
    assert torch.allclose(returned[..., 6:-6, 6:-6], image[..., 6:-6, 6:-6], atol=1e-4)


def test_flows_that_disagree_mark_occlusion() -> None:
    there, back = constant(2, 0, 8, 20), constant(-2, 0, 8, 20).clone()
    back[..., 10:] = 0
    agreed = consistent(there, back)[0, 0]
    assert agreed[:, :7].all()
    assert not agreed[:, 9:18].any()


def test_inside() -> None:
    known = inside(constant(1, 0, 3, 4))[0, 0]
    assert known[:, :3].all()
    assert not known[:, 3].any()
