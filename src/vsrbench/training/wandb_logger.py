"""A W&B logger that never stops what it reports on: offline without login or network, silent where W&B itself fails."""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning import loggers
from pytorch_lightning.loggers.logger import DummyExperiment
from pytorch_lightning.utilities import rank_zero_only

from vsrbench.data.loading import lost_worker
from vsrbench.runs import write_atomic
from vsrbench.stored import read_json
from vsrbench.training import names
from vsrbench.training.checkpoint import AtomicCheckpointIO
from vsrbench.training.media import CAPTION, Shown
from vsrbench.training.wandb_login import mode
from vsrbench.weights.files import read_checkpoint
from vsrbench.weights.trained import IDENTITY

Cell = float | str | None
WEIGHTS = ("state_dict", "ema", "stage", "frozen", "global_step", IDENTITY)  # what of a checkpoint is uploaded


class WandbLogger(loggers.WandbLogger):
    """One W&B run per run folder (``save_dir``); the same folder goes on with the same run.

    Lightning's logger, except that it never stops a training. Nothing is sent before the first call, which makes the
    run in the process that is rank 0. Whatever W&B raises afterwards (no network, its process killed, a full disk) is
    said once, and then nothing more is sent: the run folder holds all of it anyway.
    group: null takes the sweep's name where the run belongs to one. checkpoint: upload the run's weights at the end.
    more: further arguments of ``wandb.init``.
    """

    def __init__(
        self,
        save_dir: str | Path,
        project: str = "vsrbench",
        entity: str | None = None,
        group: str | None = None,
        checkpoint: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(save_dir=save_dir, project=project)
        self.folder, self.checkpoint = Path(save_dir), checkpoint
        self.settings: dict[str, Any] = {"project": project, "entity": entity, "group": group, **more}
        self.settings.setdefault("name", self.folder.name)
        self.fresh = False  # a new W&B run even where the folder has one
        self.finished = False  # whether the work came to its end, for the run's state
        self.run: Any = None
        self.mode = ""
        self._dead = False

    @property
    def name(self) -> str:
        return str(self.settings["project"])

    @property
    def version(self) -> str:
        return ""

    @property
    def experiment(self) -> Any:
        """The W&B run, started when it is first asked for; one that does nothing on other ranks than 0, and where W&B
        fails."""
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._try(lambda run: None)
        return self.run or DummyExperiment()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The whole configuration as plain containers, before the run starts; what the folder's provenance.json says
        is added."""
        import wandb

        known: dict[str, Any] = {names.METHOD: params["method"]["name"]}
        origin = self.folder / "provenance.json"
        if origin.is_file():
            known["provenance"] = read_json(origin, "remove it")
        tags = dict.fromkeys([params["method"]["name"], params["size"], *params["tags"]])
        # A dead network is found out in seconds instead of a minute and a half, and no run waits for ever at its end.
        patience = wandb.Settings(
            init_timeout=20, finish_timeout=600, finish_timeout_raises=True, console="off", quiet=True
        )
        self.fresh = bool(params["force"])
        values = {key: value for key, value in self.settings.items() if value is not None}
        self.settings = {
            "entity": None,
            "group": params.get("sweep"),
            "job_type": params["verb"],
            "config": {**params, **known},
            "tags": list(tags),
            "allow_val_change": True,  # a run that goes on may be longer than it was to be
            "settings": patience,
            **values,
        }

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """step: optimiser steps; W&B drops rows that go back, which a resumed run makes again with equal values."""
        axis = {} if step is None else {names.STEP: step}
        self._try(lambda run: run.log({**metrics, **axis}, step=step))

    @rank_zero_only
    def log_media(self, shown: Sequence[Shown], step: int) -> None:
        """Strips, slices over time and videos of clips, each kind under one key."""
        import wandb

        def send(run: Any) -> None:
            media: dict[str, Any] = {}
            for key in (names.STRIP, names.SLICE):
                media[key] = [wandb.Image(str(s.files[key]), caption=f"{s.clip}: {CAPTION}") for s in shown]
            media[names.VIDEO] = [
                wandb.Video(str(s.files[names.VIDEO]), format="mp4", caption=f"{s.clip}: {CAPTION}") for s in shown
            ]
            run.log({**media, names.STEP: step}, step=step)

        if shown:
            self._try(send)

    @rank_zero_only
    def log_clips(
        self, key: str, rows: Sequence[Mapping[str, Cell]], step: int | None = None, shown: Sequence[Shown] = ()
    ) -> None:
        """A table with a row per clip; with the strips of the clips that are shown."""
        import wandb

        def send(run: Any) -> None:
            columns: list[Any] = list(dict.fromkeys(column for row in rows for column in row))
            strips = {s.clip: s.files[names.STRIP] for s in shown}
            table = wandb.Table(columns=[*columns, "strip"] if strips else columns)
            for row in rows:
                file = strips.get(str(row["clip"]))
                picture = [wandb.Image(str(file)) if file else None] if strips else []
                table.add_data(*(row.get(column) for column in columns), *picture)
            run.log({key: table} if step is None else {key: table, names.STEP: step}, step=step)

        if rows:
            self._try(send)

    @rank_zero_only
    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Numbers that a run has once: cost, the best validation."""
        self._try(lambda run: run.summary.update(dict(values)))

    @rank_zero_only
    def log_checkpoint(self, file: Path, card: Path, others: Sequence[Path], metadata: Mapping[str, Any]) -> None:
        """The weights as an artifact of type ``model`` with their card as description and README.md.

        ours: a hard link is uploaded. It is no second copy on disk, and stays what it is when a later call of the
        same run replaces the checkpoint before an offline run is synchronised. Of last.ckpt the weights alone are
        copied: the rest, the optimiser's state above all, serves resuming in the run folder.
        """
        import wandb

        def send(run: Any) -> None:
            copy = self.folder / "wandb" / "checkpoints" / f"step_{metadata['step']:06d}{file.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            content = read_checkpoint(file, mmap=True)
            alone = {key: value for key, value in content.items() if key in WEIGHTS}
            if alone.keys() == content.keys():
                os.link(file, copy)
            else:
                AtomicCheckpointIO().save_checkpoint(alone, copy)
            description = card.read_text()
            artifact = wandb.Artifact(f"{run.id}-weights", "model", description, dict(metadata))
            artifact.add_file(str(copy), file.name, policy="immutable", skip_cache=True)
            for path in (card, *others):
                artifact.add_file(str(path), path.name)
            run.log_artifact(artifact, aliases=["latest", f"step-{metadata['step']}"])

        if self.checkpoint:
            self._try(send)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run; an offline one says how to upload it. Lightning calls this once, with "success" or "failed"."""
        if self.run is None:
            return
        import wandb

        run, self.run = self.run, None
        try:
            if status == "success" and not self.finished:
                run.mark_preempting()  # the same command goes on
            run.finish(exit_code=0 if self.finished else 1)
        except Exception as error:
            self._give_up(error)
        if self._dead:
            with suppress(Exception):  # a second report of the same, which W&B would make when Python ends
                wandb.teardown()
        if self.mode == "offline":
            print(f"upload to W&B: wandb sync {self.folder / 'wandb'}/offline-run-*")

    def _try(self, send: Callable[[Any], Any]) -> None:
        """Send something. Never raises: no curve is worth a training."""
        if self._dead:
            return
        try:
            if self.run is None:
                self.run = self._start()
            send(self.run)
        except Exception as error:
            if lost_worker(error):  # torch raises that wherever the main thread is; W&B has no part in it
                raise
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if self._dead:
            return
        self._dead = True
        print(f"W&B stopped ({type(error).__name__}: {error}); {self.folder} holds everything that it would have got")

    def _start(self) -> Any:
        import wandb

        self.mode = mode()
        if self.mode == "offline":
            print(f"W&B: logging offline in {self.folder / 'wandb'} (not logged in, or WANDB_MODE)")
        settings: dict[str, Any] = {**self.settings, "id": self._identity(), "mode": self.mode}
        settings |= {"resume": "allow", "dir": str(self.folder)}
        try:
            run = wandb.init(**settings)
        except Exception as error:  # of many kinds: no network, a refused key, an unknown entity
            if self.mode != "online":
                raise
            print(f"W&B cannot be reached ({error}): logging offline in {self.folder / 'wandb'}")
            self.mode = "offline"
            run = wandb.init(**{**settings, "mode": "offline"})
        define_axes(run)
        return run

    def _identity(self) -> str:
        """The run's id, kept in the folder: unlike its name it is unique in a project."""
        path = self.folder / "wandb" / "id.txt"
        if self.fresh or not path.is_file():
            write_atomic(path, f"{self.settings['name']}-{secrets.token_hex(3)}".replace("/", "-").encode())
        return path.read_text()


def define_axes(run: Any) -> None:
    """Every group of curves and media over optimiser steps; the step itself and the hours are no curves."""
    run.define_metric(names.STEP, hidden=True)
    for group in ("train/*", "val/*", "perf/*", "samples/*"):
        run.define_metric(group, step_metric=names.STEP)
