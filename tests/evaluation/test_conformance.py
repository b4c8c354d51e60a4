import pytest

from vsrbench import published
from vsrbench.evaluation.conformance import FAMILIES, compare, recorded, reported
from vsrbench.evaluation.protocol import select, shipped
from vsrbench.metrics.catalog import METRICS

CLIPS = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}
BICUBIC = {"name": "bicubic", "kernel": "matlab"}
MISSING = {"unavailable": "no file x"}
# the recorded means over the whole clips; the published row is theirs, rounded
WHOLE = {"psnr_y": 23.7836, "ssim_y": 0.63472, "lpips_vgg": MISSING, "dists": MISSING, "niqe_basicsr": 7.2453}
WHOLE["clipiqa"] = 0.31


def protocol(name="sateco", data="vid4", scale=4):
    return select(shipped()[name], data, {"name": "bicubic", "path": "double"}, scale)


def results(values, clips=CLIPS):
    return {name: {"mean": v, "clips": {c: {"mean": v, "frames": []} for c in clips}} for name, v in values.items()}


def coverage(clips=CLIPS, absent=(), short=()):
    return {"set": "vid4", "clips": clips, "absent": list(absent), "short": dict(short)}


def verdict(values=WHOLE, data=None, method=BICUBIC, of=None):
    return compare(results(values), of or protocol(), data or coverage(), method)


def states(found):
    return {cell["metric"]: cell["state"] for cell in found["cells"]}


def test_a_row_that_rounds_to_the_printed_one_verifies_the_protocol():
    found = verdict()
    assert (found["verdict"], found["published"], found["row"]) == ("verified", "sateco_vid4", "Bicubic")
    assert found["why"] == "2 of 6 reported values are met, the others could not be compared"
    assert states(found)["psnr_y"] == states(found)["ssim_y"] == "met"
    [psnr] = [cell for cell in found["cells"] if cell["metric"] == "psnr_y"]
    assert psnr["printed"] == 23.78 and psnr["difference"] == pytest.approx(0.0036)


@pytest.mark.parametrize(("name", "value"), [("psnr_y", 23.7851), ("psnr_y", 23.7749), ("ssim_y", 0.6386)])
def test_a_row_that_does_not_deviates_and_says_by_how_much(name, value):
    """0.6386 is the SSIM of averaging over frames instead of clips."""
    found = verdict({**WHOLE, name: value})
    assert found["verdict"] == "deviates" and states(found)[name] == "missed"
    assert name in found["why"]


def test_values_of_another_bicubic_are_not_held_against_this_one():
    """SATeCo's NIQE is of a = -0.75, its PSNR of a = -0.5: two images in one row."""
    assert states(verdict())["niqe_basicsr"] == "reported for method.kernel=cv2"
    found = verdict({**WHOLE, "psnr_y": 23.8770, "niqe_basicsr": 7.5361}, method={"name": "bicubic", "kernel": "cv2"})
    assert found["verdict"] == "verified" and states(found)["psnr_y"] == "reported for method.kernel=matlab"


def test_what_is_unavailable_or_another_metric_is_not_compared():
    assert states(verdict())["dists"] == "unavailable"
    assert states(verdict())["clipiqa"].startswith("not comparable: 0.6 for bicubic frames")
    assert verdict({"psnr_rgb": 22.4})["verdict"] == "no_published_row"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (coverage({}), "data_absent"),
        (coverage({"calendar": 41}, absent=["city"]), "partial"),
        (coverage(short={"walk": [12, 47]}), "partial"),
    ],
)
def test_without_all_data_nothing_is_claimed(data, expected):
    found = verdict(data=data)
    assert found["verdict"] == expected
    assert expected == "data_absent" or set(states(found).values()).isdisjoint({"met", "missed"})


def test_other_methods_and_protocols_without_a_row_are_no_test():
    assert verdict(method={"name": "dgaf"})["verdict"] == "no_published_row"
    assert verdict(method={"name": None})["cells"] == []
    own = select(shipped()["vsrbench"], "vid4", {"name": "bicubic", "path": "double"}, 4)
    assert "protocol vsrbench" in verdict(of=own)["why"]
    assert verdict(of=protocol("videogigagan"))["verdict"] == "no_published_row"


def test_the_ground_truth_has_a_row_too():
    """VideoGigaGAN Figure 6: E_warp = RWE = 2.127e-3 for the ground truth of REDS4."""
    values = {"ewarp": 2.12704, "rwe": 2.12716, "lpips_vgg": MISSING}
    data = {"set": "reds", "clips": {"000": 100}, "absent": [], "short": {}}
    found = compare(results(values, ["000"]), protocol("videogigagan", "reds"), data, {"name": "gt"})
    assert found["verdict"] == "verified" and states(found)["ewarp"] == states(found)["rwe"] == "met"


def test_recorded_clips_are_compared_frame_count_by_frame_count():
    values = {"calendar": 20.1988, "walk": 26.2}
    metrics = {"psnr_y": {"mean": 23.2, "clips": {c: {"mean": v, "frames": []} for c, v in values.items()}}}
    data = coverage({"calendar": 3, "walk": 12}, short={"calendar": [3, 41], "walk": [12, 47]})
    found = compare(metrics, protocol(), data, BICUBIC)
    assert found["clips"]["calendar"]["psnr_y"] == {"recorded": 20.1988, "difference": 0.0, "state": "met"}
    assert found["clips"]["walk"]["psnr_y"]["state"] == "missed"
    assert found["why"] == "0 clips are absent, 2 cut short; 1 of 2 values recorded for these frames are met"
    assert compare(metrics, protocol("dgaf"), data, BICUBIC)["clips"] == {}  # another luma: nothing is recorded for it


def test_the_recorded_clips_have_the_published_mean():
    rows = recorded()["vid4"]["bicubic_x4"]["matlab"]
    for name, value in (("psnr_y", 23.7836), ("ssim_y", 0.63472), ("psnr_rgb", 22.3686), ("ssim_rgb", 0.60978)):
        assert sum(rows[clip][frames][name] for clip, frames in CLIPS.items()) / 4 == pytest.approx(value, abs=1e-4)


def test_every_printed_metric_of_a_bicubic_row_is_one_of_ours():
    for identity in published.load()["protocols"]:
        for place, value in reported(identity, "Bicubic"):
            assert any(name.split("_")[0] == FAMILIES[value.metric] for name in METRICS), place


def test_the_numbers_of_printed_bicubic_rows():
    counts = {identity: len(reported(identity, "Bicubic")) for identity in published.load()["protocols"]}
    assert {k: n for k, n in counts.items() if n} == {
        "stablevsr_reds4": 7, "stablevsr_vimeo": 7, "sateco_reds4": 6, "sateco_vid4": 6, "vgg_reds4": 3,
        "dgaf_reds4": 7, "dgaf_vid4": 7, "dgaf_reds4_x8": 7, "dgaf_reds4_x16": 7,
    }  # fmt: skip
