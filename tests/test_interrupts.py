"""Ctrl-C and SIGTERM: one line, the exit code, nothing half-written. The processes are real."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsrbench.interrupts import KEPT, Interrupted, one_line_at_the_end

# The signal comes while a function of the verb runs: the code below replaces it by one that waits.
PROGRAM = """
import importlib, runpy, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
module, name = sys.argv.pop(1).split(":")
target = importlib.import_module(module)
for part in name.split(".")[:-1]:
    target = getattr(target, part)
def wait(*args, **kwargs):
    print("at work", flush=True)
    time.sleep(600)
setattr(target, name.split(".")[-1], wait)
verb = sys.argv.pop(1)
sys.argv[0] = verb
runpy.run_module(f"vsrbench.{verb}", run_name="__main__")
"""
SAMPLE = ["method=bicubic", "data=sample", "data.frame_size=[64,96]", "data.splits.test.clips=1"]
AT_WORK = {
    "train": (
        "vsrbench.data.datamodule:VideoData.train_dataloader",
        ["method=dgaf", "size=tiny", "data=sample", "runs=runs", "untrained=true"],
    ),
    "eval": ("vsrbench.evaluation.outputs:write_clip", [*SAMPLE, "runs=runs"]),
    "upscale": ("vsrbench.inference.writer:VideoWriter.write", ["frames", "out.mp4", "method=bicubic", "video.fps=25"]),
    "bench": ("vsrbench.benchmarks.params:counts", ["task=params", "method=dgaf", "size=tiny"]),
    "analyse": (
        "vsrbench.analysis.session:Session.__init__",
        ["task=correlation", "method=dgaf", "data=sample", "runs=runs"],
    ),
    "data": ("vsrbench.data.packing:pack", ["pack", "data=folder", "data.root=.", "output=packed"]),
    "report": ("vsrbench.reports.make:make", ["task=report", "nosuch"]),
}


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    (tmp_path / "frames").mkdir()
    for n in range(3):
        Image.fromarray(np.full((16, 16, 3), n, np.uint8)).save(tmp_path / "frames" / f"{n:04d}.png")
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", AT_WORK)
def test_every_command_ends_in_one_line(verb: str, number: signal.Signals, frames: Path) -> None:
    where, arguments = AT_WORK[verb]
    command = [sys.executable, "-c", PROGRAM, where, verb, *arguments]
    environment = {**os.environ, "TMPDIR": str(frames / "temporary")}
    (frames / "temporary").mkdir()
    with subprocess.Popen(
        command, cwd=frames, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line == "at work\n":
                process.send_signal(number)
        errors = process.stderr.read()
    assert process.returncode == 128 + number, f"{said}{errors}"
    expected = f"interrupted by {number.name}: {KEPT.get(verb, 'nothing was written')}"
    assert errors.splitlines()[-1] == expected and "Traceback" not in errors
    left = [
        p for p in frames.rglob("*") if p.is_file() and (p.suffix in (".part", ".mp4") or p.parent.name == "temporary")
    ]
    assert left == []


def test_handlers_of_others_stay() -> None:
    def other(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, other)
    try:
        with one_line_at_the_end("eval"):
            assert signal.getsignal(signal.SIGTERM) is other
        assert signal.getsignal(signal.SIGTERM) is other
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_outermost_speaks_and_handlers_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as ended, one_line_at_the_end("data"), one_line_at_the_end("eval"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert capsys.readouterr().err == f"interrupted by SIGTERM: {KEPT['data']}\n"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
