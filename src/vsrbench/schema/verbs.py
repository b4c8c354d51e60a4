"""Which settings each command reads: one model per command, put together from shared parts.

A setting that identifies a run belongs to the run folder's name; ``identity`` gives these of a configuration.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from vsrbench.schema.sections import (
    Analysis,
    Basic,
    Budget,
    Checkpoint,
    Count,
    Ema,
    Index,
    Inference,
    Local,
    Measure,
    Networks,
    Optimise,
    Published,
    Samples,
    Section,
    Share,
    Slurm,
    Strips,
    Supports,
    Switches,
    Validation,
    Video,
    node,
    setting,
)  # fmt: skip  # isort: skip

Launcher = Annotated[Local | Basic | Slurm, Field(discriminator="kind")]
BUILT = ("data", "degradation", "optimiser", "schedule", "logger", "trainer", "callbacks", "module", "method")
TRAINER = (  # of the trainer: how long, where, how fast, and what is shown
    "max_steps", "max_epochs", "devices", "num_nodes", "accelerator", "strategy", "accumulate_grad_batches", "max_time",
    "plugins", "profiler", "log_every_n_steps", "val_check_interval", "check_val_every_n_epoch", "barebones",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "num_sanity_val_steps", "enable_progress_bar",
    "enable_model_summary", "detect_anomaly", "enable_autolog_hparams", "model_registry", "_target_",
)  # fmt: skip
ALL = ("*",)  # usual settings of a node: all, once a method is chosen
DATA = ("workers", "packed", "recipe")  # of a data set: how it is read, not what it is


class Job(Section):
    """Run folder and sweeps"""

    verb: str = setting("the command", identity=False)
    runs: str = setting("folder that holds the run folders", identity=False, usual=True)
    force: bool = setting("do again what is finished", identity=False, usual=True)
    sweep: str | None = setting("name of the sweep (-m); null: none, or derived from the command", identity=False)
    launcher: Launcher = setting("jobs of a sweep: local | basic | slurm | slurm_dry", identity=False)


class Run(Job):
    """Run folder and sweeps"""

    name: str | None = setting("run folder's name; null: derived from the settings", identity=False, usual=True)
    seed: Index = setting("of all random numbers", usual=True)
    tags: list[Any] = setting("words to find the run by", identity=False)


class Experiment(Section):
    """Experiments (experiments/)"""

    command: str | None = setting("the command that an experiment is for", identity=False)
    needs: dict[str, Any] = setting("settings that this command cannot do without", identity=False)
    published: Published | None = setting("the printed row that an experiment is for", identity=False)
    rows: Any = setting("the rows of a file that holds several, [name, ...] or {name: what it sets}", identity=False)
    row: Any = setting("one of them", identity=False, usual=True)


class Chosen(Section):
    """Method"""

    method: dict[str, Any] = node("settings of the method", usual=ALL)
    size: str = setting("tiny | mini | paper: networks, sampler and recipe of that size", usual=True)
    variant: str = setting("paper: as printed | released: as the authors' code does", usual=True)
    scale: int = setting("how many times larger", usual=True)
    ckpt_path: str | None = setting("weights: a run folder, a file, a folder of released weights", usual=True)
    weights: str | None = setting("trained part that the size ships; ckpt_path replaces it")
    untrained: bool = setting("go on where a trained or pretrained part has no weights", identity=False)
    sampler: dict[str, Any] | None = node("how the diffusion is sampled", usual=("kind", "steps"))
    prior: dict[str, Any] | None = node("the frozen diffusion model", usual=("path",))
    flow: dict[str, Any] | None = node("estimator of optical flow", usual=("weights",))
    vit: dict[str, Any] | None = Field(
        None, description="adapter: the image encoder", json_schema_extra={"identity": True, "free": True}
    )
    adapter_shapes: dict[str, Any] | None = Field(
        None, description="adapter: shapes of its backbones", json_schema_extra={"identity": True, "free": True}
    )
    flow_batch_statistics: bool = setting("RAFT in train mode, as the released codes leave it")
    supports: Supports = setting("what the method can do", identity=False)


class Sampled(Section):
    """Computing"""

    inference: Inference = setting("how clips are cut and put together")


class Data(Section):
    """Data"""

    data: dict[str, Any] = node(
        "the data set", aside=DATA, usual=("root", "packed", "workers"), kinds={"workers": Index}
    )
    degradation: dict[str, Any] = node("how LR frames are made from HR")


class TrainingData(Section):
    """Data"""

    data: dict[str, Any] = node(
        "the data set", aside=(*DATA, "splits.test"), usual=("root", "packed", "workers"), kinds={"workers": Index}
    )
    degradation: dict[str, Any] = node("how LR frames are made from HR")


class Evaluation(Section):
    """Protocol"""

    protocol: Switches = setting("replace switches of every chosen protocol")
    protocols: dict[str, Any] = setting("the chosen protocols, as their files say")
    published: Published | None = setting("the printed row to quote beside the result")


class Recipe(Section):
    """Training"""

    stage: str = setting("training stage of the method; all: one after the other", usual=True)
    module: dict[str, Any] | None = node(
        "training of the method: its LightningModule, and what training alone reads", usual=ALL
    )
    trainer: dict[str, Any] = node(
        "pytorch_lightning.Trainer: every argument under its own name",
        aside=TRAINER,
        usual=("max_steps", "max_time", "accelerator", "devices", "precision", "gradient_clip_val"),
        kinds={"max_steps": Count, "log_every_n_steps": Count, "num_nodes": Count, "overfit_batches": Index | Share},
        default_for_null=True,
    )
    callbacks: dict[str, Any] = node("Lightning callbacks by name", identity=False, many=True, default_for_null=True)
    compile: bool | Literal["inductor", "aot_eager", "eager"] = setting(
        "torch.compile the networks' repeated blocks", identity=False
    )
    gradient_checkpointing: bool | None = setting(
        "compute layers again in the backward pass; null: as the size says", identity=False
    )
    train: Samples = setting("training samples")
    optimiser: dict[str, Any] = node("optimiser of torch", usual=("lr",))
    schedule: dict[str, Any] | None = node("learning rate: a torch.optim.lr_scheduler class, stepped once per step")
    ema: Ema = setting("average of the trained part")
    validation: Validation = setting("clips that are upscaled while training")
    checkpoint: Checkpoint = setting("when a run is saved", identity=False)
    plan: dict[str, Any] | None = setting("methods with stages: {stage: settings}", identity=False)


class Logged(Section):
    """Loggers and sweeps for the best value"""

    logger: dict[str, Any] = node("loggers by name; several: logger=[csv,wandb]", identity=False, many=True)
    optimise: Optimise = setting("what sweeper=optuna looks for", identity=False)


class Train(Chosen, TrainingData, Recipe, Logged, Run, Experiment):
    """Train a method on a data set."""

    builds: ClassVar[tuple[str, ...]] = BUILT
    inference: Networks = setting("networks while validating")


class Eval(Chosen, Data, Evaluation, Sampled, Logged, Run, Experiment):
    """Write frames and evaluate them under a protocol."""

    builds: ClassVar[tuple[str, ...]] = ("data", "degradation", "method")
    predictions: str | None = setting("evaluate a folder of frames made elsewhere, <clip>/<frame>.png", usual=True)
    validation: Strips = setting("what a logger is shown", identity=False)


class Compare(Chosen, Data, Evaluation, Sampled, Recipe, Logged, Run, Experiment):
    """All methods on the same data, protocol and training budget."""

    builds: ClassVar[tuple[str, ...]] = BUILT
    budget: Budget = setting("what every method is trained for first")
    predictions: str | None = setting("evaluate a folder of frames made elsewhere")


class Upscale(Chosen, Sampled, Run, Experiment):
    """Upscale a video file or a folder of frames."""

    builds: ClassVar[tuple[str, ...]] = ("method",)
    input: str | None = setting("video file or folder of frames", identity=False, usual=True)
    output: str | None = setting("video file or folder of frames", identity=False, usual=True)
    video: Video = setting("how a video file is written", identity=False)


class Bench(Chosen, Data, Evaluation, Sampled, Run, Experiment):
    """What a method costs, beside what its paper prints."""

    builds: ClassVar[tuple[str, ...]] = ("data", "degradation", "method")
    task: Literal["params", "flops", "speed", "memory", "loader", "metrics"] = setting("what is measured", usual=True)
    against: Literal["reference"] | None = setting("task=speed: beside the loop of released codes", usual=True)
    output: str | None = setting("FILE that keeps the numbers as JSON", usual=True)
    bench: Measure = setting("what is measured, and how often")
    module: dict[str, Any] | None = node("training of the method: task=params counts its networks too")
    train: Samples = setting("task=loader: training samples")
    stage: str = setting("task=loader: training stage whose samples are read")
    plan: dict[str, Any] | None = setting("methods with stages: {stage: settings}", identity=False)
    counts: dict[str, Any] | None = setting("the paper's table of parameters", identity=False)
    timings: dict[str, Any] | None = setting("the paper's table of seconds", identity=False)
    peaks: dict[str, Any] | None = setting("the paper's table of peak memory", identity=False)


class Analyse(Chosen, Data, Sampled, Run, Experiment):
    """The papers' own analyses."""

    builds: ClassVar[tuple[str, ...]] = ("data", "degradation", "method")
    task: str | None = setting("correlation, warping, steps, factors, components, textures", usual=True)
    analysis: Analysis = setting("what is measured, and how")


