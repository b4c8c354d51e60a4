import pytest
import torch

from vsrbench.errors import DataError
from vsrbench.evaluation.scoring import score
from vsrbench.metrics.frame import luma, psnr, quantise, ssim


def noisy(frames: torch.Tensor, strength: float) -> torch.Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    return (frames + strength * noise).clamp(0, 1)


def test_gives_the_values_of_the_metrics_frame_by_frame(make_source, write, make_protocol):
    source = make_source("a")
    out = noisy(source.hr, 0.05)
    metrics = score(write(source, out), [source], make_protocol()).metrics
    a, b = quantise(out), quantise(source.hr)
    assert metrics["psnr_rgb"]["clips"]["a"]["frames"] == pytest.approx(psnr(a, b).tolist())
    assert metrics["ssim_rgb"]["clips"]["a"]["frames"] == pytest.approx(ssim(a, b).tolist())
    assert metrics["psnr_y"]["clips"]["a"]["frames"] == pytest.approx(psnr(luma(a), luma(b)).tolist())
    assert metrics["ssim_y"]["clips"]["a"]["frames"] == pytest.approx(ssim(luma(a), luma(b)).tolist())
    assert len(metrics["consistency"]["clips"]["a"]["frames"]) == 2


def test_averages_over_clips_or_over_frames_as_the_protocol_says(make_source, write, make_protocol):
    short, long = make_source("short", frames=1), make_source("long", frames=3, seed=1)
    write(short, noisy(short.hr, 0.2))
    folder = write(long, noisy(long.hr, 0.01))
    values = {}
    for averaging in ("clips", "frames"):
        protocol = make_protocol(averaging=averaging, metrics=["psnr_y"])
        values[averaging] = score(folder, [short, long], protocol).metrics["psnr_y"]
    clips = values["clips"]["clips"]
    assert values["clips"]["mean"] == pytest.approx((clips["short"]["mean"] + clips["long"]["mean"]) / 2)
    assert values["frames"]["mean"] == pytest.approx((clips["short"]["mean"] + 3 * clips["long"]["mean"]) / 4)


def test_reads_two_frames_at_a_time(make_source, write, make_protocol):
    source = make_source("a", frames=6)
    score(write(source), [source], make_protocol())
    assert source.longest_read == 2


def test_only_frames_of_the_convention_count(make_source, write, make_protocol):
    source = make_source("a")
    source.scored = [1]
    metrics = score(write(source), [source], make_protocol()).metrics
    assert len(metrics["psnr_y"]["clips"]["a"]["frames"]) == 1
    assert metrics["consistency"]["mean"] == "not_applicable"


class TestConsistency:
    def test_is_zero_for_still_frames_under_exact_zero_flow(self, make_source, write, make_protocol):
        source = make_source("a", still=True, flow=torch.zeros(2, 2, 16, 20))
        scores = score(write(source), [source], make_protocol())
        assert scores.metrics["consistency"]["mean"] == pytest.approx(0, abs=1e-9)
        assert scores.flow == {"a": "exact"}

    def test_ranks_flicker_below_stillness(self, make_source, write, make_protocol):
        source = make_source("a", still=True, flow=torch.zeros(2, 2, 16, 20))
        still = score(write(source), [source], make_protocol()).metrics["consistency"]["mean"]
        flickering = score(write(source, noisy(source.hr, 0.05)), [source], make_protocol()).metrics
        assert flickering["consistency"]["mean"] > still + 1

    def test_moving_frames_are_consistent_under_their_exact_flow(self, make_source, write, make_protocol):
        source = make_source("a", still=True)
        source.hr = torch.stack([source.hr[0].roll(2 * t, dims=2) for t in range(3)])
        source.flow = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(2, 2, 16, 20)  # one LR pixel is two HR pixels
        out = torch.stack([(source.hr[0] * 0.5).roll(2 * t, dims=2) for t in range(3)])
        value = score(write(source, out), [source], make_protocol()).metrics["consistency"]["mean"]
        assert value == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(
        ("switch", "exact_known", "kind"),
        [
            ("exact", False, "not_applicable"),
            ("exact", True, "exact"),
            ("dis", True, "dis"),
            ("exact_or_dis", False, "dis"),
            ("exact_or_dis", True, "exact"),
        ],
    )
    def test_the_result_says_which_motion_it_was(self, make_source, write, make_protocol, switch, exact_known, kind):
        flow = torch.zeros(2, 2, 16, 20) if exact_known else None
        source = make_source("a", still=True, flow=flow)
        scores = score(write(source), [source], make_protocol(consistency_flow=switch))
        assert scores.flow == {"a": kind}
        value = scores.metrics["consistency"]["mean"]
        assert value == "not_applicable" if kind == "not_applicable" else value == pytest.approx(0, abs=1e-6)

    def test_a_pair_without_common_pixels_says_so(self, make_source, write, make_protocol):
        source = make_source("a", frames=2, flow=torch.full((1, 2, 16, 20), 100.0))
        value = score(write(source), [source], make_protocol()).metrics["consistency"]["mean"]
        assert value == {"unavailable": "no pixel is visible in both frames of a pair"}


