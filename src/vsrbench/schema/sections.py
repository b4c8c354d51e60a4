"""Groups of plain settings that several commands share. Fields are what YAML may say; the text is what help shows.

``identity=False``: the setting only lengthens, moves or describes a run; it changes neither the name of its folder nor
what a folder is found again by.
"""

from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Ge(1)]  # a whole number from 1
Index = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]


def setting(meaning: str, identity: bool = True, usual: bool = False) -> Any:
    """A field: its meaning in one line, whether it identifies a run, whether the short help shows it."""
    return Field(description=meaning, json_schema_extra={"identity": identity, "usual": usual})


def node(
    meaning: str,
    aside: tuple[str, ...] = (),
    identity: bool = True,
    many: bool = False,
    usual: tuple[str, ...] = (),
    kinds: dict[str, Any] | None = None,
    default_for_null: bool = False,
) -> Any:
    """A field whose ``_target_`` says which settings it takes. aside: those of them that identify no run.

    many: nodes by a name of the user's choice (callbacks, loggers). usual: settings that the short help shows. kinds:
    what some settings must be beyond what the target says; checked without importing it. default_for_null: null stands
    for the target's own default.
    """
    extra: dict[str, Any] = {"identity": identity, "aside": list(aside), "node": "many" if many else "one"}
    extra |= {"usual": list(usual), "kinds": kinds or {}, "default_for_null": default_for_null}
    return Field(description=meaning, json_schema_extra=extra)


class Section(BaseModel):
    """A group of settings: no others, each of exactly the kind that it states."""

    model_config = ConfigDict(extra="forbid", strict=True)
    builds: ClassVar[tuple[str, ...]] = ()  # nodes that the command builds in any case


class Networks(Section):
    """How networks run outside of training."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "the networks while sampling: auto (what the device computes natively) | fp32 (exact) | bf16 | fp16"
    )
    device: str = setting("auto: a GPU where there is one, else the CPU; or cuda:1, cpu, ...", identity=False)
    batch: Count = setting("frames the networks take at once", identity=False)


class Inference(Networks):
    """How clips are cut for the method and put together again."""

    chunk: Count = setting("frames per temporal chunk; the method adds its context on both sides", usual=True)
    tile: Count | None = setting("LR pixels per side of a spatial tile; null: whole frames", usual=True)
    whole: Index = setting("longest clip that a method which looks at all frames at once is given whole")
    overlap: Index = setting("LR pixels that neighbouring tiles share and blend over")
    max_frames: Count | None = setting("upscale: stop after so many frames")
    devices: Count | Literal["auto"] = setting(
        "eval: processes that share the clips, a GPU each where there are any", identity=False
    )


class Video(Section):
    """How a video file is written."""

    codec: str = setting("auto: libx264, in .webm libvpx-vp9; libx265, libsvtav1, ffv1, ...")
    crf: Index = setting("quality, lower is better", usual=True)
    preset: str = setting("libx264, libx265: slower is smaller")
    pix_fmt: str = setting("auto: yuv420p, 10 bits where the input has more than 8, yuv444p for odd sizes")
    fps: int | float | str | None = setting(
        "frame rate of a folder of frames, for instance 25 or 30000/1001", usual=True
    )
    audio: bool = setting("copy the input's audio")
    deinterlace: bool = setting("interlaced input: whole frames of both fields (bwdif)")


class Measure(Section):
    """What bench counts and measures."""

    height: Count | None = setting(
        "LR pixels; null: 720p output for flops and on a GPU, minutes' worth on a CPU", usual=True
    )
    width: Count | None = setting("LR pixels", usual=True)
    frames: Count | None = setting("length of the clip; null: 100 as in REDS (memory: inference.batch, 2 at least)")
    repeats: Count = setting("speed: timed calls of each part", usual=True)
    warmup: Index = setting("speed: calls before those")


class HighPass(Section):
    """The high-pass filter of the analyses."""

    threshold: float = setting("Sec. 3.2: radius on the shifted spectrum")
    reference: int | None = setting("shorter side that the radius is meant for, others in proportion; null: for all")
    measure: Literal["energy", "share"] = setting("energy: per pixel | share: of all")


class Components(Section):
    """task=components: what of the first clip."""

    frame: Index = setting("frame of the clip")
    channel: Index = setting("channel of the latent")


class Textures(Section):
    """task=textures: what of the first clip."""

    frame: Index = setting("frame of the clip")
    steps: Count = setting("diffusion steps to picture")
    crop: Count = setting("HR pixels of the centre to picture")


class Analysis(Section):
    """What is measured, and how: the paper's choices where it prints them."""

    split: str = setting("split of the data set whose clips are sampled")
    clips: list[Any] | None = setting("names, for instance [calendar,city]; null: all", usual=True)
    frames: Count | None = setting("first frames of each clip, sampled at once; null: all", usual=True)
    factors: list[int | float] = setting("task=factors: s of the rescaled warping")
    canny: list[int | float] = setting("thresholds of the edge detector")
    laplacian: Literal["mean", "variance"] = setting("mean: of the absolute response | variance")
    highpass: HighPass = setting("the high-pass filter")
    mode: Literal["nearest", "bicubic"] = setting("interpolation around the warp: nearest | bicubic")
    align: Literal["exact", "released"] = setting("exact | released")
    pick: Literal["centre", "corner"] = setting("centre | corner")
    padding: Literal["border", "zeros"] = setting("border | zeros: as the method reads outside the frame")
    bins: Count = setting("task=correlation: of the histograms")
    components: Components = setting("task=components")
    textures: Textures = setting("task=textures")


