"""``eval`` from the configuration to result.json, on clips in memory that obey the data's contract."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch

from vsrbench import eval as entry
from vsrbench.config import compose
from vsrbench.data.sources import Source, Window
from vsrbench.errors import ConfigError, DataError, RunError
from vsrbench.evaluation import evaluate, outputs, results
from vsrbench.evaluation.frames import encode
from vsrbench.metrics import scorer
from vsrbench.metrics.frame import psnr, quantise
from vsrbench.nn.imresize import imresize
from vsrbench.reports.entries import groups
from vsrbench.types import Clip


class Ramp(Source):
    """Three frames of a moving smooth pattern, 8x12 at LR, scale 4."""

    scale = 4

    def __init__(self, name: str, speed: int) -> None:
        self.name, self.frame_names = name, ["0000", "0001", "0002"]
        x, y = torch.arange(48.0), torch.arange(32.0)
        wave = torch.stack([0.5 + 0.4 * torch.sin((x + speed * t) / 5) for t in range(3)])
        self.hr = (wave[:, None, None, :] * (y / 40 + 0.2)[:, None]).expand(3, 3, 32, 48)
        self.hr = (self.hr * 255).round() / 255

    @property
    def size(self) -> tuple[int, int]:
        return 8, 12

    @property
    def has_hr(self) -> bool:
        return True

    def load(self, positions: Sequence[int], window: Window | None = None) -> Clip:
        hr = self.hr[list(positions)]
        lr = imresize(hr, 0.25).clamp(0, 1)
        return Clip(lr=lr[None], hr=hr[None], name=[self.name], index=torch.tensor([list(positions)]), scale=4)


class Data:
    def __init__(self) -> None:
        self.sources = [Ramp("slow", 1), Ramp("fast", 3)]
        self.short: dict[str, list[int]] = {}

    def clips(self, split: str) -> list[Source]:
        assert split == "test"
        return list(self.sources)

    def coverage(self, split: str) -> dict:
        clips = {source.name: source.frames for source in self.sources}
        return {"set": "sample", "clips": clips, "absent": [], "short": self.short}


@pytest.fixture
def data(monkeypatch) -> Data:
    made = Data()
    for module in (entry, evaluate):
        monkeypatch.setattr(module, "build", lambda node: made)
    return made


@pytest.fixture
def configured(tmp_path):
    """configured("key=value", ...): a configuration whose run folder is tmp_path/runs/x."""
    fixed = ["method=bicubic", f"runs={tmp_path / 'runs'}", "name=x", "inference.device=cpu"]
    return lambda *overrides: compose([*fixed, *overrides], verb="eval")


def read_result(tmp_path) -> dict:
    return json.loads((tmp_path / "runs" / "x" / "result.json").read_text())


def test_writes_frames_and_the_result_that_follows_from_them(data, configured, tmp_path, capsys):
    entry.run(configured())
    result = read_result(tmp_path)
    out = quantise(imresize(data.sources[0].load([0]).lr[0], 4).clamp(0, 1))
    expected = psnr(out, quantise(data.sources[0].hr[:1])).item()
    assert result["metrics"]["psnr_rgb"]["clips"]["slow"]["frames"][0] == pytest.approx(expected, abs=1e-3)
    assert result["method"] == "bicubic" and result["protocol"]["id"] == "vsrbench"
    assert result["cost"]["parameters"] == 0 and result["cost"]["seconds_per_frame"] > 0
    assert result["partial"] is False and result["provenance"]["seed"] == 42
    assert (tmp_path / "runs" / "x" / "frames" / "fast" / "0002.png").is_file()
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "runs" / "x")


def test_a_finished_run_is_shown_and_not_repeated(data, configured, tmp_path, capsys):
    entry.run(configured())
    before = read_result(tmp_path)
    data.sources = []
    entry.run(configured())
    assert read_result(tmp_path) == before
    assert f"{before['metrics']['psnr_y']['mean']:.4f}" in capsys.readouterr().out.split("evaluated before")[1]


def test_the_quoted_row_of_an_experiment_is_shown_and_stored(data, configured, tmp_path, capsys):
    entry.run(configured("published={paper: dgaf_vsr, table: table1_vid4, row: Bicubic}"))
    published = read_result(tmp_path)["published"]
    assert published["reference"] == {"paper": "dgaf_vsr", "table": "table1_vid4", "row": "Bicubic"}
    assert (published["values"]["psnr"]["printed"], published["values"]["psnr"]["protocol"]) == (23.78, "dgaf_vid4")
    assert "quoted, not measured: dgaf_vsr table1_vid4 Bicubic" in capsys.readouterr().out
    entry.run(configured("published={paper: dgaf_vsr, table: table1_vid4, row: EDVR}"))
    assert read_result(tmp_path)["published"]["reference"]["row"] == "EDVR", "of the last command"


def test_force_makes_everything_again(data, configured, tmp_path):
    entry.run(configured())
    data.sources = data.sources[:1]
    entry.run(configured("force=true"))
    assert list(read_result(tmp_path)["data"]["clips"]) == ["slow"]
    assert not (tmp_path / "runs" / "x" / "frames" / "fast").exists()


def test_foreign_frames_get_the_same_values_as_our_own(data, configured, tmp_path):
    entry.run(configured())
    own = read_result(tmp_path)
    frames = tmp_path / "runs" / "x" / "frames"
    entry.run(configured(f"predictions={frames}", "name=y"))
    foreign = json.loads((tmp_path / "runs" / "y" / "result.json").read_text())
    assert foreign["metrics"] == own["metrics"]
    assert foreign["method"] == "predictions" and foreign["cost"]["seconds_per_frame"] == "not_applicable"


def test_foreign_frames_of_other_names_can_be_shown(data, configured, tmp_path):
    """A report finds them under the data's names, wherever it is called from and whatever they are called."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for source in data.sources:
        for n, frame in enumerate(source.hr * 0.9):
            (theirs / f"{source.name}_{n + 1}_x4.png").write_bytes(encode(frame))
    folder = entry.run(configured(f"predictions={theirs}"))
    [entered] = groups([folder])[0].entries
    assert sorted(file.name for file in entered.frames("fast").iterdir()) == ["0000.png", "0001.png", "0002.png"]
    assert entered.frames("fast").joinpath("0002.png").resolve() == theirs / "fast_3_x4.png"