class TestWarpingErrors:
    METRICS = ("psnr_y", "ewarp", "rwe")

    def test_black_frames_have_no_ewarp_but_an_rwe(self, make_source, write, make_protocol):
        source = make_source("a")
        scores = score(write(source, 0 * source.hr), [source], make_protocol(metrics=self.METRICS))
        difference = (source.hr[1:].double() - source.hr[:-1].double()).square().sum(1).mean((1, 2))
        assert scores.metrics["ewarp"]["clips"]["a"]["frames"] == [0, 0]
        assert scores.metrics["rwe"]["clips"]["a"]["frames"] == pytest.approx((1000 * difference).tolist())

    def test_still_output_of_a_still_scene_has_neither(self, make_source, write, make_protocol):
        source = make_source("a", still=True)
        metrics = score(write(source), [source], make_protocol(metrics=self.METRICS)).metrics
        assert [metrics[name]["mean"] for name in self.METRICS[1:]] == pytest.approx([0, 0], abs=1e-9)

    def test_an_output_nearly_the_ground_truth_has_equal_values(self, make_source, write, make_protocol):
        """The ground truth itself, refused as output, would have RWE = E_warp: one corner pixel differs by 1/255."""
        source = make_source("a")
        out = source.hr.clone()
        out[:, :, 0, 0] = (out[:, :, 0, 0] - 1 / 255).abs()
        metrics = score(write(source, out), [source], make_protocol(metrics=self.METRICS)).metrics
        assert metrics["ewarp"]["mean"] > 1
        assert metrics["ewarp"]["mean"] == pytest.approx(metrics["rwe"]["mean"], rel=0.01)

    def test_flow_is_that_of_the_output_whatever_the_data_know(self, make_source, write, make_protocol):
        source = make_source("a", flow=torch.full((2, 2, 16, 20), 3.0))
        folder = write(source)
        values = [
            score(folder, [source], make_protocol(metrics=self.METRICS, consistency_flow=switch)).metrics
            for switch in ("exact", "dis")
        ]
        assert values[0] == values[1]

    def test_without_ground_truth_only_ewarp_applies(self, make_source, write, make_protocol):
        source = make_source("a", known=False)
        metrics = score(write(source), [source], make_protocol(metrics=self.METRICS)).metrics
        assert metrics["rwe"]["mean"] == "not_applicable" and metrics["ewarp"]["mean"] > 0

    def test_each_can_be_asked_for_alone(self, make_source, write, make_protocol):
        source = make_source("a")
        folder = write(source)
        both = score(folder, [source], make_protocol(metrics=self.METRICS)).metrics
        for name in self.METRICS[1:]:
            assert score(folder, [source], make_protocol(metrics=[name])).metrics == {name: both[name]}

    def test_a_pair_without_common_pixels_says_so(self, make_source, write, make_protocol, monkeypatch):
        def away(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.full((1, 2, 32, 40), 100.0)

        monkeypatch.setattr("vsrbench.evaluation.motion.DIS", lambda: away)
        source = make_source("a", frames=2)
        metrics = score(write(source), [source], make_protocol(metrics=self.METRICS)).metrics
        for name in self.METRICS[1:]:
            assert metrics[name]["mean"] == {"unavailable": "no pixel is visible in both frames of a pair"}


def test_without_ground_truth_nothing_that_needs_it_applies(make_source, write, make_protocol):
    source = make_source("a", known=False)
    metrics = score(write(source), [source], make_protocol()).metrics
    assert {metric["mean"] for metric in metrics.values()} == {"not_applicable"}


def test_one_frame_equal_to_the_ground_truth_is_neither_capped_nor_left_out(make_source, write, make_protocol):
    source = make_source("a")
    out = noisy(source.hr, 0.05)
    out[1] = source.hr[1]
    psnr_y = score(write(source, out), [source], make_protocol()).metrics["psnr_y"]
    frames = psnr_y["clips"]["a"]["frames"]
    assert [isinstance(value, dict) for value in frames] == [False, True, False]
    assert "a/0001.png" in psnr_y["mean"]["unavailable"]


def test_the_ground_truth_itself_is_refused(make_source, write, make_protocol):
    source = make_source("a")
    with pytest.raises(DataError, match="equals the ground truth"):
        score(write(source, source.hr), [source], make_protocol())


def test_frames_of_a_single_colour_are_flagged(make_source, write, make_protocol):
    source = make_source("a")
    out = noisy(source.hr, 0.05)
    out[2] = 0.25
    assert score(write(source, out), [source], make_protocol()).warnings == [
        "a/0002.png: the frame has a single colour"
    ]


def test_a_wrong_size_is_refused_before_scoring(make_source, write, make_protocol):
    good, bad = make_source("a"), make_source("b")
    write(good)
    folder = write(bad, bad.hr[..., :-2, :])
    with pytest.raises(DataError, match=r"b/0000\.png has 40x30 pixels"):
        score(folder, [good, bad], make_protocol())
    assert good.longest_read == 0


def test_perceptual_metrics_that_cannot_be_made_say_why(make_source, write, make_protocol, monkeypatch):
    monkeypatch.setattr("vsrbench.metrics.perceptual.why_unavailable", lambda name: f"{name} has no weights")
    source = make_source("a")
    metrics = score(write(source), [source], make_protocol(perceptual=["lpips_alex", "niqe"])).metrics
    assert metrics["lpips_alex"]["mean"] == {"unavailable": "lpips_alex has no weights"}
    assert metrics["niqe"]["clips"]["a"]["frames"] == [{"unavailable": "niqe has no weights"}] * 3
    assert isinstance(metrics["psnr_y"]["mean"], float)


def test_progress_counts_every_frame(make_source, write, make_protocol):
    class Counter:
        total = done = 0

        def start(self, total: int, what: str) -> None:
            self.total = total

        def advance(self, count: int = 1) -> None:
            self.done += count

    counter = Counter()
    source = make_source("a", frames=4)
    score(write(source), [source], make_protocol(), progress=counter)
    assert counter.total == counter.done == 4
