"""The numbers that a change of structure must not move, measured by the commands that a user types.

``python tests/numbers_of_record.py OUT.json [--vid4 DIR] [--only evaluation,training,...]`` writes them;
``--compare tests/recorded_numbers.json`` then prints every difference and exits with 1 where there is one. Equal to the
last digit on the kind of machine that made the recording (its ``device`` says which); elsewhere use ``--tolerance``.
"""

import argparse
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("dgaf", "stablevsr", "sateco", "videogigagan", "adapter", "basicvsrpp", "ldm")
STAGES = {
    "dgaf": ["guide"],
    "stablevsr": ["tcm", "prior"],
    "sateco": ["upscaler", "unet", "vae", "refiner"],
    "videogigagan": ["image", "video"],
    "adapter": ["adapter", "prior", "vae"],
    "basicvsrpp": ["sr"],
    "ldm": ["unet", "vae"],
}
COUNTED = ("dgaf", "stablevsr", "videogigagan", "basicvsrpp")
CHAINED = ("sateco", "videogigagan")  # a stage starts from the run of the one before
STEPS = 20
RECORDINGS = {f"{name}_{part}": name for name in ("dgaf", "stablevsr") for part in ("infer", "train")}
Numbers = dict[str, Any]


def command(*words: str) -> str:
    """Output of a verb; RuntimeError with what it printed where it fails."""
    call = [sys.executable, "-m", f"vsrbench.{words[0]}", *words[1:]]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def evaluation(folder: Path, *data: str) -> Iterator[tuple[str, Any]]:
    """Mean of every metric, for bicubic and every shipped miniature."""
    for method in ("bicubic", *METHODS):
        words = [f"method={method}", *(() if method == "bicubic" else ("size=mini",)), *data]
        command("eval", *words, f"runs={folder}", f"name={method}")
        result = json.loads((folder / method / "result.json").read_text())
        for metric, values in result["metrics"].items():
            yield f"{method}/{metric}", values["mean"] if isinstance(values, dict) and "mean" in values else values


def recordings(folder: Path) -> Iterator[tuple[str, Any]]:
    """What ``verify`` says of the four recordings of released code."""
    for name, method in RECORDINGS.items():
        reference = ROOT / "tests" / "golden" / name
        text = command("verify", f"method={method}", "variant=released", "size=tiny", f"reference={reference}")
        yield name, text.strip().splitlines()[-1]


def training(folder: Path) -> Iterator[tuple[str, Any]]:
    """Weights after 20 steps of every stage at size=tiny, and of the first one at size=mini."""
    for method in METHODS:
        for size, stages in (("tiny", STAGES[method]), ("mini", STAGES[method][:1])):
            before = None
            for stage in stages:
                name = f"{method}_{size}_{stage}"
                start = [f"ckpt_path={before}"] if before and method in CHAINED else []
                settings = [f"method={method}", f"size={size}", f"stage={stage}", "data=sample", "trainer=cpu"]
                command(
                    "train", *settings, f"trainer.max_steps={STEPS}", *start, f"runs={folder}", f"name={name}",
                    "untrained=true",
                )  # fmt: skip
                yield f"{size}/{method}/{stage}", weights(folder / name / "checkpoints" / "last.ckpt")
                before = folder / name


def weights(checkpoint: Path) -> dict[str, Any]:
    """Hash of all trained tensors, and their norm for machines that round otherwise."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    digest, squares = hashlib.sha256(), 0.0
    for key, value in sorted(state.items()):
        digest.update(f"{key}{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
        squares += value.double().square().sum().item()
    return {"sha256": digest.hexdigest(), "norm": math.sqrt(squares), "tensors": len(state)}


def cost(folder: Path) -> Iterator[tuple[str, Any]]:
    """Parameters and FLOPs of every part, as ``bench`` writes them; FLOPs where the method can be counted empty."""
    columns = {"params": ("mini", "paper"), "flops": ("unit", "times", "frame")}
    for task, methods in (("params", METHODS), ("flops", COUNTED)):
        for method in methods:
            file = folder / f"{method}_{task}.json"
            command("bench", f"task={task}", f"method={method}", "size=paper", f"output={file}")
            for row in json.loads(file.read_text())["rows"]:
                yield f"{method}/{task}/{row['part']}", [row.get(column) for column in columns[task]]


def measure(only: list[str], vid4: str | None) -> Iterator[tuple[str, Any]]:
    """Every number under its name, section after section."""
    folder = Path(tempfile.mkdtemp(prefix="numbers_"))
    sections = {
        "recordings": lambda: recordings(folder),
        "cost": lambda: cost(folder),
        "training": lambda: training(folder / "train"),
        "sample": lambda: evaluation(folder / "sample", "data=sample"),
        "vid4": lambda: evaluation(folder / "vid4", "data=vid4", f"data.root={vid4}") if vid4 else iter(()),
    }
    try:
        for section in only or sections:
            for name, value in sections[section]():
                print(f"{section}/{name}: {str(value)[:100]}", flush=True)
                yield f"{section}/{name}", value
    finally:
        shutil.rmtree(folder)


def differences(before: Numbers, now: Numbers, tolerance: float) -> list[str]:
    """A line for each number that differs; numbers that only one side has count where ``now`` lacks them."""
    lines = []
    for name in before:
        if name.split("/")[0] not in {key.split("/")[0] for key in now}:
            continue
        if name not in now:
            lines.append(f"{name}: not measured any more")
        elif not equal(before[name], now[name], tolerance):
            lines.append(f"{name}: {before[name]} before, {now[name]} now")
    return lines


def equal(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, dict) and "sha256" in a and tolerance:
        return a["tensors"] == b["tensors"] and math.isclose(a["norm"], b["norm"], rel_tol=tolerance)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(equal(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float | int) and tolerance:
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(a, str) and isinstance(b, str) and tolerance:  # lines of verify hold the largest difference
        return re.sub(r"[\d.e+-]+", "", a) == re.sub(r"[\d.e+-]+", "", b)
    return bool(a == b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--vid4", help="folder of Vid4's frames")
    parser.add_argument("--only", default="", help="sections: recordings,cost,training,sample,vid4")
    parser.add_argument("--compare", type=Path, help="a recording to compare with")
    parser.add_argument("--tolerance", type=float, default=0.0)
    options = parser.parse_args()
    numbers: Numbers = {}
    for name, value in measure([word for word in options.only.split(",") if word], options.vid4):
        numbers[name] = value
        options.output.write_text(json.dumps(numbers, indent=1) + "\n")
    if options.compare:
        lines = differences(json.loads(options.compare.read_text()), numbers, options.tolerance)
        print("\n".join(lines) or f"all {len(numbers)} numbers are the same")
        raise SystemExit(1 if lines else 0)


if __name__ == "__main__":
    main()
