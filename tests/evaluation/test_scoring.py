from functools import partial

import numpy as np
import pytest
import torch

from vsrbench.benchmarks.dummy_weights import fill
from vsrbench.errors import ConfigError, DataError
from vsrbench.evaluation.scoring import AT_ONCE, Expected, score
from vsrbench.metrics.frame import luma, psnr, quantise, ssim
from vsrbench.metrics.scorer import Scorer


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


def test_reads_a_few_frames_at_a_time_and_every_pair_of_neighbours(make_source, write, make_protocol):
    source = make_source("a", frames=20)
    metrics = score(write(source), [source], make_protocol()).metrics
    assert source.longest_read == AT_ONCE + 1
    assert len(metrics["psnr_y"]["clips"]["a"]["frames"]) == 20
    assert len(metrics["consistency"]["clips"]["a"]["frames"]) == 19


def test_how_frames_are_grouped_changes_no_value(make_source, write, make_protocol, monkeypatch):
    source = make_source("a", frames=7)
    folder, found = write(source, noisy(source.hr, 0.05)), []
    for at_once in (1, 3, 8):
        monkeypatch.setattr("vsrbench.evaluation.scoring.AT_ONCE", at_once)
        found.append(score(folder, [source], make_protocol()).metrics)
    for other in found[1:]:  # to the last digit but one: sums over a batch are vectorised otherwise on some processors
        assert numbers(other) == pytest.approx(numbers(found[0]), rel=1e-12, nan_ok=True)


