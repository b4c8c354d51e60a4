"""``upscale IN OUT``: from a path to a path, and one clear line for everything that cannot work."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from inference_fakes import audio_packets, decoded, make_video, picture
from vsrbench import upscale
from vsrbench.config import compose
from vsrbench.errors import ConfigError, DataError, RunError, VsrbenchError


def run(source: Path | str, target: Path | str, *overrides: str) -> None:
    fixed = ["method=bicubic", "inference.device=cpu", "video.preset=ultrafast"]
    upscale.run(compose([str(source), str(target), *fixed, *overrides], verb="upscale"))


def test_a_video_becomes_four_times_as_large_and_the_path_is_printed_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = make_video(tmp_path / "in.mp4", 6, size=(18, 26), audio=True), tmp_path / "out.mp4"
    run(source, target)
    frames = decoded(target)
    assert (len(frames), frames[0].height, frames[0].width) == (6, 72, 104)
    assert [b for _, b in audio_packets(target)] == [b for _, b in audio_packets(source)]
    assert capsys.readouterr().out.splitlines()[-1] == str(target)


def test_a_folder_becomes_a_folder_and_stays_as_it_is_the_second_time(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(3):
        Image.fromarray(picture(n, (9, 13))).save(tmp_path / "in" / f"{n}.png")
    run(tmp_path / "in", tmp_path / "out", "scale=2")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.png")}
    assert [Image.open(p).size for p in sorted(made)] == [(26, 18)] * 3
    run(tmp_path / "in", tmp_path / "out", "scale=2")
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.png")}
    with pytest.raises(RunError, match=r"other settings \(.*scale.*force=true"):
        run(tmp_path / "in", tmp_path / "out", "scale=4")


def test_an_existing_video_is_replaced_only_when_asked(tmp_path: Path) -> None:
    source, target = make_video(tmp_path / "in.mp4", 2), tmp_path / "out.mp4"
    target.write_text("mine")
    with pytest.raises(RunError, match="exists already: add force=true"):
        run(source, target)
    assert target.read_text() == "mine"
    run(source, target, "force=true")
    assert len(decoded(target)) == 2


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        ("absent.mp4", "out.mp4", DataError, "no such file or folder: .*absent.mp4"),
        ("text.mp4", "out.mp4", DataError, r"cannot open .*text\.mp4 as a video"),
        ("empty", "out.mp4", DataError, "no frames in .*empty"),
        ("in.mp4", "out.gif", ConfigError, r"cannot write .*out\.gif.*\.webm"),
        ("in.mp4", "in.mp4", RunError, "the input itself"),
        ("in.mp4", "text.mp4/out.mp4", RunError, r"cannot write .*text\.mp4/out\.mp4"),
        ("in.mp4", "plain", RunError, "plain is a file"),
        ("frames", "out.mp4", ConfigError, r"video\.fps"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    tmp_path: Path, source: str, target: str, error: type[VsrbenchError], message: str
) -> None:
    make_video(tmp_path / "in.mp4", 2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "plain").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "frames").mkdir()
    Image.fromarray(picture(0, (9, 13))).save(tmp_path / "frames" / "0.png")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message) as raised:
        run(tmp_path / source, tmp_path / target)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_both_paths_are_needed() -> None:
    with pytest.raises(ConfigError, match="no output given: vsrbench upscale IN OUT"):
        upscale.run(compose(["in.mp4", "method=bicubic"], verb="upscale"))


def test_a_video_that_breaks_off_leaves_no_output(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", 60, (32, 48))
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(DataError, match=r"breaks off at frame \d+"):
        run(source, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == [source]


def test_the_command_line_prints_one_line_and_fails(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "vsrbench.upscale", "absent.mp4", "out.mp4", "method=bicubic"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr == "error: no such file or folder: absent.mp4\n"
    assert list(tmp_path.iterdir()) == []


def test_reading_and_writing_videos_loads_no_training_package() -> None:
    """What upscales a video needs PyTorch, and nothing of what trains networks or fetches them."""
    code = (
        "import sys, vsrbench.upscale, vsrbench.inference.files, vsrbench.progress, vsrbench.diffusion.noise\n"
        "print(*{'pytorch_lightning', 'diffusers', 'transformers', 'wandb', 'kornia', 'scipy'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


@pytest.mark.parametrize("words", [[], ["method=bicubic"]])
def test_a_command_without_a_method_says_which_it_takes(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vsrbench.upscale", str(tmp_path / "gone.mp4"), str(tmp_path / "out"), *words]
    ended = subprocess.run(command, capture_output=True, text=True)
    said = "no method= is given: method=dgaf size=mini, the default, a miniature that is shipped" in ended.stderr
    assert ended.returncode == 2 and "no such file" in ended.stderr and said is not bool(words)
