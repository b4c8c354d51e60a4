import pytest
import torch

from vsrbench.errors import DataError
from vsrbench.flow.estimators import DIS
from vsrbench.flow.warp import inside
from vsrbench.metrics.temporal import consistency, estimated, on_hr_grid, warping_error


def texture(height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    """A smooth random picture (3,H,W) in [0,1]."""
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)[0]


def constant_flow(dx: float, dy: float, pairs: int, height: int, width: int) -> torch.Tensor:
    return torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1).expand(pairs, 2, height, width).clone()


def everything(flow: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(flow[:, 0], dtype=torch.bool)


class TestConsistency:
    def test_is_zero_for_a_still_clip_under_zero_flow(self):
        frames = texture().expand(4, 3, 48, 64)
        flow = constant_flow(0, 0, 3, 48, 64)
        assert consistency(frames, flow, everything(flow)).tolist() == pytest.approx([0, 0, 0], abs=1e-9)

    @pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -2), (-4, 5)])
    def test_is_zero_for_shifted_copies_under_their_flow(self, dx, dy):
        frames = torch.stack([texture().roll((t * dy, t * dx), dims=(1, 2)) for t in range(3)])
        flow = constant_flow(dx, dy, 2, 48, 64)
        assert consistency(frames, flow, inside(flow)[:, 0]).tolist() == pytest.approx([0, 0], abs=1e-6)

    def test_rises_under_the_wrong_sign(self):
        frames = torch.stack([texture(), texture().roll(3, dims=2)])
        right, wrong = constant_flow(3, 0, 1, 48, 64), constant_flow(-3, 0, 1, 48, 64)
        assert consistency(frames, wrong, inside(wrong)[:, 0]) > 1 > consistency(frames, right, inside(right)[:, 0])

    def test_is_the_mean_square_over_channels_and_visible_pixels_times_1000(self):
        frames = torch.zeros(2, 3, 8, 8)
        frames[1, 0, :, :4] = 0.5  # one channel of the left half
        flow = constant_flow(0, 0, 1, 8, 8)
        left = torch.zeros(1, 8, 8, dtype=torch.bool)
        left[..., :4] = True
        assert consistency(frames, flow, left).item() == pytest.approx(1000 * 0.25 / 3)
        assert consistency(frames, flow, everything(flow)).item() == pytest.approx(1000 * 0.25 / 6)

    def test_flicker_ranks_by_its_strength(self):
        noise = torch.randn(4, 3, 48, 64, generator=torch.Generator().manual_seed(1))
        flow = constant_flow(0, 0, 3, 48, 64)
        still = texture().expand(4, 3, 48, 64)
        values = [consistency(still + s * noise, flow, everything(flow)).mean().item() for s in (0, 0.02, 0.05)]
        assert values == sorted(values) and values[1] > 0

    def test_ignores_what_is_not_visible(self):
        frames = torch.stack([texture(), texture()])
        flow = constant_flow(0, 0, 1, 48, 64)
        visible = everything(flow)
        visible[..., :10] = False
        frames[1, :, :, :10] = 0
        assert consistency(frames, flow, visible).item() == pytest.approx(0, abs=1e-9)

    def test_refuses_a_pair_without_a_visible_pixel(self):
        flow = constant_flow(0, 0, 1, 8, 8)
        with pytest.raises(DataError, match="no pixel is visible"):
            consistency(torch.zeros(2, 3, 8, 8), flow, ~everything(flow))

    def test_refuses_flow_of_another_grid(self):
        flow = constant_flow(0, 0, 1, 4, 4)
        with pytest.raises(DataError, match="need flow"):
            consistency(torch.zeros(2, 3, 8, 8), flow, everything(flow))


def moving(step: int = 2, frames: int = 3) -> torch.Tensor:
    """Crops (T,3,64,96) of a larger picture, which moves ``step`` pixels to the right per frame."""
    wide = texture(64, 128, 2)
    return torch.stack([wide[..., 32 - step * t :][..., :96] for t in range(frames)])


def noisy(frames: torch.Tensor, strength: float = 0.1) -> torch.Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    return (frames + strength * noise).clamp(0, 1)


def ewarp(out: torch.Tensor) -> float:
    return warping_error(out, *estimated(out, DIS())).mean().item()


def rwe(out: torch.Tensor, truth: torch.Tensor) -> float:
    return warping_error(truth, *estimated(out, DIS())).mean().item()


