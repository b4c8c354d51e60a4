import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vsrbench.benchmarks.flops import fake, flops, measure
from vsrbench.config import compose
from vsrbench.errors import ConfigError


def test_a_convolution_a_linear_layer_and_attention() -> None:
    """2 x multiply-adds, from the shapes."""
    conv, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(16, 5)
    assert flops(lambda: conv(torch.zeros(2, 3, 10, 12))) == 2 * (2 * 10 * 12) * 8 * 3 * 9
    assert flops(lambda: linear(torch.zeros(7, 16))) == 2 * 7 * 16 * 5
    q, k = torch.zeros(1, 2, 6, 4), torch.zeros(1, 2, 9, 4)  # two heads, 6 queries, 9 keys, width 4
    assert flops(lambda: F.scaled_dot_product_attention(q, k, k)) == 2 * (2 * 2 * 6 * 9 * 4)


def test_the_work_of_the_papers_networks() -> None:
    """Counted before, with other code: U-Net 0.286, guide without attention 0.213, VAE decoder 0.671 at LR 64x64."""
    overrides = ["method=dgaf", "size=paper", "variant=released", "task=flops", "bench.height=64", "bench.width=64"]
    report = measure(compose(overrides, verb="bench"))
    rows = {row["part"]: row for row in report.rows}
    for part, tera in {"denoising U-Net": 0.286, "guiding U-Net": 0.213, "VAE decoder": 0.671}.items():
        assert rows[part]["unit"] == pytest.approx(tera, abs=0.0005)
    assert rows["sum"]["frame"] == pytest.approx(sum(rows[p]["frame"] or 0 for p in rows if not p.startswith("sum")))
    assert "LR 64x64 to 256x256" in report.title


def test_720p_output_whatever_the_scale() -> None:
    """The x4 prior sees the same grid, so x8 costs what x4 does."""
    reports = [measure(compose(["size=tiny", f"scale={s}", "task=flops"], verb="bench")) for s in (4, 8)]
    assert "LR 180x320 to 720x1280" in reports[0].title and "LR 90x160 to 720x1280" in reports[1].title
    assert reports[0].rows[-1]["frame"] == reports[1].rows[-1]["frame"]


def test_no_weights_are_made() -> None:
    from torch._subclasses.fake_tensor import FakeTensor

    method = fake(compose(["method=dgaf", "size=tiny"], verb="bench"))
    assert all(isinstance(p.data, FakeTensor) for p in method.parameters())


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ConfigError, match="method=bicubic names no networks"):
        measure(compose(["method=bicubic", "task=flops"], verb="bench"))
    with pytest.raises(ConfigError, match=r"bench\.frames=0: give a whole number from 1 or null"):
        measure(compose(["size=tiny", "task=flops", "bench.frames=0"], verb="bench"))
