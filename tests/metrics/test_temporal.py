import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motion_fakes import constant_flow, everything, moving, noisy, texture
from vsrbench.errors import DataError
from vsrbench.flow.estimators import DIS
from vsrbench.flow.warp import inside
from vsrbench.metrics.masks import visible
from vsrbench.metrics.temporal import consistency, estimated, features, lai, on_hr_grid, stablevsr, warping_error


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

    @settings(max_examples=15)
    @given(st.floats(0.1, 1), st.floats(0, 0.3))
    def test_grows_with_the_square_of_the_contrast_whatever_the_brightness(self, contrast, brightness):
        frames = moving().double()
        flow = constant_flow(0, 0, 2, 64, 96).double()
        whole = warping_error(frames, flow, everything(flow))
        changed = warping_error(contrast * frames + brightness, flow, everything(flow))
        assert torch.allclose(changed, contrast**2 * whole, rtol=1e-9)

    @settings(max_examples=15)
    @given(st.sampled_from([(-1,), (-2,), (-1, -2)]))
    def test_a_mirrored_clip_under_mirrored_flow_has_the_same_error(self, dims):
        frames, flow = noisy(moving()).double(), constant_flow(2, 0, 2, 64, 96).double()
        flow[:, 1] = 0.5
        sign = torch.tensor([-1.0 if -1 in dims else 1.0, -1.0 if -2 in dims else 1.0]).view(1, 2, 1, 1)
        error = warping_error(frames, flow, inside(flow)[:, 0])
        mirrored = (sign * flow).flip(dims)
        assert torch.allclose(error, warping_error(frames.flip(dims), mirrored, inside(mirrored)[:, 0]))


class TestLai:
    def test_is_a_third_of_ewarp_under_the_same_flow_and_mask(self):
        frames = noisy(moving())
        flow, seen = estimated(frames, DIS(), "lai")
        assert torch.allclose(3 * lai(frames, flow, seen), warping_error(frames, flow, seen))

    def test_is_zero_for_shifted_copies_under_their_flow(self):
        frames, flow = moving(3), constant_flow(3, 0, 2, 64, 96)
        assert lai(frames, flow, visible(flow, -flow, "lai") & inside(flow)[:, 0]).tolist() == pytest.approx(
            [0, 0], abs=1e-6
        )

    def test_frame_wise_noise_ranks_worse_than_a_shifted_copy(self):
        flow = constant_flow(3, 0, 2, 64, 96)
        seen = inside(flow)[:, 0]
        shifted = moving(3, shift=2)
        assert (lai(noisy(moving(3), 0.03), flow, seen) > 10 * lai(shifted, flow, seen)).all()


class TestStableVSR:
    def test_the_released_warp_charges_a_still_clip(self):
        """What the paper prints as WE holds up to this much of the warp itself; black frames have none."""
        still = noisy(texture()).expand(2, 3, 48, 64)
        flow = constant_flow(0, 0, 1, 48, 64)
        assert stablevsr(still, flow, everything(flow)).item() > 0.1
        assert lai(still, flow, everything(flow)).item() < 1e-6
        assert stablevsr(torch.zeros(2, 3, 48, 64), flow, everything(flow)).item() == 0

    def test_in_the_middle_of_the_frame_it_is_lais_error_read_backwards(self):
        """There the half-pixel offset is zero: position p is read at p W/(W-1) - 0.5."""
        frames = noisy(moving(3), 0.05)
        back = constant_flow(-3, 0, 2, 64, 96)
        middle = torch.zeros(2, 64, 96, dtype=torch.bool)
        middle[:, 31:33, 50:51] = True  # read three pixels to the left, at 47.5 of 96
        backwards = lai(frames.flip(0), back, middle).flip(0)
        assert torch.allclose(stablevsr(frames, back, middle), backwards, rtol=0.2)

    def test_judges_the_later_frame_against_the_earlier_one(self):
        frames = torch.zeros(2, 3, 8, 8)
        frames[1, :, 4, 4] = 1
        flow = constant_flow(0, 0, 1, 8, 8)
        only = torch.zeros(1, 8, 8, dtype=torch.bool)
        only[0, 4, 4] = True
        assert stablevsr(frames, flow, only).item() == pytest.approx(1000)


class TestFeatures:
    """The thesis's E_warp as we read it."""

    def test_is_zero_for_maps_that_move_with_the_scene(self):
        maps = torch.nn.functional.normalize(moving(2, height=32, width=48), dim=1)
        flow = constant_flow(4, 0, 2, 64, 96)  # of the frames, twice the maps' size
        assert features(maps, flow, inside(flow)[:, 0]).tolist() == pytest.approx([0, 0], abs=1e-6)

    def test_is_the_squared_distance_of_unit_vectors(self):
        maps = torch.zeros(2, 128, 4, 4)
        maps[0, 0], maps[1, 5] = 1, 1  # at right angles everywhere
        flow = constant_flow(0, 0, 1, 8, 8)
        assert features(maps, flow, everything(flow)).item() == pytest.approx(2000)

    def test_both_readings_of_the_thesis_are_what_shifting_by_hand_gives(self):
        """Under a shift by two pixels; of features the channels are summed, of pixels averaged, and only pixels know
        how bright a clip is."""
        frames, flow = noisy(moving(3)).double(), constant_flow(2, 0, 2, 64, 96)
        seen = inside(flow)[:, 0]
        change = (frames[1:, :, :, 2:] - frames[:-1, :, :, :-2]).square()
        assert torch.allclose(lai(frames, flow, seen), 1000 * change.mean((1, 2, 3)))
        assert torch.allclose(lai(frames / 2, flow, seen), 1000 * change.mean((1, 2, 3)) / 4)
        for bright in (1, 0.5):
            maps = torch.nn.functional.normalize(torch.nn.functional.avg_pool2d(bright * frames, 2), dim=1)
            change = (maps[1:, :, :, 1:] - maps[:-1, :, :, :-1]).square()
            assert torch.allclose(features(maps, flow, seen), 1000 * change.sum(1).mean((1, 2)))

    def test_a_position_counts_where_all_its_pixels_do(self):
        maps = torch.zeros(2, 128, 4, 4)
        maps[:, 0] = 1
        maps[1, :, 0, 0] = -maps[1, :, 0, 0]
        flow = constant_flow(0, 0, 1, 8, 8)
        seen = everything(flow)
        seen[0, 1, 1] = False
        assert features(maps, flow, seen).item() == 0
        assert features(maps, flow, everything(flow)).item() == pytest.approx(4000 / 16)


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
