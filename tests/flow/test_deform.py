import vsrbench  # noqa: F401  # isort: skip  (before torchvision: see vsrbench.compat)
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.flow import deform
from vsrbench.flow.deform import deform_conv2d, has_compiled


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inputs(groups: int = 2, size: tuple[int, int] = (5, 6), dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """x, offsets of a few pixels, masks in (0,1), weight and bias of a 3x3 kernel, 4 to 3 channels."""
    return {
        "x": random(2, 4, *size, seed=1, dtype=dtype),
        "offset": 2 * random(2, groups * 18, *size, seed=2, dtype=dtype),
        "mask": random(2, groups * 9, *size, seed=3, dtype=dtype).sigmoid(),
        "weight": random(3, 4, 3, 3, seed=4, dtype=dtype),
        "bias": random(3, seed=5, dtype=dtype),
    }


def sampled(image: Tensor, y: float, x: float) -> float:
    """Bilinear value of (H,W) at a position, zero outside, by the definition."""
    total, (height, width) = 0.0, image.shape
    for i in range(height):
        for j in range(width):
            total += max(0.0, 1 - abs(y - i)) * max(0.0, 1 - abs(x - j)) * image[i, j].item()
    return total


def naive(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, steps: tuple[int, int, int] = (1, 1, 1)
) -> Tensor:
    """Every output position, channel and tap in a loop; steps: stride, padding, dilation."""
    (n, channels), (height, width), (rows, columns) = x.shape[:2], mask.shape[2:], weight.shape[2:]
    (stride, padding, dilation), taps = steps, rows * columns
    groups = mask.shape[1] // taps
    result = bias.view(1, -1, 1, 1).repeat(n, 1, height, width).clone()
    for b in range(n):
        for i in range(height):
            for j in range(width):
                for c in range(channels):
                    for tap in range(taps):
                        (k, m), place = divmod(tap, columns), (c // (channels // groups)) * taps + tap
                        dy, dx = offset[b, 2 * place : 2 * place + 2, i, j].tolist()
                        y, z = i * stride - padding + k * dilation + dy, j * stride - padding + m * dilation + dx
                        result[b, :, i, j] += weight[:, c, k, m] * sampled(x[b, c], y, z) * mask[b, place, i, j]
    return result


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_a_loop_over_the_definition(groups: int) -> None:
    given = inputs(groups, (3, 4))
    assert torch.allclose(deform_conv2d(**given, backend="plain"), naive(**given), atol=1e-12)


@pytest.mark.parametrize(("steps", "size", "kernel"), [((2, 1, 1), (3, 2), (3, 3)), ((1, 0, 2), (1, 4), (3, 2))])
def test_other_steps_and_kernels_equal_the_loop(
    steps: tuple[int, int, int], size: tuple[int, int], kernel: tuple[int, int]
) -> None:
    taps = kernel[0] * kernel[1]
    given = {
        "x": random(1, 2, 5, 6 if steps[0] == 1 else 3, seed=1),
        "offset": 3 * random(1, 4 * taps, *size, seed=2),
        "mask": random(1, 2 * taps, *size, seed=3).sigmoid(),
        "weight": random(2, 2, *kernel, seed=4),
        "bias": random(2, seed=5),
    }
    names = dict(zip(("stride", "padding", "dilation"), steps, strict=True))
    found = deform_conv2d(**given, **names, backend="plain")
    assert torch.allclose(found, naive(**given, steps=steps), atol=1e-12)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 0, 1)])
def test_without_offsets_it_is_a_convolution(stride: int, padding: int, dilation: int) -> None:
    x, weight, bias = inputs()["x"], inputs()["weight"], inputs()["bias"]
    expected = F.conv2d(x, weight, bias, stride, padding, dilation)
    offset = x.new_zeros(2, 36, *expected.shape[-2:])
    mask = x.new_ones(2, 18, *expected.shape[-2:])
    found = deform_conv2d(x, offset, mask, weight, bias, stride, padding, dilation, backend="plain")
    assert torch.allclose(found, expected, atol=1e-12)


