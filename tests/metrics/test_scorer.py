import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motion_fakes import clip_of, moving, moving_clip, noisy
from vsrbench.errors import ConfigError, DataError
from vsrbench.metrics.catalog import METRICS
from vsrbench.metrics.frame import quantise
from vsrbench.metrics.perceptual import RECIPES
from vsrbench.metrics.scorer import NOTHING_VISIBLE, Scorer, Settings
from vsrbench.types import Clip

OWN = [n for n in METRICS if n not in RECIPES and n not in ("dover", "vmaf", "tlpips_tecogan", "tlpips_stablevsr")]


def truth_of(data: Clip) -> torch.Tensor:
    assert data.hr is not None
    return quantise(data.hr[0])


def score(out: torch.Tensor, data: Clip, names=OWN, cuts: tuple[int, ...] = (), **switches):
    """Values of a clip given in one piece, or cut in front of the frames ``cuts``."""
    clip = Scorer(names, Settings(**switches)).clip()
    edges = [0, *cuts, len(out)]
    for start, stop in zip(edges, edges[1:], strict=False):
        first = max(start - 1, 0)
        clip.add(out[first:stop], data.window(first, stop), overlap=start - first)
    return clip.finish()


def test_the_ground_truth_itself():
    data = moving_clip(exact=True)
    values = score(truth_of(data), data)
    assert all(math.isinf(value) for value in values["psnr_rgb"] + values["psnr_y"])
    for name in ("ssim_rgb", "ssim_y", "sharpness"):
        assert values[name] == pytest.approx([1] * 6)
    for name in ("tof_stablevsr", "error_change", "chunk_seam", "random_features"):
        assert set(values[name]) == {0}
    assert values["consistency"] == pytest.approx([0] * 5, abs=0.01)
    assert values["ewarp"] == values["rwe"]
    assert values["colour_drift"][0] < 0.1


def test_random_features_grow_with_the_error_and_do_not_see_brightness():
    data = moving_clip()
    frames = data.hr[0] / 2
    clip = replace(data, hr=frames[None])
    less, more = (score(quantise(noisy(frames, s)), clip, ["random_features"]) for s in (0.02, 0.05))
    brighter = score(quantise(frames + 0.1), clip, ["random_features"])
    rows = zip(*(found["random_features"] for found in (brighter, less, more)), strict=True)
    assert all(0 <= b < a < c < 1 for b, a, c in rows)


def test_counts_per_kind():
    data = moving_clip()
    values = score(truth_of(data), data)
    counts = {"frame": 6, "pair": 5, "clip": 1}
    assert {name: len(found) for name, found in values.items()} == {n: counts[METRICS[n].kind] for n in values}


@settings(max_examples=6)
@given(st.sets(st.integers(1, 5)))
def test_values_do_not_depend_on_how_frames_are_batched(cuts):
    data = moving_clip(exact=True)
    out = quantise(noisy(data.hr[0], 0.05))
    whole, parts = score(out, data), score(out, data, cuts=tuple(sorted(cuts)))
    for name, expected in whole.items():
        assert [x is None for x in parts[name]] == [x is None for x in expected], name
        assert [x or 0 for x in parts[name]] == pytest.approx([x or 0 for x in expected], rel=1e-6), name


def test_black_frames_have_no_ewarp_but_an_rwe():
    data = moving_clip()
    values = score(torch.zeros_like(truth_of(data)), data, ["ewarp", "rwe"])
    assert set(values["ewarp"]) == {0} and min(values["rwe"]) > 1


def test_noise_that_changes_per_frame_ranks_worse_than_a_shifted_copy():
    data = moving_clip(exact=True)
    temporal = [
        n for n in OWN if METRICS[n].kind in ("pair", "clip") and n not in ("rwe", "colour_drift", "chunk_seam")
    ]
    shifted = score(quantise(moving(4, 6, shift=1)), data, temporal)
    flickering = score(quantise(noisy(data.hr[0], 0.08)), data, temporal)
    for name in temporal:
        pairs = [(a, b) for a, b in zip(shifted[name], flickering[name], strict=True) if a is not None]
        assert pairs and all(a < b for a, b in pairs), name