class Samples(Section):
    """Training samples; the size of a method sets the paper's values."""

    crop: Count = setting("LR pixels per side", usual=True)
    centre_crop: bool = setting("crops from the middle of the frames instead of random places")
    frames: Count = setting("frames per sample", usual=True)
    batch: Count = setting("samples per device and step", identity=False, usual=True)
    effective_batch: Count | None = setting("reached by accumulation; null: batch x devices", usual=True)
    flip: bool = setting("mirror left and right, with probability 1/2")
    flip_vertical: bool = setting("mirror up and down")
    transpose: bool = setting("exchange rows and columns")
    time_reversal: bool = setting("last frame first")
    stride: list[Count] | None = setting("distances between frames to choose from")
    samples_per_epoch: Count | None = setting("null: until every frame was drawn once")
    pool: Count | None = setting(
        "so many different samples over and over, for what is dear to make; null: always new ones"
    )


class Ema(Section):
    """Average of the trained part."""

    decay: Annotated[float, Gt(0), Le(1)] | None = setting(
        "validation, best.ckpt and later commands use the average; null: none"
    )


class Strips(Section):
    """What a logger is shown."""

    strips: Index | None = setting("clips shown as picture, slice over time and video", identity=False)


class Validation(Strips):
    """Clips that are upscaled while training."""

    every: Index | None = setting("optimiser steps; 0: only at the end", identity=False, usual=True)
    clips: Index | None = setting("the first so many of the data set's validation clips")
    frames: Count = setting("the first so many of each")
    metrics: list[str] = setting("val/psnr_y, val/ssim_y, val/consistency, val/loss, val/lpips", identity=False)
    metric: str = setting("one of them: decides which checkpoint is the best", usual=True)
    mode: Literal["max", "min"] = setting("max | min: which value of that metric is better")


class Checkpoint(Section):
    """When a run is saved."""

    every: Index | None = setting("optimiser steps between writes of last.ckpt; 0: only at the end", usual=True)
    weights: Literal["best", "last"] = setting(
        "what ckpt_path=RUN takes: best (by validation) | last", identity=False, usual=True
    )


class Local(Section):
    """launcher=local: jobs of a sweep on this machine, a process each."""

    kind: Literal["local"] = setting("where the jobs run")
    parallel: Count = setting("jobs at a time")


