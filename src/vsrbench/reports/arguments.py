"""Arguments of ``vsrbench report``: run folders and settings, checked before anything is read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsrbench.errors import ConfigError

USAGE = """vsrbench report RUN... [table=dgaf/T1]       tables, charts, pictures and a page about finished evaluations
vsrbench report task=compare RUN RUN         is the first better than the second? several seeds: RUN,RUN
vsrbench report task=claims [paper=NAME]     the papers' sentences with numbers, computed again
vsrbench report sweep=DIR                    how far a sweep is; its page once it has ended
vsrbench report task=study RUN RUN           a blind A/B page; task=votes FILE.csv... counts what people chose

settings of the report: output=DIR title=TEXT table=PAPER/TABLE[,...] against=METHOD x=SETTING clips=4 videos=true
truth=DIR (frames of ground truth; truth=none goes without; else the data that the runs name)"""

SETTINGS = {  # what each task takes
    "report": ("output", "title", "table", "against", "x", "clips", "videos", "truth"),
    "compare": (),
    "claims": ("paper",),
    "sweep": ("sweep", "output", "videos", "clips", "truth"),
    "study": ("output", "clips", "seed"),
    "votes": (),
}
RUNS = {"report": (1, None), "compare": (2, 2), "claims": (0, 0), "sweep": (0, 0), "study": (2, 2), "votes": (1, None)}


@dataclass(frozen=True)
class Arguments:
    """task: a key of ``SETTINGS``. words: what is no setting: run folders, files."""

    task: str
    words: tuple[str, ...]
    settings: dict[str, str]

    @property
    def folders(self) -> list[Path]:
        return [Path(word).expanduser() for word in self.words]

    def number(self, key: str, usual: int) -> int:
        """A whole number from 0 on. Raises ConfigError for anything else."""
        text = self.settings.get(key, str(usual))
        if not text.isdigit():
            raise ConfigError(f"{key}={text}: give a whole number")
        return int(text)

    def flag(self, key: str, usual: bool) -> bool:
        """true or false. Raises ConfigError for anything else."""
        text = self.settings.get(key, str(usual)).lower()
        if text not in ("true", "false"):
            raise ConfigError(f"{key}={text}: give true or false")
        return text == "true"

    def output(self, default: Path) -> Path:
        """Where to write: ``output=``, else a folder in ``default`` named after runs and tables."""
        if "output" in self.settings:
            return Path(self.settings["output"]).expanduser().resolve()
        key = "\n".join([*(str(f.resolve()) for f in self.folders), self.settings.get("table", "")])
        return default.resolve() / f"{self.task}-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"


def parse(words: Sequence[str]) -> Arguments:
    """Words and ``key=value`` settings; a path with ``=`` in it counts as a path where it exists.

    Raises ConfigError for an unknown task or setting, and for a number of runs that the task cannot use.
    """
    settings: dict[str, str] = {}
    paths = []
    for argument in words:
        key, sign, value = argument.partition("=")
        if not sign or Path(argument).expanduser().exists():
            paths.append(argument)
        elif key in settings or not value:
            raise ConfigError(f"{argument}: {'given twice' if value else 'gives no value'}")
        else:
            settings[key] = value
    task = settings.pop("task", "sweep" if "sweep" in settings else "report")
    if task not in SETTINGS:
        raise ConfigError(f"task={task}: use one of {', '.join(SETTINGS)}")
    if "films" in settings:
        raise ConfigError(f"films is now videos: write videos={settings['films']}")
    if unknown := [key for key in settings if key not in SETTINGS[task]]:
        known = ", ".join(SETTINGS[task]) or "no settings"
        raise ConfigError(f"report task={task} has no setting {unknown[0]}={settings[unknown[0]]}: it takes {known}")
    least, most = RUNS[task]
    if len(paths) < least or (most is not None and len(paths) > most):
        count = f"{least}" if least == most else f"at least {least}"
        what = "files" if task == "votes" else "run folders"
        raise ConfigError(f"report task={task} takes {count} {what}, {len(paths)} are given: vsrbench report --help")
    return Arguments(task, tuple(paths), settings)
