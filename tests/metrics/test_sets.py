import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motion_fakes import moving, moving_clip
from vsrbench.errors import DataError
from vsrbench.metrics.frame import quantise
from vsrbench.metrics.sets import SIZE, frechet, resized


def samples(count: int, seed: int, width: int = 6) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(2, 40))
def test_is_zero_for_a_set_and_itself_and_symmetric(n, m):
    a, b = samples(n, 0), samples(m, 1)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a)) and frechet(a, b) > 0


def test_a_shift_counts_its_squared_length():
    a = samples(30, 0)
    assert frechet(a, a + torch.tensor([3.0, 4.0, 0, 0, 0, 0])) == pytest.approx(25)


def test_a_stretch_counts_the_squared_difference_of_deviations():
    """Of one axis: (s1 - s2)^2."""
    a = samples(30, 0, 1)
    assert frechet(a, 3 * a - 2 * a.mean()) == pytest.approx(4 * a.var().item())


def test_does_not_depend_on_the_axes_or_the_order():
    a, b = samples(9, 0), samples(12, 1)
    turn = torch.linalg.qr(samples(6, 2))[0]
    assert frechet(a @ turn, b @ turn) == pytest.approx(frechet(a, b))
    assert frechet(a.flip(0), b) == pytest.approx(frechet(a, b))


def test_is_the_textbook_formula():
    """With a matrix square root by eigenvalues, of covariances that have full rank."""
    a, b = samples(50, 0), 2 * samples(70, 1)[:, [1, 0, 2, 3, 4, 5]] + 1
    c1, c2 = (torch.cov(x.T) for x in (a, b))
    root = np.sqrt(np.linalg.eigvals((c1 @ c2).numpy()).real.clip(0)).sum()
    expected = (a.mean(0) - b.mean(0)).square().sum().item() + c1.trace().item() + c2.trace().item() - 2 * root
    assert frechet(a, b) == pytest.approx(expected)


def test_needs_two_frames():
    with pytest.raises(DataError, match="fid needs two frames"):
        frechet(samples(1, 0), samples(5, 0))


def test_frames_are_resized_as_pillow_does():
    """clean-fid's rule: each channel in floating point, bicubic with antialiasing."""
    frame = (moving(height=400, width=520)[0] * 255).round()
    own = resized(frame[None].byte())[0]
    for channel in range(3):
        picture = Image.fromarray(frame[channel].numpy(), mode="F").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(picture).clip(0, 255) - own[channel].numpy()).max() < 0.02


@pytest.mark.slow
def test_features_of_a_batch_are_those_of_its_frames(tmp_path):
    """The real network on seeded random weights."""
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    from vsrbench.benchmarks.dummy_weights import fill
    from vsrbench.metrics.scorer import Scorer

    assert fill(tmp_path, ["fid"]) == ["fid"]
    data = moving_clip(frames=3)
    scorer = Scorer(["fid"], folder=tmp_path, verify=False)
    truth = quantise(data.hr[0])
    for out in (truth, truth.flip(-1)):
        clip = scorer.clip()
        clip.add(out[:2], data.window(0, 2))
        clip.add(out[1:], data.window(1, 3), overlap=1)
        clip.finish()
        same = out is truth
        assert (scorer.set_values()["fid"] == pytest.approx(0, abs=1e-6)) is same
    assert scorer.features["out"][0].shape == (2, 2048)
    assert torch.allclose(scorer.inception(truth[:1]), scorer.features["out"][0][:1], rtol=1e-4, atol=1e-5)