class Basic(Section):
    """launcher=basic: jobs of a sweep one after the other in one process."""

    kind: Literal["basic"] = setting("where the jobs run")


class Slurm(Section):
    """launcher=slurm: jobs of a sweep as SLURM arrays (docs/cluster.md)."""

    kind: Literal["slurm"] = setting("where the jobs run")
    dry: bool = setting("print the script instead of submitting it")
    name: str = setting("of the SLURM job")
    nodes: Count = setting("machines per job")
    gpus: int | str | None = setting("per node; null: none asked for")
    tasks: Count | None = setting("processes per node; null: one per device when training, else 1")
    cpus: Count | None = setting("cores per process; null: the cluster's default")
    memory_gb: int | float | None = setting("per node; null: the cluster's default")
    minutes: int | float = setting("time limit")
    signal_seconds: Index = setting("so long before the limit a job saves and is queued again")
    requeues: Index = setting("times that a job may go on in this way; 0: never")
    partition: Any = setting("SLURM partition")
    account: Any = setting("SLURM account")
    qos: Any = setting("SLURM quality of service")
    constraint: Any = setting("SLURM constraint")
    exclude: Any = setting("nodes to leave out")
    gres: Any = setting("generic resources")
    parallel: Count = setting("jobs of an array that run at a time")
    array: Count = setting("jobs per array; longer sweeps become several")
    setup: list[str] = setting("shell lines before the command, for instance [module load cuda]")
    extra: list[str] = setting("further sbatch options")
    wait: bool = setting("stay until every job has ended, with a bar")


class Budget(Section):
    """What every method is trained for before it is evaluated."""

    steps: Count | None = setting(
        "optimiser steps from the start of its training; null: none, weights as shipped", usual=True
    )
    trained: bool = setting("false: stays as shipped whatever the budget (the prior, which others build on)")


class Optimise(Section):
    """What sweeper=optuna looks for."""

    metrics: list[str] = setting("values of result.json; methods state their own")
    directions: list[Literal["maximize", "minimize"]] = setting("where each should go")


class Switches(Section):
    """Replace a switch of every chosen protocol (conf/protocol, docs/protocols.md); null: as the protocol says."""

    block: Any = setting("part of the protocol: data set")
    split: Any = setting("split of the data set")
    metrics: Any = setting("list of metrics, for instance [psnr_y,ssim_y]", usual=True)
    container: Any = setting("png: frames are evaluated as files hold them | float")
    order: Any = setting("order of channels when luma is computed: rgb | bgr")
    quantisation: Any = setting("to 8 bits: round_half_up | truncate | ...")
    luma: Any = setting("formula of Y")
    psnr: Any = setting("mean_of_decibels | of the mean error")
    ssim: Any = setting("window and borders")
    channel: Any = setting("rgb | y")
    crop: Any = setting("HR pixels left out at each border", usual=True)
    window: Any = setting("centre window, HR pixels")
    frames: Any = setting("all | centre | convention")
    trim: Any = setting("frames left out at either end")
    averaging: Any = setting("clips: mean of clips | frames: mean of all frames")
    scene_flow: Any = setting("flow between frames of the truth: estimated | exact")
    flow: Any = setting("estimator of that flow")
    mask: Any = setting("pixels of temporal metrics that count")


class Published(Section):
    """A printed row (docs/published.md)."""

    model_config = ConfigDict(extra="allow")


class Supports(Section):
    """What a method can do; choices outside are refused."""

    size: list[str] | None = setting("sizes; null: the method has none")
    variant: list[str] | None = setting("variants; null: any")
    scale: list[int] = setting("scales")
    untrained: list[str] = setting("sizes that make sense without trained weights; []: none")
    weights: dict[str, str] = Field(
        default={}, description="words of the setting weights", json_schema_extra={"identity": False}
    )
    auto: dict[str, str] = Field(
        default={}, description="weights=auto: by degradation or data set", json_schema_extra={"identity": False}
    )
    verbs: list[str] = Field(default=[], description="commands; none: all", json_schema_extra={"identity": False})
