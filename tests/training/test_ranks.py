"""Every method that trains, in every stage: two processes equal one, and the trainer's settings hold.

Methods and stages are those that conf/method lists, so that a new method is tested from its first day.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from training_fakes import same
from training_ranks import DOUBLE, run, trained_by_two
from vsrbench import config
from vsrbench.command_line import home
from vsrbench.training.loggers import read_metrics
from vsrbench.training.stages import stages_of

STEPS = 2  # DDP refuses a parameter without a gradient at the second
# One sample at a time, twice per step, as each of two processes has one: a batch of two would change what a
# discriminator that compares the samples of a batch sees (VideoGigaGAN's minibatch deviation).
SHORT = [
    "size=tiny", "data=sample", "data.workers=0", f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=1",
    "ema.decay=0.9",
    "validation.clips=1", "validation.frames=2", "validation.strips=0", "train.batch=1", "train.effective_batch=2",
]  # fmt: skip
COMPARES_SAMPLES = ("videogigagan",)
# Whatever differs by more than rounding shows here: two batches of two samples per process and step, whose gradients
# are added up in another order than those of four batches; R1 in the first and the third step, the flow network and, in
# the image stage, the discriminator from the second on.
EXACT = [
    DOUBLE, "train.batch=2", "train.effective_batch=8", "trainer.max_steps=3",
    "module.objective.r1_every=2",
]  # fmt: skip


def listed() -> list[tuple[str, str]]:
    """(method, stage) of everything that trains and has the size tiny."""
    found = []
    for file in sorted((home() / "conf" / "method").glob("*.yaml")):
        node: Any = OmegaConf.load(file)
        if "tiny" in (node.supports.get("size") or ["tiny"]):
            found += [(file.stem, stage) for stage in get_class(node.method._target_).stages]
    return found


CASES = listed()
DOUBLED = [case for case in CASES if case[0] in COMPARES_SAMPLES]
SHARDED = [case for case in CASES if case in (("dgaf", "guide"), ("stablevsr", "tcm"))]


@cache
def earlier(method: str, stage: str) -> tuple[str, ...]:
    """The stages that must have been trained before."""
    if len([case for case in CASES if case[0] == method]) == 1:
        return ()
    return stages_of(config.compose([f"method={method}", "size=tiny"]))[stage].needs


class Runs:
    """Runs by one process, made when they are asked for, and by two, made all at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._failures: dict[str, str] | None = None

    def settings(self, method: str, stage: str, *more: str) -> list[str]:
        """A stage that needs another one starts from the weights that one process trained in that."""
        settings = [f"method={method}", f"stage={stage}", *SHORT, f"name={method}-{stage}", *more]
        needs = earlier(method, stage)
        return [*settings, f"ckpt_path={self.one(method, needs[-1])}"] if needs else settings

    def one(self, method: str, stage: str) -> Path:
        return self.made(method, stage, "one")

    def made(self, method: str, stage: str, kind: str, *more: str) -> Path:
        """The folder of a run by one process."""
        run = self.folder / kind / f"{method}-{stage}"
        if not (run / "result.json").exists() or more:
            self.go(method, stage, f"runs={self.folder / kind}", *more)
        return run

    def go(self, method: str, stage: str, *more: str) -> None:
        run(self.settings(method, stage, "trainer=cpu", *more))

    def two(self, method: str, stage: str) -> Path:
        """The folder of a run by two processes."""
        return self._of_two("two", method, stage)

    def sharded(self, method: str, stage: str) -> Path:
        """The folder of a run by two processes that share the frozen networks."""
        return self._of_two("sharded", method, stage)

    def doubled(self, method: str, stage: str) -> Path:
        """The folder of a run by two processes in float64."""
        return self._of_two("doubled", method, stage)

    def _of_two(self, kind: str, method: str, stage: str) -> Path:
        if self._failures is None:
            plain = ["trainer=ddp_sim", f"runs={self.folder / 'two'}"]
            sharing = [
                "trainer=fsdp",
                "trainer.accelerator=cpu",
                "trainer.devices=2",
                f"runs={self.folder / 'sharded'}",
            ]
            due = {f"two-{m}-{s}": self.settings(m, s, *plain) for m, s in CASES}
            due |= {f"sharded-{m}-{s}": self.settings(m, s, *sharing) for m, s in SHARDED}
            exact = ["trainer=ddp_sim", f"runs={self.folder / 'doubled'}", *EXACT]
            due |= {f"doubled-{m}-{s}": self.settings(m, s, *exact) for m, s in DOUBLED}
            self._failures = trained_by_two(self.folder, due)
        name = f"{method}-{stage}"
        failure = self._failures.get(f"{kind}-{name}")
        assert failure is None, failure
        return self.folder / kind / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("ranks"))


