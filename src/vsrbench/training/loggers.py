"""Where curves and pictures go: metrics.csv always, W&B or TensorBoard on top."""

import csv
import io
import netrc
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from vsrbench.errors import ConfigError
from vsrbench.runs import write_atomic
from vsrbench.training import names
from vsrbench.training.outcome import first_process


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

    A last row that a killed process left half written is left out.
    """
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def wandb_logger(
    folder: Path, name: str, config_values: dict[str, Any], project: str, entity: str | None, group: str | None
) -> WandbLogger:
    """A W&B run named and identified by the run folder; offline without a key or a network, and says so.

    config_values: the whole configuration as plain containers.
    """
    import wandb

    settings: dict[str, Any] = {
        "name": name,
        "id": name.replace("/", "-"),
        "save_dir": str(folder),
        "project": project,
        "entity": entity,
        "group": group,
        "config": config_values,
        "tags": config_values["tags"],
        "job_type": "train",
        # A dead network is found out in seconds instead of a minute and a half.
        "settings": wandb.Settings(init_timeout=20, console="off"),
    }
    offline = os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    if not offline and not has_wandb_key():
        _say("no W&B API key found: logging offline (later: wandb login, wandb sync)", folder)
        offline = True
    if not offline:
        online = WandbLogger(**settings)
        try:
            _ = online.experiment  # connects
            return online
        except wandb.errors.CommError as error:
            _say(f"W&B cannot be reached ({error}): logging offline (later: wandb sync)", folder)
    return WandbLogger(offline=True, **settings)


def has_wandb_key() -> bool:
    """True where W&B would find an API key without asking: environment or netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@rank_zero_only
def _say(what: str, folder: Path) -> None:
    print(f"{what}; files in {folder / 'wandb'}")


def tensorboard_logger(folder: Path, name: str, config_values: dict[str, Any]) -> TensorBoardLogger:
    """Events in ``<folder>/tensorboard``. Raises ConfigError where TensorBoard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError("logger=tensorboard needs the package tensorboard: pip install tensorboard") from error
    return TensorBoardLogger(str(folder), name="tensorboard", version="", default_hp_metric=False)


@rank_zero_only
def log_pictures(loggers: Iterable[Logger], pictures: Mapping[str, np.ndarray], step: int) -> None:
    """Send strips, uint8 (H,W,3) by clip name, to the loggers that show pictures."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and pictures:
            logger.log_image(names.STRIP, list(pictures.values()), step=step, caption=list(pictures))
        elif isinstance(logger, TensorBoardLogger):
            for clip, picture in pictures.items():
                logger.experiment.add_image(f"{names.STRIP}/{clip}", picture, step, dataformats="HWC")
