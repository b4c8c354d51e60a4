"""One call of ``train``: Lightning's Trainer from the configuration, with its callbacks and loggers, and its fit."""

import errno
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from vsrbench import config
from vsrbench.data.loading import lost_workers_told
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, RunError, VsrbenchError
from vsrbench.methods.base import Method
from vsrbench.methods.module import MethodModule, centre
from vsrbench.runs import Run
from vsrbench.training.cache import Cache
from vsrbench.training.callbacks import CallTimer, StopOnSignal, find
from vsrbench.training.checkpoint import AtomicCheckpointIO, RunCheckpoint
from vsrbench.training.loggers import build_loggers
from vsrbench.training.memory import apply_checkpointing, apply_compile, paper_batch
from vsrbench.training.model_card import device_name, parameter_table, parameters
from vsrbench.training.result import LOST_RANK, Result
from vsrbench.training.resume import ExactResume, ResumableData
from vsrbench.training.sharding import frozen_blocks, strategy
from vsrbench.training.validation import Measures, check_length, check_metrics
from vsrbench.types import Clip
from vsrbench.weights.trained import checkpoint_file, load_trained

if TYPE_CHECKING:
    from omegaconf import DictConfig

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
FEWER = (
    "use fewer of them (data.workers=N; 0: none) or smaller batches (train.batch=N), and the same command goes on from "
    "the last checkpoint"
)
UNFIT = ("64-true", "64", "bf16-true", "16-true")  # Lightning converts samples to them, and cannot: a Clip is frozen
PEERS = ("gloo/transport", "ncclRemoteError", "Connection closed by peer", "Connection reset by peer")
QUIET = ("LeafSpec", "in eval mode", "Transformer2DModelOutput", "does not have many workers", "Checkpoint directory")