def test_foreign_frames_are_judged_strictly(data, configured, tmp_path):
    folder = tmp_path / "theirs"
    (folder / "slow").mkdir(parents=True)
    (folder / "slow" / "0000.png").write_bytes(encode(data.sources[0].hr[0]))
    with pytest.raises(DataError, match=r"slow/0001\.png"):
        entry.run(configured(f"predictions={folder}"))
    assert not (tmp_path / "runs" / "x" / "result.json").exists()


def test_data_cut_short_make_the_result_partial(data, configured, tmp_path, capsys):
    data.short = {"fast": [3, 41]}
    entry.run(configured())
    result = read_result(tmp_path)
    assert result["partial"] is True and result["protocol"]["conformance"] == "partial"
    assert "fast has 3 of 41 frames" in capsys.readouterr().out


def test_other_settings_in_the_same_folder_are_refused(data, configured):
    entry.run(configured())
    with pytest.raises(RunError, match=r"method\.kernel: 'matlab' there, 'cv2' now"):
        entry.run(configured("method.kernel=cv2"))


HOLD = "import sys, time; from pathlib import Path; from vsrbench.runs import alone\nwith alone(Path(sys.argv[1])):"


def test_a_run_that_another_process_evaluates_is_refused_until_that_has_ended(data, configured, tmp_path):
    """However it ended: the lock of a killed process is none."""
    run = tmp_path / "runs/x"
    command = [sys.executable, "-c", f"{HOLD}\n print('held', flush=True); time.sleep(60)", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=rf"^[^\n]*at work already \(process {holder.pid} on [^\n]*$"):
            entry.run(configured())
        assert {file.name for file in run.iterdir()} == {"lock", "log.txt"}  # both of the process that holds it
        holder.kill()
    entry.run(configured())
    assert read_result(tmp_path)["partial"] is False