def curve(run: Path) -> list[dict[str, float]]:
    """What was logged, without what depends on the clock."""
    rows = read_metrics(run / "metrics.csv")
    return [{k: float(v) for k, v in row.items() if v and not k.startswith(("perf/", "cost/"))} for row in rows]


def assert_same_curve(a: Path, b: Path, rel: float) -> None:
    ours, theirs = curve(a), curve(b)
    assert len(ours) == len(theirs) == STEPS + 1
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        for name, value in mine.items():
            assert value == pytest.approx(other[name], rel=rel, abs=1e-6), name


def stored(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(("method", "stage"), CASES)
def test_two_processes_equal_one(runs: Runs, method: str, stage: str) -> None:
    """Plain ddp, which stops at the second step where a parameter got no gradient."""
    assert_same_curve(runs.one(method, stage), runs.two(method, stage), rel=1e-3)
    ours, theirs = stored(runs.one(method, stage)), stored(runs.two(method, stage))
    assert theirs["global_step"] == STEPS
    for key, value in ours["state_dict"].items():
        assert torch.allclose(value, theirs["state_dict"][key], atol=1e-3), key


@pytest.mark.parametrize(("method", "stage"), DOUBLED)
def test_in_float64_two_processes_equal_one_to_the_last_digits(runs: Runs, method: str, stage: str) -> None:
    """In float32 a GAN's curves part: rounding grows tenfold per step."""
    ours = stored(runs.made(method, stage, "exact", *EXACT))
    theirs = stored(runs.doubled(method, stage))
    assert ours["global_step"] == theirs["global_step"] == 3
    values = [*pairs(ours["state_dict"], theirs["state_dict"]), *pairs(ours["ema"]["shadow"], theirs["ema"]["shadow"])]
    for a, b in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        values += [pair for n in a["state"] for pair in pairs(a["state"][n], b["state"][n])]
    assert {a.dtype for a, _ in values if a.numel() > 1} == {torch.float64}
    assert max(float((a - b).abs().max()) for a, b in values) < 1e-11


def pairs(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    assert a.keys() == b.keys()
    return [(a[key], b[key]) for key in a]


@pytest.mark.parametrize(("method", "stage"), SHARDED)
def test_frozen_networks_in_shards_change_nothing(runs: Runs, method: str, stage: str) -> None:
    assert_same_curve(runs.one(method, stage), runs.sharded(method, stage), rel=1e-3)
    ours, theirs = stored(runs.one(method, stage)), stored(runs.sharded(method, stage))
    assert ours["frozen"] == theirs["frozen"]
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()


@pytest.mark.parametrize(("method", "stage"), CASES)
def test_checkpoints_hold_no_frozen_part(runs: Runs, method: str, stage: str) -> None:
    content = stored(runs.one(method, stage))
    parts = {key.partition(".")[0] for key in content["state_dict"]}
    assert parts and not parts & content["frozen"].keys()
    assert {key.partition(".")[0] for key in content["ema"]["shadow"]} <= parts
    cfg = config.compose([f"method={method}", "size=tiny", f"stage={stage}"])
    if cfg.prior is not None and stage not in ("vae", "prior", "unet"):
        assert not parts & {"vae", "denoising_unet"}


FIRST = {case[0]: case for case in reversed(CASES)}.values()


@pytest.mark.parametrize(
    ("method", "stage"), [case if case in FIRST else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_another_split_of_the_batch_and_checkpointing_change_nothing(runs: Runs, method: str, stage: str) -> None:
    batch = 1 if method in COMPARES_SAMPLES else 2
    other = runs.made(method, stage, "other", f"train.batch={batch}", "gradient_checkpointing=true")
    assert_same_curve(runs.one(method, stage), other, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "stage"), CASES)
def test_an_interruption_changes_nothing(runs: Runs, method: str, stage: str) -> None:
    runs.go(method, stage, f"runs={runs.folder / 'broken'}", "trainer.max_steps=1")
    parts = runs.made(method, stage, "broken", f"trainer.max_steps={STEPS}")
    ours, theirs = stored(runs.one(method, stage)), stored(parts)
    for key in ("state_dict", "ema", "optimizer_states"):
        assert same(ours[key], theirs[key]), key


@pytest.mark.slow
@pytest.mark.parametrize(("method", "stage"), CASES)
def test_bf16_stays_close(runs: Runs, method: str, stage: str) -> None:
    runs.go(
        method, stage, f"runs={runs.folder / 'bf16'}", "trainer.precision=bf16-mixed", "trainer.max_steps=1",
        "validation.every=0",
    )  # fmt: skip
    (loss, *_) = curve(runs.folder / "bf16" / f"{method}-{stage}")
    expected = curve(runs.one(method, stage))[0]["train/loss"]
    assert math.isfinite(loss["train/loss"]) and loss["train/loss"] == pytest.approx(expected, rel=0.05)