def accumulation(effective: int, batch: int, devices: int) -> int:
    """Micro-batches per optimiser step. Raises ConfigError where the effective batch cannot be reached exactly."""
    accumulate, rest = divmod(effective, batch * devices)
    if rest or accumulate < 1:
        fitting = [b for b in range(1, effective // devices + 1) if effective % (b * devices) == 0]
        remedy = f"train.batch can be {', '.join(map(str, fitting))}" if fitting else f"use at most {effective} devices"
        raise ConfigError(f"effective batch {effective} is no multiple of {batch} x {devices} device(s): {remedy}")
    return accumulate


def train(
    cfg: "DictConfig", run: Run | None, point: dict[str, Any] | None, begin: Callable[[], None] | None = None
) -> Result:
    """Train until ``trainer.max_steps``, a signal or ``trainer.max_time``.

    run: where everything is written; None: nowhere (``debug=fdr``). point: what ``resume_point`` gave; None
    begins anew, from the weights of ``ckpt_path`` where it is given. begin: called when everything is built and
    nothing can be refused any more.
    Raises DataError, WeightsError and ConfigError before any training, TrainingError for a loss that is not
    finite, RunError where a file cannot be written.
    """
    _quiet()
    pl.seed_everything(cfg.seed, verbose=False)
    if point is None and cfg.ckpt_path:
        checkpoint_file(Path(cfg.ckpt_path).expanduser())  # fails early where the weights are absent
    data = config.build(cfg.data)
    data.train_dataloader()  # fails here where there is nothing to train on, before networks are built
    data.validation = {"clips": cfg.validation.clips, "frames": cfg.validation.frames}
    loader = data.val_dataloader()
    validated = {"set": cfg.data.set, "clips": [source.name for source in loader.dataset.sources]}  # type: ignore[attr-defined]
    module = build_module(cfg, load=point is None)
    if run is not None and point is None:
        module.check_start()
    if point is None:
        module.method.check_pretrained(cfg.untrained)
    substitutes = substitutes_in(cfg, module) if point is None else point.get("substitutes", {})
    apply_checkpointing(module, cfg.gradient_checkpointing)
    apply_compile(module, cfg.compile)
    if cfg.trainer.strategy == "fsdp":
        frozen_blocks(module)  # fails here where there is nothing to shard, before processes are started
    check_metrics(list(cfg.validation.metrics), cfg.validation.metric, cfg.validation.mode)
    check_length(cfg.validation.metrics, cfg.train.frames, loader.dataset.sources, cfg.validation.frames)  # type: ignore[attr-defined]
    step = 0 if point is None else int(point["step"])
    trainer = build_trainer(cfg, run, manual=not module.automatic_optimization, step=step)
    effective, accumulate = share_batch(cfg, trainer, None if point is None else point["effective_batch"])
    cache = None if run is None else Cache(Path(cfg.runs).expanduser().resolve() / "kept")

    def loss(clip: Clip) -> float:
        return module.validation_loss(centre(clip.window(0, cfg.train.frames), cfg.train.crop))

    module.configure_run(accumulate, cfg.trainer.gradient_clip_val, cache, Measures(cfg.validation.metrics, loss))
    prepare(cfg, trainer, module.automatic_optimization, effective, accumulate, substitutes)
    if checkpoint := find(trainer, RunCheckpoint):
        checkpoint.identity["validated"] = validated
    if not validated["clips"]:
        trainer.limit_val_batches = 0
    announce(cfg, trainer, module, effective, accumulate, step)
    if begin is not None:
        begin()
    stream = ResumableData(data, step * effective, cfg.trainer.overfit_batches)
    last = None if point is None or run is None else run.checkpoints / "last.ckpt"
    with disk_faults_told(), lost_ranks_told(), lost_workers_told(FEWER):
        try:
            trainer.fit(module, datamodule=stream, ckpt_path=last)
        except MisconfigurationException as error:
            raise ConfigError(f"Lightning refuses these settings: {_line(error)}") from error
        finally:
            stream.stream.stop()
    return result(trainer, module, effective)


@contextmanager
def disk_faults_told() -> Iterator[None]:
    """A full disk and the like, met by whoever writes, become one RunError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise RunError(
            f"cannot write {error.filename or 'into the run folder'}: {error.strerror}; the last checkpoint is whole: "
            "free space, and the same command goes on from it"
        ) from error


@contextmanager
def lost_ranks_told() -> Iterator[None]:
    """An exchange between ranks that fails becomes one RunError: a rank that dies ends the others."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in PEERS):
            raise
        said = str(error).partition("\n")[0].partition(". This is typically")[0]
        raise RunError(
            f"{LOST_RANK}, its own message says why ({said}): the same command goes on from the last checkpoint"
        ) from error


def substitutes_in(cfg: "DictConfig", module: MethodModule) -> dict[str, str]:
    """See ``MethodModule.substitutes``; with the frozen networks that ``random=true`` of their nodes built."""
    nodes = [name for name in ("prior", "flow", "vit") if cfg.get(name) and cfg[name].get("random")]
    return dict.fromkeys(nodes, "random weights") | module.substitutes()


def build_module(cfg: "DictConfig", load: bool) -> MethodModule:
    """The training of the configured method at the start of its stage, on the CPU."""
    method: Method = config.build(cfg.method)
    module: MethodModule = config.build(cfg.module, method=method)
    if load and cfg.ckpt_path:
        load_trained(module, str(cfg.ckpt_path))
    method.configure_inference(precision=cfg.inference.precision, batch=cfg.inference.batch)
    # Plain containers: what the optimiser is given ends up in the checkpoint.
    optimiser = config.build(cfg.optimiser, _convert_="all")
    schedule = None if cfg.schedule is None else config.build(cfg.schedule, _convert_="all")
    check_optimiser(optimiser, schedule)
    module.begin_stage(cfg.stage, optimiser, Noise(cfg.seed), schedule)
    module.train()  # Lightning leaves the modes as they are; frozen parts go to eval mode
    return module


def check_optimiser(optimiser: Any, schedule: Any) -> None:
    """Raise ConfigError for settings that the optimiser or the schedule refuses, before training starts."""
    what = "optimiser"
    try:
        trial = optimiser([torch.nn.Parameter(torch.zeros(1))])
        what = "schedule"
        if schedule is not None:
            schedule(trial)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"{what} refuses these settings: {_line(error)}") from error


def build_trainer(cfg: "DictConfig", run: Run | None, manual: bool = False, step: int = 0) -> pl.Trainer:
    """Lightning's Trainer of the node ``trainer`` with the callbacks and loggers of their groups.

    manual: the module calls its optimisers itself; then it accumulates and clips, not Lightning. step: where
    metrics.csv goes on. Raises ConfigError for what Lightning refuses.
    """
    t = cfg.trainer
    if str(t.precision) in UNFIT:
        raise ConfigError(f"trainer.precision={t.precision}: use 32-true, bf16-mixed or 16-mixed")
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    callbacks = build_callbacks(cfg)
    loggers = [] if run is None else build_loggers(cfg, run, settings, step)
    make = _made("trainer", t, _partial_=True)
    arguments = make.keywords
    plugins = list(arguments.get("plugins") or [])
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # requeueing is the launcher's business
    ours = {
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": plugins,
        "strategy": strategy(arguments["strategy"], compiled=cfg.compile is not False),
        "default_root_dir": None if run is None else run.folder,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "max_time": None,  # CallTimer
        "overfit_batches": 0,  # Stream
        "accumulate_grad_batches": 1,  # share_batch
    }
    if manual:
        ours["gradient_clip_val"] = None
    if arguments.get("val_check_interval") is None:
        ours["val_check_interval"] = 1.0  # at the end; prepare() sets the interval of validation.every
    try:
        return make(**ours)
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"Lightning refuses these trainer settings: {_line(error)}") from error


