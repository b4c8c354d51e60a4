import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motion_fakes import moving, noisy
from vsrbench.errors import DataError
from vsrbench.metrics.drift import cast, chunk_seam, colour_drift, colour_shift, error_change

LEVEL = 1 / 255
vectors = st.tuples(*[st.floats(-50, 50)] * 3).map(lambda v: torch.tensor(v, dtype=torch.float64))


def ramp(end: torch.Tensor, frames: int = 9) -> torch.Tensor:
    return torch.linspace(0, 1, frames, dtype=torch.float64).unsqueeze(1) * end


class TestColour:
    def test_frames_with_the_inputs_mean_colour_have_no_cast(self):
        lr = moving(height=16, width=24)
        out = lr.repeat_interleave(4, -1).repeat_interleave(4, -2)
        assert cast(out, lr).abs().max() < 1e-4

    def test_a_tint_is_told_in_levels(self):
        lr = moving(height=16, width=24) / 2
        tint = torch.tensor([3.0, 0.0, -4.0]).view(3, 1, 1) * LEVEL
        assert colour_shift(cast(lr + 0.1 + tint, lr + 0.1)).tolist() == pytest.approx([5, 5, 5], abs=1e-3)

    @settings(max_examples=25)
    @given(vectors, vectors)
    def test_drift_is_the_whole_change_of_an_even_ramp_whatever_the_start(self, start, end):
        assert colour_drift(start + ramp(end)) == pytest.approx(end.norm().item(), abs=1e-9)

    @settings(max_examples=25)
    @given(vectors)
    def test_a_constant_cast_does_not_drift(self, value):
        assert colour_drift(value.expand(7, 3)) == pytest.approx(0, abs=1e-9)

    @settings(max_examples=25)
    @given(st.integers(0, 10**6))
    def test_drift_is_the_same_backwards(self, seed):
        casts = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert colour_drift(casts) == pytest.approx(colour_drift(casts.flip(0)))

    def test_flicker_is_no_drift(self):
        flicker = torch.tensor([1.0, -1.0] * 10, dtype=torch.float64).unsqueeze(1) * torch.tensor([4.0, 0, 0])
        assert colour_drift(flicker) < 0.15 * colour_drift(ramp(torch.tensor([8.0, 0, 0]), 20))

    def test_one_frame_cannot_drift(self):
        with pytest.raises(DataError, match="two frames"):
            colour_drift(torch.zeros(1, 3))


class TestSeams:
    def test_an_error_that_stands_still_never_changes(self):
        truth = moving()
        assert error_change(truth + 0.1, truth).tolist() == pytest.approx([0, 0], abs=1e-4)
        assert error_change(truth, truth).tolist() == [0, 0]

    def test_a_change_is_told_in_levels(self):
        truth = moving(frames=4) * 0.5
        out = truth.clone()
        out[2:] += 6 * LEVEL
        assert error_change(out, truth).tolist() == pytest.approx([0, 6, 0], abs=1e-3)

    def test_frame_wise_noise_changes_more_than_a_shifted_copy(self):
        truth = moving(1)
        assert (error_change(noisy(truth), truth) > 3 * error_change(moving(1, shift=1), truth)).all()

    @pytest.mark.parametrize("chunk", [4, None])
    @settings(max_examples=25)
    @given(st.floats(0.5, 20), st.floats(0, 5))
    def test_finds_the_jump_that_was_put_between_chunks(self, chunk, jump, elsewhere):
        """Frames 0..3, 4..7, 8..11: the pairs 3 and 7 are seams."""
        changes = torch.full((11,), elsewhere, dtype=torch.float64)
        changes[[3, 7]] += jump
        assert chunk_seam(changes, chunk) == pytest.approx(jump)

    def test_a_jump_elsewhere_is_no_seam(self):
        changes = torch.ones(11, dtype=torch.float64)
        changes[5] += 9
        assert chunk_seam(changes, 4) == 0 and chunk_seam(changes) == 9

    @settings(max_examples=25)
    @given(st.integers(1, 12))
    def test_even_changes_show_no_seam(self, chunk):
        assert chunk_seam(torch.full((11,), 2.5, dtype=torch.float64), chunk) == 0

    def test_seams_of_a_clip_in_two_chunks(self):
        truth = 0.2 + moving(frames=8) / 2
        out = noisy(truth, 0.01)
        out[4:] += 5 * LEVEL
        assert chunk_seam(error_change(out, truth), 4) > 1.5
        assert chunk_seam(error_change(noisy(truth, 0.01), truth), 4) < 0.3

    def test_what_cannot_be_judged(self):
        for changes, chunk in ((torch.zeros(0), None), (torch.zeros(3), 0)):
            with pytest.raises(DataError, match="chunk_seam needs"):
                chunk_seam(changes, chunk)
