"""Where curves and pictures go: metrics.csv always, and whatever Lightning loggers the configuration names."""

import csv
import importlib.util
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning import loggers as lightning
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyExperiment
from pytorch_lightning.utilities import rank_zero_only

from vsrbench.compat import summary_writer
from vsrbench.config import build
from vsrbench.errors import ConfigError, RunError, VsrbenchError
from vsrbench.runs import Run, write_atomic
from vsrbench.stored import read_text
from vsrbench.training import names
from vsrbench.training.media import Shown, gif
from vsrbench.training.wandb_logger import WandbLogger

if TYPE_CHECKING:
    from omegaconf import DictConfig

NEEDS = ("tensorboard", "mlflow", "wandb")  # packages that the loggers of these names bring in


class CSVLogger(lightning.CSVLogger):
    """``metrics.csv`` in ``save_dir``: one row per call, one column per metric, ``step`` first.

    Lightning's keeps rows in memory, deletes an earlier file and knows no place to go on from. Here a row is on disk
    when it was logged, and rows behind ``step`` (the checkpoint that a run goes on from) are dropped: they will be
    made again.
    """

    def __init__(self, save_dir: str | Path, step: int = 0) -> None:
        super().__init__(save_dir, name="", version="")
        self.path = Path(save_dir) / "metrics.csv"
        self._columns = ["step"]
        self._step: int | None = step

    @property
    def log_dir(self) -> str:
        return str(self.path.parent)

    @property
    def experiment(self) -> Any:
        """Nothing to write to directly: Lightning's writer deletes the folder's metrics.csv first."""
        return DummyExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.save()
        new = [key for key in metrics if key not in self._columns]
        if new or not self.path.is_file():
            rows = read_metrics(self.path) if self.path.is_file() else []
            self._columns += new
            self._rewrite(rows)
        numbers = {key: f"{float(value):.8g}" for key, value in metrics.items()}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow({"step": step, **numbers})

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: the run folder's config.yaml has them."""

    @rank_zero_only
    def save(self) -> None:
        """Drop the rows behind the step that training goes on from, once, when it starts; the others are on disk."""
        if self._step is not None and self.path.is_file():
            self._rewrite([row for row in read_metrics(self.path) if int(row["step"]) <= self._step])
        self._step = None

    def finalize(self, status: str) -> None:
        """Nothing, likewise."""

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        self._columns += [key for row in rows[:1] for key in row if key not in self._columns]
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path, text.getvalue().encode())


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv; values are text, empty where a row lacks the metric.

    A row that a killed process left half written, or with values too many, is left out. Raises RunError for a file
    that is none.
    """
    remedy = "remove it: training goes on, and its curve begins there"
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, remedy=remedy))))
    except csv.Error as error:
        raise RunError(f"{path} is damaged ({error}): {remedy}") from error
    whole = [row for row in rows if None not in row and None not in row.values()]
    if any(not str(row.get("step", "")).isdigit() for row in whole):
        raise RunError(f"{path} is damaged (a row has no step): {remedy}")
    return whole


def build_loggers(cfg: "DictConfig", run: Run, settings: dict[str, Any], step: int | None = None) -> list[Logger]:
    """What the group ``logger`` names, for one run, behind metrics.csv where ``step`` (to go on from) is given.

    A ``save_dir`` counts from the run folder. settings: the resolved configuration and whatever else a run's page
    should say of it. Raises ConfigError for a logger whose package is not installed or that does not take its settings.
    """
    loggers: list[Logger] = [] if step is None else [CSVLogger(run.folder, step)]
    for name, node in cfg.logger.items():
        if name == "csv" or not node:
            continue
        if name in NEEDS and importlib.util.find_spec(str(name)) is None:
            raise ConfigError(f"logger={name} needs the package {name}: pip install {name}")
        place = {"save_dir": str(run.folder / node.save_dir)} if "save_dir" in node else {}
        for path in (run.folder / node.save_dir, run.folder / node.save_dir / str(node.get("name"))) if place else ():
            if path.exists() and not path.is_dir():
                raise ConfigError(f"logger.{name} writes into {path}, which is a file: move it away")
        if "run_name" in node and node.run_name is None:
            place["run_name"] = run.folder.name
        try:
            logger: Logger = build(node, **place)
            logger.log_hyperparams(settings)  # type: ignore[call-arg]
        except VsrbenchError:
            raise
        except Exception as error:
            raise ConfigError(f"logger.{name} cannot be made: {error.__cause__ or error}") from error
        loggers.append(logger)
    return loggers


@rank_zero_only
def log_media(loggers: Iterable[Logger], shown: Sequence[Shown], step: int) -> None:
    """Send pictures and videos to the loggers that show them; ``samples/`` of the run folder has all of them."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
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
    writer: Any = summary_writer(logger.experiment)
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
        if isinstance(logger, WandbLogger):
            logger.log_clips(key, rows, step, shown)


@rank_zero_only
def log_summary(loggers: Iterable[Logger], values: Mapping[str, float], step: int) -> None:
    """Numbers that a run has once (cost, best validation); README.md of the run folder has them too."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_summary(values)
        elif isinstance(logger, TensorBoardLogger):
            logger.log_metrics(dict(values), step)


@rank_zero_only
def log_checkpoint(
    loggers: Iterable[Logger], file: Path, card: Path, others: Sequence[Path], metadata: Mapping[str, Any]
) -> None:
    """Hand the run's weights with their card to W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_checkpoint(file, card, others, metadata)


def finish(loggers: Iterable[Logger]) -> None:
    """The work came to its end: W&B shows the run as finished, not as interrupted."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.finished = True
