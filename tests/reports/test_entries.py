from pathlib import Path

import pytest
import yaml

from vsrbench.errors import RunError
from vsrbench.reports.entries import differing, groups

VALUES = {"psnr_y": 26.0, "consistency": 0.5}


def test_bicubic_comes_first_and_the_truth_last(make_run) -> None:
    folders = [make_run(name, VALUES) for name in ("gt", "dgaf", "basicvsrpp", "ldm", "bicubic")]
    (group,) = groups(folders)
    assert [e.label for e in group.entries] == [
        "bicubic",
        "diffusion baseline",
        "BasicVSR++",
        "DGAF-VSR",
        "ground truth",
    ]
    assert group.truth() is group.entries[-1] and group.entries[-1] not in group.methods
    assert group.named("dgaf") is group.named("DGAF-VSR")
    with pytest.raises(RunError, match="no entry 'sateco'"):
        group.named("sateco")


def test_other_protocols_data_and_clips_are_other_groups(make_run) -> None:
    first = make_run("bicubic", VALUES)
    protocol = make_run("ldm", VALUES, protocol={"id": "sateco", "hash": "f" * 16})
    data = make_run("dgaf", VALUES, data={"set": "vid4"})
    assert [g.title for g in groups([first, protocol, data])] == [
        "sample ×4, protocol vsrbench", "sample ×4, protocol sateco", "vid4 ×4, protocol vsrbench",
    ]  # fmt: skip


def test_every_protocol_of_a_run_counts(make_run) -> None:
    folder = make_run("bicubic", VALUES)
    text = (folder / "result.json").read_text().replace('"id": "vsrbench"', '"id": "dgaf"').replace("0123", "9999")
    (folder / "result_dgaf.json").write_text(text)
    assert [g.result["protocol"]["id"] for g in groups([folder])] == ["vsrbench", "dgaf"]


def test_runs_that_differ_in_their_seed_alone_are_one_entry(make_run) -> None:
    made = [
        make_run(f"s{seed}", {"psnr_y": 26.0 + seed}, settings={"seed": seed, "sampler": {"steps": 4}}, method="dgaf")
        for seed in (1, 3)
    ]
    (group,) = groups(made)
    assert len(group.entries) == 1 and group.entries[0].value("psnr_y") == 28.0
    assert group.entries[0].value("psnr_y", "coffee") == 28.0


@pytest.mark.parametrize(("lengths", "entries"), [((5, 5), 1), ((5, 7), 2)])
def test_trainings_that_differ_in_their_seed_alone_are_seeds(
    make_run, tmp_path: Path, lengths: tuple[int, int], entries: int
) -> None:
    made = []
    for seed, frames in enumerate(lengths):
        training = tmp_path / f"training{seed}"
        (training / "checkpoints").mkdir(parents=True)
        (training / "config.yaml").write_text(
            yaml.safe_dump({"verb": "train", "seed": seed, "train": {"frames": frames}})
        )
        settings = {"seed": 1, "ckpt_path": str(training / "checkpoints" / "last.ckpt")}
        made.append(make_run(f"s{seed}", VALUES, settings=settings, method="dgaf"))
    labels = [e.label for e in groups(made)[0].entries]
    assert len(labels) == entries and ("training.train.frames=7" in labels[-1]) is (entries == 2)


def test_a_run_that_keeps_no_settings_stands_alone(make_run) -> None:
    made = [make_run(name, VALUES, method="dgaf") for name in ("one", "two")]
    assert [e.label for e in groups(made)[0].entries] == ["DGAF-VSR (one)", "DGAF-VSR (two)"]


def test_groups_of_one_title_are_told_apart(make_run) -> None:
    other = make_run("ldm", VALUES, protocol={"hash": "f" * 16})
    assert [g.title.partition(" (")[2] for g in groups([make_run("bicubic", VALUES), other])] == [
        "hash 01234567, test, 2 clips, 9 frames)", "hash ffffffff, test, 2 clips, 9 frames)",
    ]  # fmt: skip


def test_other_settings_of_a_method_are_told_apart(make_run) -> None:
    made = [
        make_run(f"n{steps}", VALUES, settings={"seed": 1, "sampler": {"steps": steps}}, method="dgaf")
        for steps in (4, 8)
    ]
    assert [e.label for e in groups(made)[0].entries] == ["DGAF-VSR (sampler.steps=4)", "DGAF-VSR (sampler.steps=8)"]


def test_a_setting_that_the_configuration_repeats_counts_once(make_run) -> None:
    made = [
        make_run(f"n{n}", VALUES, settings={"sampler": {"steps": n}, "method": {"sampler": {"steps": n}}}, method="ldm")
        for n in (4, 8)
    ]
    entries = groups(made)[0].entries
    assert differing(entries) == ["sampler.steps"]
    assert entries[0].label == "diffusion baseline (sampler.steps=4)"


def test_a_reason_is_no_number(make_run) -> None:
    reason = {"unavailable": "no weights"}
    (group,) = groups([make_run("bicubic", {"psnr_y": 26.0, "lpips_alex": reason})])
    assert group.entries[0].value("lpips_alex") == reason
    assert group.entries[0].value("dists") == "not_applicable"


def test_foreign_frames_lie_in_the_run_folder_or_where_they_were_judged(make_run, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    run = make_run("other", VALUES, predictions=str(theirs))
    (entry,) = groups([run])[0].entries
    assert entry.frames("coffee") == run / "frames" / "coffee"
    (run / "frames").rename(theirs)
    assert entry.frames("coffee") == theirs / "coffee"
    theirs.rename(tmp_path / "gone")
    with pytest.raises(RunError, match=r"no folder .*theirs/coffee with the frames that were evaluated"):
        entry.frames("coffee")


def test_a_folder_without_a_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no result\.json in .*nothing"):
        groups([tmp_path / "nothing"])


def test_runs_of_one_method_are_ordered_by_their_settings_and_numbers_by_size(make_run) -> None:
    made = [
        make_run(
            f"r{steps}{kind}", {"psnr_y": 26.0}, settings={"sampler": {"steps": steps, "kind": kind}}, method="dgaf"
        )
        for steps, kind in ((16, "ddim"), (2, "dpmpp"), (2, "ddim"), (0.5, "ddim"))
    ]
    labels = [
        entry.label
        for entry in groups([*made, make_run("gt", {"psnr_y": 1.0}), make_run("bicubic", {"psnr_y": 1.0})])[0].entries
    ]
    assert labels[0] == "bicubic" and labels[-1] == "ground truth"
    told = [label.partition("(")[2].rstrip(")") for label in labels[1:-1]]
    assert told == [
        f"sampler.kind={k}, sampler.steps={s}" for k, s in (("ddim", 0.5), ("ddim", 2), ("ddim", 16), ("dpmpp", 2))
    ]