def test_a_seam_is_found_where_it_was_put():
    data = moving_clip(2, 8)
    data = replace(data, hr=0.2 + data.hr / 2)
    out = truth_of(data).clone()
    out[4:] += 10
    assert score(out, data, ["chunk_seam"], chunk=4) == {"chunk_seam": [pytest.approx(10, abs=1e-3)]}
    assert score(out, data, ["chunk_seam"], chunk=5) == {"chunk_seam": [pytest.approx(0, abs=1e-3)]}
    assert score(out, data, ["chunk_seam"], (4,)) == {"chunk_seam": [pytest.approx(10, abs=1e-3)]}


def test_colour_that_wanders_is_told_without_ground_truth():
    lr = 0.3 + moving(0, 6, 16, 24) / 3
    levels = torch.arange(6.0).view(-1, 1, 1, 1)
    out = quantise(lr.repeat_interleave(4, -1).repeat_interleave(4, -2) + levels / 255)
    values = score(out, clip_of(None, lr), ["colour_shift", "colour_drift"])
    assert values["colour_drift"] == [pytest.approx(5 * 3**0.5, abs=0.05)]
    assert values["colour_shift"] == pytest.approx([n * 3**0.5 for n in range(6)], abs=0.05)


class TestWithoutGroundTruth:
    def test_what_needs_it_does_not_apply(self):
        data = moving_clip(exact=True)
        values = score(truth_of(data), replace(data, hr=None))
        for name, found in values.items():
            without = {"psnr_rgb": 6, "rwe": 5, "we": 5, "tof_stablevsr": 5, "chunk_seam": 1}.get(name)
            if without:
                assert found == [None] * without
        assert all(isinstance(v, float) for v in values["ewarp"] + values["consistency"])

    def test_scene_motion_is_unknown_where_it_could_only_be_estimated(self):
        data = moving_clip(exact=True)
        values = score(truth_of(data), replace(data, hr=None), ["consistency"], scene_flow="estimated")
        assert values == {"consistency": [None] * 5}


class TestMotion:
    def test_is_exact_where_the_data_know_it(self):
        data = moving_clip(exact=True)
        for scene_flow, motion in {
            "exact": "exact", "exact_or_estimated": "exact", "estimated": "estimated",
        }.items():  # fmt: skip
            clip = Scorer(["consistency"], Settings(scene_flow=scene_flow)).clip()
            clip.add(truth_of(data), data)
            assert clip.motion == motion

    def test_exact_alone_does_not_apply_to_other_data(self):
        data = moving_clip()
        assert score(truth_of(data), data, ["we_lai"], scene_flow="exact") == {"we_lai": [None] * 5}

    def test_without_raft_nothing_stands_in_but_exact_motion_needs_none(self, monkeypatch):
        monkeypatch.delenv("VSRBENCH_RAFT", raising=False)
        data = moving_clip(exact=True)
        values = score(
            truth_of(data), data, ["ewarp", "we", "tof_stablevsr", "tof_tecogan", "consistency"], flow="raft"
        )
        for name in ("ewarp", "we", "tof_stablevsr"):
            assert all("VSRBENCH_RAFT" in str(value) for value in values[name])
        assert all(isinstance(value, float) for value in values["consistency"])
        assert values["tof_tecogan"][2] == 0.0
        estimated = score(truth_of(data), data, ["consistency"], flow="raft", scene_flow="estimated")
        assert all("VSRBENCH_RAFT" in str(value) for value in estimated["consistency"])

    def test_a_pair_that_shows_nothing_twice_has_a_reason_and_the_others_a_value(self):
        data = moving_clip(exact=True)
        hidden = data.occlusion.clone()
        hidden[0, 2] = True
        values = score(truth_of(data), replace(data, occlusion=hidden), ["consistency"])["consistency"]
        assert values[2] == NOTHING_VISIBLE
        assert all(isinstance(values[n], float) for n in (0, 1, 3, 4))

    def test_the_mask_is_a_switch_of_ewarp(self):
        """Half of the picture stands still: there is a boundary of motion."""
        data = moving_clip(4)
        out = truth_of(data).clone()
        out[..., :48] = out[0, ..., :48]
        values = {mask: score(out, data, ["ewarp"], mask=mask)["ewarp"] for mask in ("occlusion", "ruder")}
        assert values["occlusion"] != values["ruder"]


