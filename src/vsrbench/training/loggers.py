"""Where curves and pictures go: metrics.csv always, W&B or TensorBoard on top."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from vsrbench.config import build
from vsrbench.errors import ConfigError
from vsrbench.runs import Run, write_atomic
from vsrbench.training import names
from vsrbench.training.media import Shown, gif
from vsrbench.training.outcome import first_process
from vsrbench.training.wandb_run import WandbRun

if TYPE_CHECKING:
    from omegaconf import DictConfig


class CsvLogger(Logger):
    """``metrics.csv``: one row per call, one column per metric, ``step`` first.

    Rows behind ``step`` (the checkpoint that a run goes on from) are dropped: they will be made again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._columns = ["step"]
        if first_process() and path.is_file():
            self._rewrite([row for row in read_metrics(path) if int(row["step"]) <= step])

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        new = [key for key in metrics if key not in self._columns]
        if new or not self.path.is_file():
            rows = read_metrics(self.path) if self.path.is_file() else []
            self._columns += new
            self._rewrite(rows)
        numbers = {key: f"{float(value):.8g}" for key, value in metrics.items()}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow({"step": step, **numbers})

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder's config.yaml has them."""

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        self._columns += [key for row in rows[:1] for key in row if key not in self._columns]
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path, text.getvalue().encode())


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv; values are text, empty where a row lacks the metric.

    A row that a killed process left half written, or with values too many, is left out.
    """
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]


def start(cfg: "DictConfig", run: Run, settings: dict[str, Any]) -> list[Logger]:
    """What the configuration's ``logger`` names, for one run; nothing for ``logger=csv``.

    settings: the resolved configuration and whatever else a run's page should say of it.
    """
    if not cfg.logger.get("_target_"):
        return []
    # As a partial: Hydra would try to build what the configuration describes.
    make = build(cfg.logger, _partial_=True)
    return [make(folder=run.folder, name=run.folder.name, config_values=settings)]


def wandb_logger(
    folder: Path,
    name: str,
    config_values: dict[str, Any],
    project: str = "vsrbench",
    entity: str | None = None,
    group: str | None = None,
    checkpoint: bool = True,
) -> WandbRun:
    """The W&B run of a run folder; offline without a login or a network, and says so.

    config_values: the whole configuration as plain containers; what the folder's provenance.json says is added.
    group: null takes the sweep's name where the run belongs to one. checkpoint: upload the best weights at the end.
    """
    import wandb

    origin = folder / "provenance.json"
    known: dict[str, Any] = {names.METHOD: config_values["method"]["name"]}
    if origin.is_file():
        known["provenance"] = json.loads(origin.read_text())
    settings: dict[str, Any] = {
        "name": name,
        "project": project,
        "entity": entity,
        "group": group or config_values.get("sweep"),
        "job_type": config_values["verb"],
        "config": config_values | known,
        "tags": list(dict.fromkeys([config_values["method"]["name"], config_values["size"], *config_values["tags"]])),
        "allow_val_change": True,  # a run that goes on may be longer than it was to be
        # A dead network is found out in seconds instead of a minute and a half, and no run waits for ever at its end.
        "settings": wandb.Settings(
            init_timeout=20, finish_timeout=600, finish_timeout_raises=True, console="off", quiet=True
        ),
    }
    return WandbRun(folder, settings, fresh=bool(config_values["force"]), checkpoint=checkpoint)


def tensorboard_logger(folder: Path, name: str, config_values: dict[str, Any]) -> TensorBoardLogger:
    """Events in ``<folder>/tensorboard``. Raises ConfigError where TensorBoard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError("logger=tensorboard needs the package tensorboard: pip install tensorboard") from error
    return TensorBoardLogger(str(folder), name="tensorboard", version="", default_hp_metric=False)


@rank_zero_only
def log_media(loggers: Iterable[Logger], shown: Sequence[Shown], step: int) -> None:
    """Send pictures and videos to the loggers that show them; ``samples/`` of the run folder has all of them."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log_media(shown, step)
        elif isinstance(logger, TensorBoardLogger):
            for one in shown:
                for key, picture in one.pictures.items():
                    logger.experiment.add_image(f"{key}/{one.clip}", picture, step, dataformats="HWC")
                _add_gif(logger, f"{names.VIDEO}/{one.clip}", one.film, step)


def _add_gif(logger: TensorBoardLogger, tag: str, film: np.ndarray, step: int) -> None:
    """TensorBoard plays GIFs among its images; its own ``add_video`` needs a package that brings an encoder."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    height, width = film.shape[1:3]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif(film))
    writer: Any = logger.experiment.file_writer or logger.experiment._get_file_writer()
    writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


@rank_zero_only
def log_table(
    loggers: Iterable[Logger],
    key: str,
    rows: Sequence[Mapping[str, Any]],
    step: int | None = None,
    shown: Sequence[Shown] = (),
) -> None:
    """Send a table with one row per clip to W&B, with the strips of the clips that are shown."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log_table(key, rows, step, shown)


@rank_zero_only
def log_summary(loggers: Iterable[Logger], values: Mapping[str, float], step: int) -> None:
    """Numbers that a run has once (cost, best validation); README.md of the run folder has them too."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log_summary(values)
        elif isinstance(logger, TensorBoardLogger):
            logger.log_metrics(dict(values), step)


@rank_zero_only
def log_checkpoint(
    loggers: Iterable[Logger], file: Path, card: Path, others: Sequence[Path], metadata: Mapping[str, Any]
) -> None:
    """Hand the best weights with their card to W&B."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log_checkpoint(file, card, others, metadata)


def finish(loggers: Iterable[Logger]) -> None:
    """The work came to its end: W&B shows the run as finished, not as interrupted."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.finished = True