def test_whole_pixel_offsets_move_the_picture() -> None:
    given = inputs()
    down, right = 2, -1
    offset = torch.tensor([down, right], dtype=torch.float64).repeat(18).view(1, 36, 1, 1).expand(2, 36, 5, 6)
    # a larger picture moved by the same vector: what is outside the small one must be zero
    wide = F.pad(given["x"], (4, 4, 4, 4))
    whole = F.conv2d(wide, given["weight"], padding=1)
    expected = whole[:, :, 4 + down : 9 + down, 4 + right : 10 + right]
    found = deform_conv2d(given["x"], offset, torch.ones_like(given["mask"]), given["weight"], backend="plain")
    assert torch.allclose(found, expected, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    given = {name: value.requires_grad_() for name, value in inputs(size=(2, 3)).items()}
    assert torch.autograd.gradcheck(lambda *v: deform_conv2d(*v, backend="plain"), tuple(given.values()))


@pytest.mark.skipif(not has_compiled(), reason="torchvision's compiled operators do not fit the installed torch")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("reach", [0.5, 3.0, 100.0])  # pixels; the last one is mostly outside of the frame
@pytest.mark.parametrize(
    ("channels", "groups", "size", "steps"),
    [
        (4, 1, (5, 7), (1, 1, 1)),
        (32, 16, (9, 11), (1, 1, 1)),
        (6, 3, (1, 13), (1, 1, 1)),
        (4, 4, (9, 11), (2, 1, 1)),
        (4, 2, (9, 11), (1, 2, 2)),
    ],
)
def test_equals_torchvisions_operator(
    channels: int, groups: int, size: tuple[int, int], steps: tuple[int, int, int], reach: float, dtype: torch.dtype
) -> None:
    """Values, and gradients of every input."""
    from torchvision.ops import deform_conv2d as theirs

    stride, padding, dilation = steps
    side = [(n + 2 * padding - 2 * dilation - 1) // stride + 1 for n in size]
    shapes = {
        "x": (2, channels, *size),
        "offset": (2, groups * 18, *side),
        "mask": (2, groups * 9, *side),
        "weight": (5, channels, 3, 3),
        "bias": (5,),
    }
    given = {name: random(*shape, seed=n, dtype=dtype) for n, (name, shape) in enumerate(shapes.items())}
    far = given["offset"] * reach
    given["offset"] = far.floor() + 0.1 + 0.8 * far.frac().abs()  # no whole pixels: the slope has two sides there
    given["mask"] = given["mask"].sigmoid()
    x, offset, mask, weight, bias = (value.requires_grad_() for value in given.values())
    slope = random(2, 5, *side, seed=9, dtype=dtype)
    found = {}
    for backend in ("plain", "compiled", "torchvision"):
        if backend == "torchvision":
            result = theirs(x, offset, weight, bias, stride, padding, dilation, mask)
        else:
            result = deform_conv2d(x, offset, mask, weight, bias, *steps, backend=backend)
        found[backend] = [result, *torch.autograd.grad(result, list(given.values()), slope)]
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for ours, compiled, expected in zip(*found.values(), strict=True):
        assert (ours - expected).abs().max() <= tolerance * (1 + expected.abs().max())
        assert (compiled - expected).abs().max() <= tolerance * (1 + expected.abs().max())


def test_compiled_is_refused_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deform, "has_compiled", lambda: False)
    with pytest.raises(ValueError, match="do not fit the installed torch; use 'plain'"):
        deform_conv2d(**inputs(), backend="compiled")


def test_auto_is_plain_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled operator is slower there."""
    monkeypatch.setattr(deform, "has_compiled", lambda: True)
    assert torch.equal(deform_conv2d(**inputs()), deform_conv2d(**inputs(), backend="plain"))


def test_autocast_changes_nothing() -> None:
    """Positions of 300 pixels have no fraction in bf16; the result keeps the type of its input."""
    given = inputs(size=(3, 300), dtype=torch.float32)
    expected = deform_conv2d(**given, backend="plain")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(deform_conv2d(**given, backend="plain"), expected)
        half = deform_conv2d(**{**given, "x": given["x"].bfloat16()}, backend="plain")
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": torch.zeros(2, 36, 5, 5)}, "offset must be"),
        ({"mask": torch.zeros(2, 10, 5, 6)}, "10 mask channels"),
        ({"mask": torch.zeros(2, 27, 5, 6)}, "27 mask channels"),
        ({"weight": torch.zeros(3, 2, 3, 3)}, "weight must be"),
        ({"backend": "fast"}, "backend='fast': use one of auto, plain, compiled"),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deform_conv2d(**{**inputs(), **change})