def test_tecogan_leaves_two_frames_out_at_either_end():
    data = moving_clip(2, 8)
    values = score(truth_of(data), data, ["tof_tecogan"])["tof_tecogan"]
    assert [value is None for value in values] == [True, True, False, False, False, True, True]


def test_no_pair_across_a_gap():
    data = moving_clip()
    clip = Scorer(["ssim_y", "error_change"]).clip()
    for number in (0, 3, 5):
        clip.add(truth_of(data)[number : number + 1], data.window(number, number + 1))
    values = clip.finish()
    assert len(values["ssim_y"]) == 3 and values["error_change"] == []


def test_metrics_without_weights_say_so_for_every_frame(tmp_path, monkeypatch):
    monkeypatch.setenv("VSRBENCH_METRIC_WEIGHTS", str(tmp_path))
    names = ["lpips_alex", "tlpips_stablevsr", "ewarp_thesis", "fid", "dover", "ssim_rgb"]
    scorer = Scorer(names)
    assert scorer.unavailable.keys() == set(names) - {"ssim_rgb"}
    data = moving_clip()
    clip = scorer.clip()
    clip.add(truth_of(data), data)
    values = clip.finish() | {name: [value] for name, value in scorer.set_values().items()}
    for name, reason in scorer.unavailable.items():
        assert set(values[name]) == {reason}
    assert values["ssim_rgb"] == pytest.approx([1] * 6)


def test_a_crop_is_a_switch():
    data = moving_clip()
    out = truth_of(data).clone()
    out[..., :4] = 0
    assert math.isinf(score(out, data, ["psnr_rgb"], crop=4)["psnr_rgb"][0])
    assert score(out, data, ["psnr_rgb"])["psnr_rgb"][0] < 40


def test_what_is_refused():
    with pytest.raises(ConfigError, match="unknown 'lpips'"):
        Scorer(["lpips"])
    for switch in ("channel", "scene_flow", "mask"):
        with pytest.raises(ConfigError, match=rf"protocol\.{switch}=none: use"):
            Settings(**{switch: "none"})
    data = moving_clip()
    for out in (truth_of(data)[:3], truth_of(data).float()):
        with pytest.raises(DataError, match="do not fit one clip of 6 frames"):
            Scorer(["psnr_y"]).clip().add(out, data)


@pytest.mark.parametrize(("name", "least"), [("niqe", 96), ("niqe_basicsr", 96)])
def test_frames_too_small_for_a_metric_have_a_reason_and_no_fault(shared, monkeypatch, name, least):
    """The library ends in an exception on frames below a block of 96x96; the other metrics have their values."""
    monkeypatch.setenv("VSRBENCH_METRIC_WEIGHTS", str(shared / "material" / "weights"))
    for height, reason in (
        (least, None),
        (least - 4, f"it needs frames of {least} pixels or more a side, these have 104x92"),
    ):
        hr = (moving(4, 2, height, 104) * 255).round() / 255
        data = clip_of(hr, torch.nn.functional.avg_pool2d(hr, 4))
        values = score(truth_of(data), data, [name, "ssim_rgb"])
        assert values["ssim_rgb"] == pytest.approx([1, 1])
        assert values[name] == [reason] * 2 if reason else all(math.isfinite(value) for value in values[name])