class DataSet(Data, Job):
    """Check, pack or verify a data set on disk, or write a test set of another degradation."""

    builds: ClassVar[tuple[str, ...]] = ("degradation",)
    task: Literal["check", "pack", "degrade", "verify"] | None = setting("what to do", usual=True)
    output: str | None = setting("pack, degrade: folder that is written", usual=True)
    scale: int = setting("how many times smaller LR frames are")
    seed: Index = setting("of rendered clips")


class Weights(Chosen, Run, Experiment):
    """List and fetch known weights, check a folder, export trained parts."""

    task: Literal["list", "fetch", "check", "export"] | None = setting("what to do", usual=True)
    names: list[str] | None = setting("fetch: what is known by these names", usual=True)
    input: str | None = setting("check: folder, file or hub id", usual=True)
    output: str | None = setting("export: FILE.safetensors or FOLDER", usual=True)
    layout: Literal["project", "released"] | None = setting("export: project | released; null: by output", usual=True)
    dtype: Literal["float16", "float32"] = setting("export: float16 | float32", usual=True)
    inference: Networks = setting("where the method is built")


class Verify(Chosen, Run, Experiment):
    """Replay a recording of a method's released code and compare every tensor."""

    builds: ClassVar[tuple[str, ...]] = ("method", "module", "optimiser")
    reference: str | None = setting("folder of a recording", usual=True)
    tolerance: float = setting("largest difference that counts as equal", usual=True)
    module: dict[str, Any] | None = node("training of the method")
    optimiser: dict[str, Any] = node("optimiser of torch")


