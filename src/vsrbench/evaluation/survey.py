"""Which bicubic rows can be tested with the data at hand. Needs no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsrbench.config import build, compose
from vsrbench.errors import DataError
from vsrbench.evaluation.conformance import ROWS, printed
from vsrbench.evaluation.protocol import condition


@dataclass(frozen=True)
class Job:
    """One evaluation of bicubic frames, judged under every protocol that prints a row of them.

    set: the data set; LR by MATLAB's bicubic at ``scale``. kernel: of the enlargement. protocols: their ids.
    """

    set: str
    scale: int
    kernel: str
    protocols: tuple[str, ...]

    def overrides(self, root: Path | str) -> list[str]:
        """The command line behind ``vsrbench eval``."""
        chosen = ["method=bicubic", f"method.kernel={self.kernel}", f"protocol=[{','.join(self.protocols)}]"]
        return [*chosen, f"data={self.set}", f"data.root='{root}'", f"scale={self.scale}"]


def jobs(nodes: Mapping[str, Mapping[str, Any]], scales: tuple[int, ...] = (4, 8, 16)) -> list[Job]:
    """Every data set, scale and kernel that a paper prints a bicubic row for. nodes: as ``protocol.shipped`` gives."""
    found: dict[tuple[str, int, str], list[str]] = {}
    for protocol, node in nodes.items():
        for data_set, block in node["blocks"].items():
            for scale in scales:
                identity = ((block or {}).get("published") or {}).get(condition({"name": "bicubic"}, scale))
                if identity is None or "set" in block or not printed(identity, ROWS["bicubic"]):
                    continue
                for kernel in sorted({k for k in block.get("bicubic", {}).values() if k}):
                    found.setdefault((data_set, scale, kernel), []).append(protocol)
    return [Job(*key, tuple(protocols)) for key, protocols in sorted(found.items())]


def root_of(job: Job, folder: Path) -> Path | None:
    """The folder itself or one of its subfolders that holds clips of the job's data set; None where none does."""
    for root in _candidates(folder):
        try:
            if build(compose(job.overrides(root), verb="eval").data).clips("test"):
                return root
        except DataError:
            continue
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    yield folder
    yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
