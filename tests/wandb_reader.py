"""What an offline W&B run holds, read back with W&B's own inspector, which needs no network."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PARTS = "."  # W&B writes a picture or table as several keys: samples/strip._type, samples/strip.captions, ...


@dataclass
class Logged:
    """axes: step metric by pattern; rows: every history row, flat; kinds: type of each key that holds media."""

    config: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def scalars(self) -> set[str]:
        """Names of plain numbers in the history."""
        return {k for row in self.rows for k, v in row.items() if PARTS not in k and isinstance(v, int | float)}

    @property
    def keys(self) -> set[str]:
        """Everything that a panel can refer to."""
        return self.scalars | set(self.kinds) | {k for k in self.summary if PARTS not in k}

    def values(self, key: str) -> dict[int, Any]:
        """{step: value} of a key."""
        return {row["_step"]: row[key] for row in self.rows if key in row}


def read(folder: Path) -> Logged:
    """An ``offline-run-...`` folder."""
    program = Path(sys.executable).with_name("wandb")
    told = subprocess.run(
        [str(program), "leet", "inspect", "--json", str(folder)], capture_output=True, text=True, check=True
    )
    found = Logged()
    for line in told.stdout.splitlines():
        record = json.loads(line)
        content = record.get(record["type"])
        match record["type"]:
            case "run":
                found.run |= {k: v for k, v in content.items() if k != "config"}
                found.config |= content.get("config", {}).get("update", {})
            case "metric":
                found.axes[content.get("glob_name") or content["name"]] = content.get("step_metric", "")
            case "history":
                found.rows.append(content["item"])
                found.kinds |= {k.removesuffix("._type"): v for k, v in content["item"].items() if k.endswith("._type")}
            case "summary":
                found.summary |= content["update"]
            case "artifact":
                found.artifacts.append(content)
    return found


def offline_runs(folder: Path) -> list[Path]:
    """Those of a run folder, oldest first."""
    return sorted((folder / "wandb").glob("offline-run-*"))