class Dashboard(Job):
    """W&B dashboards, saved where somebody is logged in."""

    dashboard: str = setting("all | comparison | a method's name", usual=True)
    logger: dict[str, Any] = node("project and entity", identity=False, many=True)


class Demo(Chosen, Data, Evaluation, Sampled, Run, Experiment):
    """Train, evaluate and upscale a miniature in a few minutes."""

    video: Video = setting("how a video file is written", identity=False)


class SmokeTest(Chosen, Data, Evaluation, Sampled, Recipe, Logged, Run, Experiment):
    """Run every experiment at size=tiny."""

    predictions: str | None = setting("a folder of frames made elsewhere")
    task: Any = setting("task of the experiment's command")
    bench: Measure = setting("what is measured, and how often")
    analysis: Analysis = setting("what is analysed, and how")
    counts: dict[str, Any] | None = setting("the paper's table of parameters", identity=False)
    timings: dict[str, Any] | None = setting("the paper's table of seconds", identity=False)
    peaks: dict[str, Any] | None = setting("the paper's table of peak memory", identity=False)


VERBS: dict[str, type[Section]] = {
    "train": Train, "eval": Eval, "compare": Compare, "upscale": Upscale, "bench": Bench, "data": DataSet,
    "weights": Weights, "analyse": Analyse, "verify": Verify, "dashboard": Dashboard, "demo": Demo,
    "smoke_test": SmokeTest,
}  # fmt: skip


def extra(field: Any) -> dict[str, Any]:
    """What a field says of itself besides kind and meaning."""
    return dict(field.json_schema_extra or {})


def section(annotation: Any, value: Any = None) -> type[Section] | None:
    """The model of a group of settings, also where it may be null; of several, the one that ``kind`` names."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    models = [model for one in get_args(annotation) if (model := section(one))]
    kind = value.get("kind") if isinstance(value, dict) else None
    fields = [
        m
        for m in models
        if kind is not None and kind in get_args(getattr(m.model_fields.get("kind"), "annotation", None))
    ]
    return next(iter(fields or models), None)


def readers(name: str) -> list[str]:
    """The commands that read a top-level setting."""
    return [verb for verb, model in VERBS.items() if name in model.model_fields and verb != "smoke_test"]


def identity(settings: dict[str, Any], verb: str) -> dict[str, Any]:
    """Flat ``{"a.b": value}`` of the settings that identify a run of the command."""
    flat: dict[str, Any] = {}

    def walk(model: type[Section], values: dict[str, Any], prefix: str) -> None:
        for name, field in model.model_fields.items():
            if name not in values or not extra(field).get("identity", True):
                continue
            value, inner = values[name], section(field.annotation, values[name])
            if inner is not None and inner is not Published and isinstance(value, dict):
                walk(inner, value, f"{prefix}{name}.")
            else:
                flat.update(leaves(value, f"{prefix}{name}", extra(field).get("aside", ())))

    walk(VERBS[verb], settings, "")
    return flat


def leaves(value: Any, path: str, aside: tuple[str, ...] | list[str] = ()) -> dict[str, Any]:
    """Flat settings below a value, without some of them."""
    if not isinstance(value, dict):
        return {path: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if name not in aside:
            below = [one.partition(".")[2] for one in aside if one.startswith(f"{name}.")]
            flat |= leaves(inner, f"{path}.{name}", below)
    return flat