def test_a_run_is_held_while_it_is_evaluated(data, configured, monkeypatch):
    write, told = outputs.write_clip, []

    def meanwhile(run, source, frames, progress):
        other = subprocess.run([sys.executable, "-c", f"{HOLD}\n pass", run.folder], capture_output=True, text=True)
        told.append(other.stderr.splitlines()[-1])
        return write(run, source, frames, progress)

    monkeypatch.setattr(outputs, "write_clip", meanwhile)
    entry.run(configured())
    assert len(told) == 2 and all("at work already" in line for line in told)


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """Names of the clips that were upscaled."""
    names: list[str] = []
    write = outputs.write_clip

    def counted(run, source, frames, progress):
        names.append(source.name)
        return write(run, source, frames, progress)

    monkeypatch.setattr(outputs, "write_clip", counted)
    return names


def identities(folder) -> dict[str, str]:
    found = {path.name: json.loads(path.read_text()) for path in folder.glob("result*.json")}
    return {name: result["protocol"]["hash"] for name, result in found.items()}


def test_the_same_folder_is_judged_under_another_protocol_without_making_frames_again(
    data, configured, made, tmp_path, capsys
):
    run = tmp_path / "runs/x"
    entry.run(configured())
    first = identities(run)["result.json"]
    entry.run(configured("protocol=stablevsr", "protocol.metrics=[psnr_rgb]"))
    assert made == ["slow", "fast"]
    now = identities(run)
    assert now["result_vsrbench.json"] == first and read_result(tmp_path)["protocol"]["id"] == "stablevsr"
    entry.run(configured("protocol.crop=4"))  # other switches of a protocol that is there already
    now = identities(run)
    assert now.keys() == {"result.json", f"result_vsrbench_{first}.json", "result_stablevsr.json"}
    capsys.readouterr()
    entry.run(configured())
    assert "evaluated before" in capsys.readouterr().out and identities(run)["result.json"] == first
    assert made == ["slow", "fast"] and len(identities(run)) == 3


def test_more_metrics_later_keep_what_the_frames_cost(data, configured, made, tmp_path):
    entry.run(configured("protocol.metrics=[psnr_y]"))
    cost = read_result(tmp_path)["cost"]
    entry.run(configured("protocol.metrics=[psnr_y,ssim_y]"))
    assert read_result(tmp_path)["cost"] == cost and set(read_result(tmp_path)["metrics"]) == {"psnr_y", "ssim_y"}
    assert made == ["slow", "fast"]


@pytest.fixture
def committed(monkeypatch):
    """committed("1"): the code of a commit, without changes."""

    def at(commit: str) -> None:
        monkeypatch.setattr(results, "provenance", lambda seed: {"vsrbench": "1", "commit": commit, "seed": seed})

    at("1")
    return at


@pytest.mark.parametrize("content", ["{", "[]", '{"clips": {"slow": 3}}', '{"clips": {"slow": {"frames": "3"}}}'])
def test_damaged_times_of_another_run_stop_nothing_and_those_of_this_one_are_named(
    data, configured, committed, made, tmp_path, capsys, content
):
    entry.run(configured("name=a"))
    (tmp_path / "runs/a/timings.json").write_text(content)
    entry.run(configured("name=b", "protocol.crop=4"))
    assert made == ["slow", "fast"] * 2 and "runs/a/timings.json is damaged" in capsys.readouterr().out
    with pytest.raises(RunError, match=r"timings\.json is damaged .*: delete it, and the frames are made again"):
        entry.run(configured("name=a", "protocol.crop=8"))


def test_another_run_folder_takes_the_frames_of_one_that_differs_in_judging_alone(
    data, configured, committed, made, tmp_path, capsys
):
    entry.run(configured("name=a"))
    entry.run(configured("name=b", "protocol.crop=4"))
    one, other = (json.loads((tmp_path / f"runs/{name}/result.json").read_text()) for name in "ab")
    assert made == ["slow", "fast"] and other["cost"] == one["cost"] and other["method"] == "bicubic"
    assert other["metrics"]["psnr_y"]["mean"] != one["metrics"]["psnr_y"]["mean"]
    assert f"frames of 2 clips are those of {tmp_path}/runs/a" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "runs/a")
    assert len([*(tmp_path / "runs/b/frames").rglob("*.png")]) == 6, "linked, not pointed to"
    entry.run(configured("name=b", "protocol.crop=4", "force=true"))
    assert made == ["slow", "fast"] * 2