def build_callbacks(cfg: "DictConfig") -> list[pl.Callback]:
    """The callbacks of the group ``callbacks`` in its order; a null removes one. Lightning runs checkpoints last."""
    nodes = {str(name): node for name, node in cfg.callbacks.items() if node}
    if cfg.ema.decay is None:
        nodes.pop("ema", None)
    if not cfg.trainer.enable_progress_bar:
        nodes.pop("progress", None)
    callbacks: list[pl.Callback] = [_made(f"callbacks.{name}", node) for name, node in nodes.items()]
    if cfg.trainer.max_time:
        callbacks.append(CallTimer(cfg.trainer.max_time, interval="step"))
    return callbacks


def _made(name: str, node: "DictConfig", **extra: Any) -> Any:
    """What a node with ``_target_`` describes. Raises ConfigError naming it where it cannot be made."""
    try:
        return config.build(node, **extra)
    except VsrbenchError:
        raise
    except Exception as error:  # whatever somebody's own class raises
        raise ConfigError(f"{name} cannot be made: {_line(error.__cause__ or error)}") from error


def share_batch(cfg: "DictConfig", trainer: pl.Trainer, known: int | None) -> tuple[int, int]:
    """(effective batch, batches per optimiser step). known: the one that a run began with; it keeps that, also when it
    goes on with other devices. Raises ConfigError where it cannot be reached."""
    devices = trainer.num_devices * trainer.num_nodes
    argument = cfg.trainer.accumulate_grad_batches
    effective = cfg.train.effective_batch or known or cfg.train.batch * devices * (argument or 1)
    accumulate = accumulation(effective, cfg.train.batch, devices)
    if argument not in (None, accumulate):
        raise ConfigError(
            f"trainer.accumulate_grad_batches={argument}: an effective batch of {effective} is {cfg.train.batch} x "
            f"{devices} device(s) x {accumulate}; set train.effective_batch={cfg.train.batch * devices * argument}"
        )
    return effective, accumulate


def prepare(
    cfg: "DictConfig",
    trainer: pl.Trainer,
    automatic: bool,
    effective: int,
    accumulate: int,
    substitutes: Mapping[str, str],
) -> None:
    """Tell trainer and callbacks how many batches make a step, and what checkpoints hold beside the weights."""
    if automatic:
        trainer.accumulate_grad_batches = accumulate
    if cfg.trainer.val_check_interval is None and cfg.validation.every and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        trainer.val_check_interval = cfg.validation.every * accumulate
        trainer.check_val_every_n_epoch = None  # counted over the whole run
    if resume := find(trainer, ExactResume):
        resume.accumulate = accumulate
    if checkpoint := find(trainer, RunCheckpoint):
        checkpoint.identity |= {"effective_batch": effective, "substitutes": dict(substitutes)}


@rank_zero_only
def announce(
    cfg: "DictConfig", trainer: pl.Trainer, module: MethodModule, effective: int, accumulate: int, step: int
) -> None:
    """Say what is trained, on what, and with which effective batch."""
    console = Console()
    console.print(parameter_table(module))
    devices = trainer.num_devices * trainer.num_nodes
    console.print(
        f"effective batch {effective} = {cfg.train.batch} x {devices} device(s) x {accumulate} accumulated; "
        f"{device_name(trainer)}, {cfg.trainer.precision}"
    )
    paper = paper_batch(cfg.method.name)
    if paper not in (None, effective):
        console.print(f"the paper trains with an effective batch of {paper}: train.effective_batch={paper}")
    if step:
        console.print(f"resuming at step {step} of {trainer.max_steps}")


def result(trainer: pl.Trainer, module: MethodModule, effective: int) -> Result:
    """How the call ended."""
    checkpoint, stop, timer = find(trainer, RunCheckpoint), find(trainer, StopOnSignal), find(trainer, CallTimer)
    received = None if stop is None else stop.received
    steps, ended = trainer.global_step, module.ended
    early = steps < trainer.max_steps and received is None and (timer is None or not timer.expired)
    return Result(
        steps=steps,
        stage=module.stage,
        effective_batch=effective,
        best=None if checkpoint is None else checkpoint.best,
        metrics={} if checkpoint is None else checkpoint.metrics,
        seconds=0.0 if checkpoint is None else checkpoint.seconds,
        parameters=parameters(module),
        signal=received,
        skipped=module.skipped,
        substitutes={} if checkpoint is None else checkpoint.identity.get("substitutes", {}),
        weights="last.ckpt" if checkpoint is None else checkpoint.weights_file.name,
        ended=ended or ("the trainer or a callback" if early else ""),
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _quiet() -> None:
    """Lightning's notes about things that are meant to be as they are."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for text in QUIET:
        warnings.filterwarnings("ignore", message=f".*{text}.*")
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)  # the report that was asked for