class TestWarpingError:
    """E_warp (frames = output) and RWE (frames = ground truth) under flow and mask of the output."""

    def test_is_the_squared_norm_over_channels_averaged_over_visible_pixels_times_1000(self):
        frames = torch.zeros(2, 3, 8, 8)
        frames[1, 0, :, :4], frames[1, 1, :, :4] = 0.3, 0.4
        flow = constant_flow(0, 0, 1, 8, 8)
        left = everything(flow) & (torch.arange(8) < 4)
        assert warping_error(frames, flow, left).item() == pytest.approx(1000 * (0.3**2 + 0.4**2))
        assert warping_error(frames, flow, everything(flow)).item() == pytest.approx(1000 * (0.3**2 + 0.4**2) / 2)

    def test_white_after_black_is_the_largest_value(self):
        flow = constant_flow(0, 0, 1, 8, 8)
        frames = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
        assert warping_error(frames, flow, everything(flow)).item() == pytest.approx(3000)

    def test_both_are_zero_for_a_still_clip(self):
        still = texture().expand(3, 3, 48, 64)
        assert ewarp(still) == rwe(still, still) == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("step", [1, 3])
    def test_is_zero_under_the_exact_flow_of_shifted_frames(self, step):
        frames = moving(step)
        flow = constant_flow(step, 0, 2, 64, 96)
        assert warping_error(frames, flow, inside(flow)[:, 0]).tolist() == pytest.approx([0, 0], abs=1e-6)

    def test_black_frames_have_no_ewarp_but_the_rwe_of_no_motion(self):
        truth = moving()
        black = torch.zeros_like(truth)
        difference = (truth[1:].double() - truth[:-1].double()).square().sum(1).mean().item()
        assert ewarp(black) == 0
        assert rwe(black, truth) == pytest.approx(1000 * difference) and difference > 1e-3
        assert rwe(black, truth) > 10 * rwe(truth, truth)

    def test_any_output_that_moves_as_the_ground_truth_has_its_rwe(self):
        """Half the contrast: another picture and another E_warp, but nearly the same flow."""
        truth = moving()
        faded = 0.25 + truth / 2
        black = torch.zeros_like(truth)
        assert ewarp(faded) < ewarp(truth)
        assert rwe(faded, truth) - rwe(truth, truth) < 0.01 * rwe(black, truth)

    def test_noise_that_changes_per_frame_ranks_worse_in_both(self):
        truth = moving()
        flickering = noisy(truth)
        assert ewarp(flickering) > 10 * ewarp(truth)
        assert rwe(flickering, truth) > 2 * rwe(truth, truth)

    def test_occluded_pixels_do_not_count(self):
        """A square of the picture appears from nowhere; the flows disagree there and nowhere else."""
        frames = texture().expand(2, 3, 48, 64).clone()
        frames[1, :, 10:20, 10:20] = 1 - frames[1, :, 10:20, 10:20]
        first = frames[0]

        def disagreeing(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            flow = constant_flow(0, 0, 1, 48, 64)
            flow[:, 0, 10:20, 10:20] = 5 if a[0].equal(first) else 0
            return flow

        flow, visible = estimated(frames, disagreeing)
        assert (~visible).sum() == 100
        assert warping_error(frames, flow, visible).item() == pytest.approx(0, abs=1e-9)
        assert warping_error(frames, flow, everything(flow)).item() > 1


class TestOnHRGrid:
    def test_scales_the_values_with_the_grid(self):
        flow = constant_flow(1.5, -0.5, 2, 6, 8)
        fine, _ = on_hr_grid(flow, torch.zeros(2, 6, 8, dtype=torch.bool), 4)
        assert fine.shape == (2, 2, 24, 32)
        assert fine[:, 0].unique().tolist() == [6.0] and fine[:, 1].unique().tolist() == [-2.0]

    def test_a_linear_flow_stays_linear_between_pixel_centres(self):
        """A zoom about the centre: HR pixel x lies at (x + 0.5) / 4 - 0.5 of the LR grid."""
        lr = torch.arange(8.0).expand(1, 6, 8)
        fine, _ = on_hr_grid(torch.stack([lr, torch.zeros(1, 6, 8)], 1), torch.zeros(1, 6, 8, dtype=torch.bool), 4)
        expected = 4 * ((torch.arange(32) + 0.5) / 4 - 0.5)
        assert torch.allclose(fine[0, 0, 12, 2:-2], expected[2:-2], atol=1e-5)

    def test_occlusion_grows_by_one_lr_pixel(self):
        occluded = torch.zeros(1, 6, 8, dtype=torch.bool)
        occluded[0, 2, 3] = True
        _, visible = on_hr_grid(torch.zeros(1, 2, 6, 8), occluded, 2)
        hidden = torch.zeros(12, 16, dtype=torch.bool)
        hidden[2:8, 4:10] = True
        assert visible[0].equal(~hidden)

    def test_pixels_that_leave_the_frame_are_not_visible(self):
        _, visible = on_hr_grid(constant_flow(1, 0, 1, 6, 8), torch.zeros(1, 6, 8, dtype=torch.bool), 4)
        assert visible[..., :28].all() and not visible[..., 28:].any()


class TestEstimated:
    def test_finds_the_motion_of_a_shifted_picture(self):
        frames = torch.stack([texture(64, 96, 2), texture(64, 96, 2).roll(2, dims=2)])
        flow, visible = estimated(frames, DIS())
        assert flow.shape == (1, 2, 64, 96) and visible.shape == (1, 64, 96)
        inner = visible[0, 16:48, 16:80]
        assert inner.float().mean() > 0.9
        assert flow[0, 0, 16:48, 16:80][inner].median().item() == pytest.approx(2, abs=0.3)

    def test_a_pixel_whose_flow_does_not_come_back_is_hidden(self):
        frames = torch.zeros(2, 3, 8, 8)
        frames[0] = 1

        def disagreeing(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            flow = torch.zeros(1, 2, 8, 8)
            flow[:, 0, :, 4] = 2 if a.mean() > b.mean() else 0  # forth, but not back
            return flow

        _, visible = estimated(frames, disagreeing)
        assert not visible[0, :, 4].any() and visible[0, :, :4].all() and visible[0, :, 5:].all()