@pytest.mark.parametrize("other", ["method.kernel=cv2", "commit", "changes", "input", "force=true"])
def test_frames_of_other_settings_code_or_input_are_not_taken(data, configured, committed, made, other, capsys):
    entry.run(configured("name=a"))
    if other == "input":
        data.sources = [Ramp("slow", 2), Ramp("fast", 4)]
    if other in ("commit", "changes"):
        committed({"commit": "2", "changes": "1+changes"}[other])
    entry.run(configured("name=b", *([other] if "=" in other else [])))
    assert made == ["slow", "fast"] * 2
    assert ("evaluates those" in capsys.readouterr().out) == (other in ("commit", "changes"))


def test_data_that_moved_are_the_same_data(data, configured, made, tmp_path, capsys):
    entry.run(configured("data=vid4", "data.root=here"))
    entry.run(configured("data=vid4", "data.root=there"))
    assert "evaluated before" in capsys.readouterr().out and made == ["slow", "fast"]
    data.sources = [Ramp("slow", 2), Ramp("fast", 4)]
    with pytest.raises(RunError, match=r"data\.root: 'there' there, 'elsewhere' now"):
        entry.run(configured("data=vid4", "data.root=elsewhere"))


def test_data_that_were_replaced_are_evaluated_again_under_every_protocol(data, configured, made, tmp_path, capsys):
    """One frame of the ground truth, the third of three: neither the frames nor any result of before stay."""
    arguments = ("name=a", "protocol.metrics=[psnr_rgb]")
    entry.run(configured(*arguments))
    entry.run(configured(*arguments, "protocol=[vsrbench,stablevsr]"))
    before = (tmp_path / "runs/a/result.json").read_text()
    data.sources[0].hr = data.sources[0].hr.clone()
    data.sources[0].hr[2] = 1 - data.sources[0].hr[2]
    entry.run(configured(*arguments))
    assert "have changed since they were evaluated" in capsys.readouterr().out
    assert made == ["slow", "fast", "slow"]
    assert (tmp_path / "runs/a/result.json").read_text() != before
    assert sorted(p.name for p in (tmp_path / "runs/a").glob("result*.json")) == ["result.json"]
    entry.run(configured(*arguments))
    assert "evaluated before" in capsys.readouterr().out


def test_frames_are_made_once_and_judged_under_several_protocols(data, configured, tmp_path, capsys):
    run = tmp_path / "runs" / "x"
    entry.run(configured("protocol=[vsrbench,stablevsr]", "protocol.metrics=[psnr_rgb,ssim_rgb]"))
    both = [json.loads((run / name).read_text()) for name in ("result.json", "result_stablevsr.json")]
    assert [result["protocol"]["id"] for result in both] == ["vsrbench", "stablevsr"]
    assert both[0]["metrics"] == both[1]["metrics"] and both[0]["cost"] == both[1]["cost"]
    assert both[0]["protocol"]["hash"] != both[1]["protocol"]["hash"]
    told = capsys.readouterr().out
    assert "protocol vsrbench" in told and "protocol stablevsr" in told
    data.sources = []
    entry.run(configured("protocol=[vsrbench,stablevsr]", "protocol.metrics=[psnr_rgb,ssim_rgb]"))
    again = capsys.readouterr().out
    assert "evaluated before" in again and "protocol stablevsr" in again


def test_foreign_frames_under_two_protocols_at_once(data, configured, tmp_path):
    """Other names, numbered from 1: the same values as our own frames, and a note that says so."""
    entry.run(configured("name=own"))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for source in data.sources:
        for n, stem in enumerate(source.frame_names):
            pixels = (tmp_path / "runs/own/frames" / source.name / f"{stem}.png").read_bytes()
            (theirs / f"{source.name}_frame{n + 1}.png").write_bytes(pixels)
    entry.run(configured(f"predictions={theirs}", "protocol=[stablevsr,vsrbench]"))
    own = json.loads((tmp_path / "runs/own/result.json").read_text())
    first = read_result(tmp_path)
    second = json.loads((tmp_path / "runs/x/result_vsrbench.json").read_text())
    assert second["metrics"] == own["metrics"]
    assert first["metrics"]["psnr_rgb"]["mean"] == own["metrics"]["psnr_rgb"]["mean"]
    assert "unavailable" in first["metrics"]["tof_stablevsr"]["mean"]
    assert any("frames are numbered from 1" in line for line in first["warnings"])
    assert any("bicubic interpolation of LR" in line for line in first["warnings"])


