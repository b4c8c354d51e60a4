"""Dashboards as data: which panels show which metrics. Every name comes from ``training.names``; needs neither torch
nor W&B."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vsrbench.command_line import home
from vsrbench.errors import ConfigError
from vsrbench.training import names

COMPARISON = "comparison"
QUALITY = (names.PSNR_Y, names.SSIM_Y, names.LPIPS, names.CONSISTENCY)
EVALUATED = tuple(names.evaluation(metric) for metric in ("psnr_y", "ssim_y", "consistency", "sharpness"))


@dataclass(frozen=True)
class Panel:
    """One panel. kind says what its keys, names of what runs log, are.

    curve: metrics over ``x``, or those that ``pattern`` (a regular expression) matches. bars: the last values, one bar
    per run or group. scatter: two keys, the last values of x and y. media: pictures or videos. table: one table.
    differences: settings and values that differ between runs. group: configuration key whose runs are averaged.
    """

    kind: Literal["curve", "bars", "scatter", "media", "table", "differences"]
    title: str
    keys: tuple[str, ...] = ()
    x: str = names.STEP
    pattern: str | None = None
    log: bool = False
    group: str | None = None


@dataclass(frozen=True)
class Section:
    """Panels under one heading; open: whether they are shown before somebody asks for them."""

    name: str
    panels: tuple[Panel, ...]
    open: bool = True


@dataclass(frozen=True)
class Dashboard:
    """method: the runs that it shows; None: all of the project."""

    name: str
    method: str | None
    sections: tuple[Section, ...]

    def panels(self) -> Iterable[Panel]:
        return (panel for section in self.sections for panel in section.panels)


def methods() -> list[str]:
    """Those that can be trained, as conf/training has them."""
    from omegaconf import OmegaConf

    files = sorted((home() / "conf" / "training").glob("*.yaml"))
    return [file.stem for file in files if OmegaConf.select(OmegaConf.load(file), "module")]


def dashboard(name: str) -> Dashboard:
    """``comparison`` or that of a method. Raises ConfigError for other names."""
    if name == COMPARISON:
        return comparison()
    if name not in methods():
        raise ConfigError(
            f"dashboard={name}: use all, {COMPARISON}, or a method that is trained: {', '.join(methods())}"
        )
    return of_method(name)


def of_method(method: str) -> Dashboard:
    """What a person looks at while one method trains: is it getting better, what does it look like, why, how fast."""
    training = [
        Panel("curve", "loss", (names.LOSS,), log=True),
        Panel("curve", "loss terms", pattern=names.LOSS_TERMS, log=True),
        Panel("curve", "learning rate", (names.LEARNING_RATE,)),
        Panel("curve", "distance from the average (EMA)", (names.EMA_DISTANCE,)),
    ]
    sections = [
        Section("Validation", tuple(_curve(name) for name in QUALITY)),
        Section("Pictures", (*PICTURES, Panel("table", "clips of the validation", (names.VALIDATION_TABLE,)))),
        Section("Training", tuple(training)),
    ]
    if method == "videogigagan":
        logits = Panel("curve", "discriminator's logits, real and made", pattern=names.LOGITS)
        sections.append(Section("Adversarial", (logits,)))
    speed = (names.STEP_SECONDS, names.DATA_SECONDS)
    sections += [
        Section("Speed", (Panel("curve", "seconds per step, of these for data", speed), _curve(names.FRAME_SECONDS))),
        Section("Cost", tuple(_bars(name) for name in names.TRAINING_COST), open=False),
    ]
    return Dashboard(method, method, tuple(sections))


def comparison() -> Dashboard:
    """All methods on equal terms: quality over steps and over time, benchmark results, cost."""
    evaluated = {name.partition("/")[2]: name for name in EVALUATED}
    trade = [
        Panel("scatter", "consistency against PSNR", (evaluated["psnr_y"], evaluated["consistency"])),
        Panel("scatter", "PSNR against time", (names.SECONDS_PER_FRAME, evaluated["psnr_y"])),
    ]
    cost = (names.PARAMETERS, names.TRAINED_PARAMETERS, names.TRAINING_HOURS, names.SECONDS_PER_FRAME)
    sections = (
        Section("Evaluation", (*(_bars(name) for name in EVALUATED), *trade)),
        Section("Evaluated clips", (Panel("table", "clips of the evaluation", (names.EVALUATION_TABLE,)),)),
        Section("Validation over steps", tuple(_curve(name, group=names.METHOD) for name in QUALITY)),
        Section("Validation over hours", tuple(_curve(name, x=names.HOURS, group=names.METHOD) for name in QUALITY)),
        Section("Pictures", PICTURES),
        Section("Cost", tuple(_bars(name) for name in (*cost, names.PEAK_MEMORY, names.SAMPLER_STEPS))),
        Section("Settings", (Panel("differences", "what differs between the runs"),), open=False),
    )
    return Dashboard(COMPARISON, None, sections)


def _curve(name: str, x: str = names.STEP, group: str | None = None) -> Panel:
    return Panel("curve", name.partition("/")[2].replace("_", " "), (name,), x=x, group=group)


def _bars(name: str) -> Panel:
    return Panel("bars", name.partition("/")[2].replace("_", " "), (name,), group=names.METHOD)


PICTURES = (
    Panel("media", "bicubic | output | ground truth", (names.STRIP,)),
    Panel("media", "one row of pixels over time: bicubic, output, ground truth", (names.SLICE,)),
    Panel("media", "bicubic | output | ground truth, moving", (names.VIDEO,)),
)
