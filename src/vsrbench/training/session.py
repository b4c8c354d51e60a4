"""One call of ``train``: from the configuration to a Lightning Trainer with everything a run needs."""

import errno
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from vsrbench import config
from vsrbench.data.loading import lost_workers_told
from vsrbench.diffusion.noise import Noise
from vsrbench.errors import ConfigError, RunError
from vsrbench.methods.base import Method
from vsrbench.runs import Run
from vsrbench.training.callbacks import Averaging, BatchDone, Meter, StopOnSignal
from vsrbench.training.checkpoints import AtomicCheckpointIO, Checkpoints
from vsrbench.training.kept import Kept
from vsrbench.training.loggers import CsvLogger, start
from vsrbench.training.outcome import LOST_RANK, Outcome
from vsrbench.training.progress import Bar
from vsrbench.training.publish import Publish
from vsrbench.training.resume import Resume, Stream
from vsrbench.training.settings import apply_checkpointing, apply_compile, paper_batch
from vsrbench.training.sharding import frozen_blocks, strategy
from vsrbench.training.summary import device_name, parameter_table, parameters
from vsrbench.training.validation import Validation, check_metrics, lpips_network
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
QUIET = ("LeafSpec", "in eval mode", "Transformer2DModelOutput")


class CallTimer(Timer):
    """``trainer.max_time`` counts the seconds of one call; Lightning's own timer counts those of all calls."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def accumulation(effective: int, batch: int, devices: int) -> int:
    """Micro-batches per optimiser step. Raises ConfigError where the effective batch cannot be reached exactly."""
    accumulate, rest = divmod(effective, batch * devices)
    if rest or accumulate < 1:
        fitting = [b for b in range(1, effective // devices + 1) if effective % (b * devices) == 0]
        remedy = f"train.batch can be {', '.join(map(str, fitting))}" if fitting else f"use at most {effective} devices"
        raise ConfigError(f"effective batch {effective} is no multiple of {batch} x {devices} device(s): {remedy}")
    return accumulate


def train(cfg: "DictConfig", run: Run | None, point: dict[str, Any] | None) -> Outcome:
    """Train until ``trainer.max_steps``, a signal or ``trainer.max_time``.

    run: where everything is written; None: nowhere (``debug=fdr``). point: what ``resume_point`` gave; None
    begins anew, from the weights of ``ckpt_path`` where it is given.
    Raises DataError, WeightsError and ConfigError before any training, TrainingError for a loss that is not
    finite, RunError where a file cannot be written.
    """
    _quiet()
    pl.seed_everything(cfg.seed, verbose=False)
    if point is None and cfg.ckpt_path:
        checkpoint_file(Path(cfg.ckpt_path).expanduser())  # fails early where the weights are absent
    data = config.build(cfg.data)
    data.train_dataloader()  # fails here where there is nothing to train on, before networks are built
    sources = data.clips("val")[: cfg.validation.clips]
    method = build_method(cfg, load=point is None)
    if run is not None and point is None:
        method.check_start()
    apply_checkpointing(method, cfg.trainer.checkpointing)
    apply_compile(method, cfg.trainer.compile)
    if cfg.trainer.strategy == "fsdp":
        frozen_blocks(method)  # fails here where there is nothing to shard, before processes are started
    bench = Bench(cfg, run, point, sources, manual=not method.automatic_optimization)
    method.accumulate, method.gradient_clip = bench.accumulate, cfg.trainer.gradient_clip
    if run is not None:
        method.keep = Kept(Path(cfg.runs).expanduser().resolve() / "kept")
    trainer = bench.trainer
    data.trainer, data.first_sample = trainer, bench.step * bench.effective
    bench.announce(method)
    last = None if point is None or run is None else run.checkpoints / "last.ckpt"
    stream = Stream(data, cfg.trainer.overfit_batches)
    with disk_faults_told(), lost_ranks_told(), lost_workers_told(FEWER):
        try:
            trainer.fit(method, train_dataloaders=stream, ckpt_path=last)
        finally:
            stream.stop()
    return bench.outcome(method)


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


def build_method(cfg: "DictConfig", load: bool) -> Method:
    """The method at the start of its stage, on the CPU."""
    method: Method = config.build(cfg.method)
    if load and cfg.ckpt_path:
        load_trained(method, str(cfg.ckpt_path))
    method.use(precision=cfg.inference.precision, batch=cfg.inference.batch)
    # Plain containers: what the optimiser is given ends up in the checkpoint.
    optimiser = config.build(cfg.optimiser, _convert_="all")
    schedule = None if cfg.schedule is None else config.build(cfg.schedule, _convert_="all")
    method.begin_stage(cfg.stage, optimiser, Noise(cfg.seed), schedule)
    method.train()  # Lightning leaves the modes as they are; frozen parts go to eval mode
    return method


class Bench:
    """The Trainer of one call with its callbacks, and what they know when it ends.

    manual: the method calls its optimisers itself; then it accumulates and clips, not Lightning.
    """

    def __init__(
        self, cfg: "DictConfig", run: Run | None, point: dict[str, Any] | None, sources: list[Any], manual: bool = False
    ) -> None:
        self.cfg, self.run, self.manual = cfg, run, manual
        self.step = 0 if point is None else int(point["step"])
        check_metrics(list(cfg.validation.metrics), cfg.validation.metric)
        self.averaging = Averaging(cfg.ema.decay) if cfg.ema.decay else None
        self.stop, self.resume, self.meter = StopOnSignal(), Resume(), Meter(cfg.trainer.log_every, self.averaging)
        self.bar = Bar(self.meter)
        self.identity = {"method": cfg.method.name, "size": cfg.size, "variant": cfg.variant, "stage": cfg.stage}
        self.checkpoints = None
        if run is not None:
            v = cfg.validation
            self.checkpoints = Checkpoints(run.checkpoints, cfg.checkpoint.every, v.metric, v.mode, self.identity)
        self.validation = self._validation(sources)
        self.publish = None
        if run is not None and self.checkpoints is not None:
            settings: Any = OmegaConf.to_container(cfg, resolve=True)
            self.publish = Publish(settings, run, self.validation, self.checkpoints)
        self.trainer = self._trainer()
        self.devices = self.trainer.num_devices * self.trainer.num_nodes
        # A run keeps its effective batch, also when it goes on with other devices.
        known = None if point is None else point["effective_batch"]
        self.effective = cfg.train.effective_batch or known or cfg.train.batch * self.devices
        self.identity["effective_batch"] = self.effective
        self.accumulate = accumulation(self.effective, cfg.train.batch, self.devices)
        self.trainer.accumulate_grad_batches = 1 if manual else self.accumulate
        self.resume.accumulate = self.accumulate

    def _validation(self, sources: list[Any]) -> Validation:
        v, noise = self.cfg.validation, Noise(self.cfg.seed)
        samples = None if self.run is None else self.run.samples
        return Validation(
            sources, v.every, v.frames, noise, self.averaging, self.checkpoints, samples, v.strips, self.bar,
            list(v.metrics), lpips_network(v.metrics),
        )  # fmt: skip

    def _trainer(self) -> pl.Trainer:
        t = self.cfg.trainer
        if str(t.precision) in UNFIT:
            raise ConfigError(f"trainer.precision={t.precision}: use 32-true, bf16-mixed or 16-mixed")
        # Order: a step's average, row, validation and best weights are all in the checkpoint of that step.
        timer = CallTimer(t.max_time, interval="step") if t.max_time else None
        begin, end = [self.resume, self.averaging, self.meter, self.bar, self.stop], [timer, BatchDone(self.meter)]
        callbacks = [c for c in (*begin, self.validation, self.checkpoints, *end, self.publish) if c is not None]
        plugins: list[Any] = [AtomicCheckpointIO()]
        if SLURMEnvironment.detect():
            plugins.append(SLURMEnvironment(auto_requeue=False))  # requeueing is the launcher's business
        return _make_trainer(
            accelerator=t.accelerator, devices=t.devices, num_nodes=t.num_nodes,
            strategy=strategy(t.strategy, compiled=t.compile is not False),
            precision=t.precision, max_steps=t.max_steps, max_epochs=-1,
            gradient_clip_val=None if self.manual else t.gradient_clip,
            callbacks=callbacks, plugins=plugins, logger=self._loggers(),
            default_root_dir=None if self.run is None else self.run.folder,
            use_distributed_sampler=False, limit_val_batches=0, num_sanity_val_steps=0, log_every_n_steps=t.log_every,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    def _loggers(self) -> list[Any]:
        if self.run is None:
            return []
        settings: Any = OmegaConf.to_container(self.cfg, resolve=True)
        return [CsvLogger(self.run.folder / "metrics.csv", self.step), *start(self.cfg, self.run, settings)]

    @rank_zero_only
    def announce(self, method: Method) -> None:
        """Say what is trained, on what, and with which effective batch."""
        console = Console()
        console.print(parameter_table(method))
        batch = self.cfg.train.batch
        console.print(
            f"effective batch {self.effective} = {batch} x {self.devices} device(s) x {self.accumulate} accumulated; "
            f"{device_name(self.trainer)}, {self.cfg.trainer.precision}"
        )
        printed = paper_batch(self.cfg.method.name)
        if printed not in (None, self.effective):
            console.print(f"the paper trains with an effective batch of {printed}: train.effective_batch={printed}")
        if self.step:
            console.print(f"resuming at step {self.step} of {self.trainer.max_steps}")

    def outcome(self, method: Method) -> Outcome:
        return Outcome(
            steps=self.trainer.global_step,
            stage=method.stage,
            effective_batch=self.effective,
            best=None if self.checkpoints is None else self.checkpoints.best,
            metrics=self.validation.metrics,
            seconds=0.0 if self.checkpoints is None else self.checkpoints.seconds,
            parameters=parameters(method),
            signal=self.stop.received,
            skipped=method.skipped,
            ended=method.ended,
        )


def _make_trainer(**settings: Any) -> pl.Trainer:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        return pl.Trainer(**settings)
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(f"Lightning refuses these trainer settings: {error}") from error


def _quiet() -> None:
    """Lightning's notes about things that are meant to be as they are."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for text in QUIET:
        warnings.filterwarnings("ignore", message=f".*{text}.*")