def test_the_command_stands_in_the_result(data, configured, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/vsrbench/eval.py", "method=bicubic", "name=a b"])
    entry.run(configured())
    assert read_result(tmp_path)["provenance"]["command"] == "vsrbench eval method=bicubic 'name=a b'"


def test_the_ground_truth_is_a_row(data, configured, tmp_path):
    entry.run(configured("method=gt", "protocol.metrics=[psnr_rgb,ssim_rgb,ewarp,rwe]"))
    result = read_result(tmp_path)
    assert result["method"] == "gt" and result["size"] is None
    assert "infinite" in result["metrics"]["psnr_rgb"]["mean"]["unavailable"]
    assert result["metrics"]["ssim_rgb"]["mean"] == pytest.approx(1)
    assert (
        result["metrics"]["ewarp"]["mean"] == pytest.approx(result["metrics"]["rwe"]["mean"]) and not result["warnings"]
    )


@pytest.mark.parametrize("verb", ["upscale", "train", "analyse"])
def test_the_ground_truth_is_for_eval_alone(verb):
    with pytest.raises(ConfigError, match="method=gt is for eval alone"):
        compose(["method=gt"], verb=verb)


def test_a_split_without_clips_cannot_be_judged(data, configured):
    data.sources = []
    with pytest.raises(DataError, match=r"data=sample has no clips to evaluate: set data\.splits\.test"):
        entry.run(configured())


def test_clips_that_a_protocol_does_not_judge_are_refused_before_any_work(data, configured, tmp_path):
    with pytest.raises(ConfigError, match="protocol=dgaf evaluates calendar, city, foliage, walk of sample, not slow"):
        entry.run(configured("data=vid4", "protocol=dgaf"))
    assert not (tmp_path / "runs/x/frames").exists()


@pytest.mark.slow
def test_bicubic_meets_the_recorded_row_of_vid4(shared, configured, tmp_path):
    """Every frame and clip mean of Y that is recorded for the first frames, to the last digit given."""
    yaml = pytest.importorskip("yaml")
    root = shared / "material" / "vid4"
    entry.run(configured("data=vid4", f"data.root={root}", "protocol.metrics=[psnr_y,ssim_y]"))
    result = read_result(tmp_path)
    for clip, row in yaml.safe_load((root / "bicubic.yaml").read_text()).items():
        for name, digits in {"psnr_y": 4, "ssim_y": 5}.items():
            values = result["metrics"][name]["clips"][clip]
            assert [round(value, digits) for value in values["frames"]] == row[name]
            assert round(values["mean"], digits) == row["mean"][name]
    assert result["data"]["short"] == {
        "calendar": [3, 41],
        "city": [3, 34],
        "foliage": [3, 49],
        "walk": [12, 47],
    }


def test_frames_are_judged_again_once_a_metrics_weights_are_there(data, configured, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VSRBENCH_METRIC_WEIGHTS", str(tmp_path / "weights"))
    asked = "protocol.metrics=[psnr_y,ewarp_thesis]"
    entry.run(configured(asked))
    assert "vgg16" in read_result(tmp_path)["metrics"]["ewarp_thesis"]["mean"]["unavailable"]
    made = (tmp_path / "runs/x/frames/fast/0002.png").stat().st_mtime_ns
    monkeypatch.setattr(scorer, "why_unavailable", lambda name, folder, verify: None)
    monkeypatch.setattr(scorer, "VGGFeatures", lambda folder: torch.nn.AvgPool2d(2))
    entry.run(configured(asked))
    assert isinstance(read_result(tmp_path)["metrics"]["ewarp_thesis"]["mean"], float)
    assert "without ewarp_thesis, which can be computed now" in capsys.readouterr().out
    assert (tmp_path / "runs/x/frames/fast/0002.png").stat().st_mtime_ns == made