def numbers(tree, path=""):
    """{path: number} of nested dictionaries and lists; words count by their place alone."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    inner = {key: value for name, one in items for key, value in numbers(one, f"{path}/{name}").items()}
    return inner if isinstance(tree, dict | list) else {path: tree if isinstance(tree, int | float) else 0.0}


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
            ("estimated", True, "dis"),
            ("exact_or_estimated", False, "dis"),
            ("exact_or_estimated", True, "exact"),
        ],
    )
    def test_the_result_says_which_motion_it_was(self, make_source, write, make_protocol, switch, exact_known, kind):
        flow = torch.zeros(2, 2, 16, 20) if exact_known else None
        source = make_source("a", still=True, flow=flow)
        scores = score(write(source), [source], make_protocol(scene_flow=switch))
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
            score(folder, [source], make_protocol(metrics=self.METRICS, scene_flow=switch)).metrics
            for switch in ("exact", "estimated")
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


def test_metrics_that_cannot_be_made_say_which_file_is_missing(
    make_source, write, make_protocol, monkeypatch, tmp_path
):
    monkeypatch.setenv("VSRBENCH_METRIC_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("VSRBENCH_RAFT", raising=False)
    source = make_source("a")
    protocol = make_protocol(metrics=["psnr_y", "lpips_alex", "tof_stablevsr", "fid"], flow="raft")
    metrics = score(write(source), [source], protocol).metrics
    assert isinstance(metrics["psnr_y"]["mean"], float)
    reasons = {name: metrics[name]["mean"]["unavailable"] for name in ("lpips_alex", "tof_stablevsr", "fid")}
    assert "alexnet-owt-7be5be79.pth" in reasons["lpips_alex"] or "pyiqa" in reasons["lpips_alex"]
    assert "VSRBENCH_RAFT" in reasons["tof_stablevsr"] and reasons["fid"]
    assert len(metrics["lpips_alex"]["clips"]["a"]["frames"]) == 3


def test_the_centre_square_alone_counts(make_source, write, make_protocol):
    """What lies outside, however wrong, changes nothing; LR, HR and exact flow are cut on one grid."""
    source = make_source("a", flow=torch.zeros(2, 2, 16, 20))
    out = noisy(source.hr, 0.05)
    ruined = out.clone()
    ruined[..., :4, :] = ruined[..., -4:, :] = 0
    ruined[..., :8] = ruined[..., -8:] = 1
    protocol = make_protocol(window=24)
    values = [score(write(source, frames), [source], protocol).metrics for frames in (out, ruined)]
    assert values[0] == values[1]
    inner = psnr(quantise(out)[..., 4:28, 8:32], quantise(source.hr)[..., 4:28, 8:32])
    assert values[0]["psnr_rgb"]["clips"]["a"]["frames"] == pytest.approx(inner.tolist())


def test_a_square_larger_than_the_frames_is_refused(make_source, write, make_protocol):
    source = make_source("a")
    with pytest.raises(ConfigError, match=r"centre squares of 34 pixels, a has 40x32 at scale=2"):
        score(write(source), [source], make_protocol(window=34))


def test_the_first_frames_or_all_but_the_ends(make_source, write, make_protocol):
    source = make_source("a", frames=5)
    folder = write(source, noisy(source.hr, 0.05))
    everything = score(folder, [source], make_protocol(metrics=["psnr_y"])).metrics["psnr_y"]["clips"]["a"]["frames"]
    for changes, kept in (({"frames": 2}, slice(0, 2)), ({"trim": 1}, slice(1, 4))):
        metrics = score(folder, [source], make_protocol(metrics=["psnr_y"], **changes)).metrics
        assert metrics["psnr_y"]["clips"]["a"]["frames"] == everything[kept]


def test_a_gap_between_frames_that_count_makes_no_pair(make_source, write, make_protocol):
    source = make_source("a", frames=6)
    source.scored = [0, 1, 4]
    metrics = score(write(source), [source], make_protocol()).metrics
    assert len(metrics["psnr_y"]["clips"]["a"]["frames"]) == 3
    assert len(metrics["consistency"]["clips"]["a"]["frames"]) == 1


def test_opencvs_luma_is_that_of_opencv(make_source, write, make_protocol):
    import cv2

    source = make_source("a", frames=1)
    out = noisy(source.hr, 0.05)

    def converted(frames: torch.Tensor) -> torch.Tensor:
        pixels = quantise(frames[0]).permute(1, 2, 0).numpy()
        planes = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2YUV_I420)
        return torch.from_numpy(planes[:32]).view(1, 32, 40)

    protocol = make_protocol(metrics=["psnr_y"], luma="opencv_i420")
    value = score(write(source, out), [source], protocol).metrics["psnr_y"]["mean"]
    assert value == pytest.approx(psnr(converted(out), converted(source.hr)).item())
    other = score(write(source, out), [source], make_protocol(metrics=["psnr_y"])).metrics["psnr_y"]["mean"]
    assert value != other and value == pytest.approx(other, abs=0.05)


def test_a_red_image_is_red(make_source, write, make_protocol):
    """Y of pure red is 81.5: channels that are read the other way round would have 41."""
    source = make_source("a", frames=1)
    source.hr[:] = torch.tensor([1.0, 0, 0]).view(3, 1, 1)
    out = source.hr.clone()
    out[..., 0, 0] = 0
    value = score(write(source, out), [source], make_protocol(metrics=["psnr_y"])).metrics["psnr_y"]["mean"]
    assert value == pytest.approx(10 * np.log10(255**2 / (65.481**2 / (32 * 40))))


def test_the_ground_truth_is_judged_where_it_is_expected(make_source, write, make_protocol):
    source = make_source("a", still=True)
    scores = score(write(source, source.hr), [source], make_protocol(), expected=Expected(truth=True))
    assert "infinite" in scores.metrics["psnr_y"]["mean"]["unavailable"]
    assert scores.metrics["ssim_y"]["mean"] == pytest.approx(1)
    assert scores.metrics["consistency"]["mean"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"crop": 4}, "psnr_rgb"), ({"window": 16}, "psnr_rgb"), ({"frames": 2}, "psnr_rgb"), ({"trim": 1}, "psnr_rgb"),
        ({"luma": "opencv_i420"}, "psnr_y"), ({"averaging": "frames"}, "psnr_rgb"),
        ({"flow": "farneback"}, "ewarp"), ({"flow": "farneback"}, "consistency"), ({"mask": "lai"}, "ewarp"),
        ({"scene_flow": "exact"}, "consistency"),
    ],
)  # fmt: skip
def test_every_switch_changes_a_number(make_source, write, make_protocol, change, metric):
    long, short = make_source("long", frames=5), make_source("short", frames=3, seed=1)
    write(long, noisy(long.hr, 0.05))
    folder = write(short, noisy(short.hr, 0.1))
    values = [
        score(folder, [long, short], make_protocol(metrics=[metric], **switches)).metrics[metric]["mean"]
        for switches in ({}, change)
    ]
    assert values[0] != values[1]


def test_the_channel_decides_what_lpips_and_dists_see(make_source, write, make_protocol, monkeypatch, tmp_path):
    """Red and blue are off, luma is not. tLPIPS sees colour whatever the channel, as DGAF-VSR's does."""
    pytest.importorskip("pyiqa", reason="needs the extra: pip install 'vsrbench[metrics]'")
    names = ["lpips_alex", "dists", "tlpips_stablevsr"]
    assert fill(tmp_path / "weights", names[:2]) == names[:2]  # random weights in the form of the published ones
    made = partial(Scorer, folder=tmp_path / "weights", verify=False)
    monkeypatch.setattr("vsrbench.evaluation.scoring.Scorer", made)
    source = make_source("a", frames=2)
    source.hr = torch.full((2, 3, 64, 64), 128 / 255)
    out = source.hr.clone()
    change = torch.tensor([-10.0, 0, 26]).view(3, 1, 1) / 255  # 65.481 of a red level are 24.966 of 2.6 blue ones
    out[0, :, ::2] += change
    out[1, :, ::3] += change
    folder = write(source, out)
    for channel, sees in (("rgb", True), ("luma", False)):
        metrics = score(folder, [source], make_protocol(metrics=names, channel=channel)).metrics
        found = [metrics[name]["mean"] for name in names]
        assert [value > 1e-4 for value in found] == [sees, sees, True]


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
