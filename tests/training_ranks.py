"""Two processes that make the training runs of a list, one after the other: starting them costs more than the runs.

``python training_ranks.py LIST`` is one of them: LIST holds [[name, [overrides]], ...]. Lightning takes the ranks from
the environment, as it does for the children that it starts itself. A run that fails ends both processes, which
``trained_by_two`` starts again for the rest of the list.
"""

import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROCESSES = 2
DOUBLE = "trainer.precision=64-true"


def main(runs: Path) -> None:
    rank = os.environ["LOCAL_RANK"]
    for name, overrides in json.loads(runs.read_text()):
        try:
            run(overrides)
        except BaseException:
            (runs.parent / f"{name}.failed.{rank}").write_text(traceback.format_exc())
            os._exit(1)  # the other process may wait for this one for ever: see _ended
        (runs.parent / f"{name}.done.{rank}").touch()


def run(overrides: list[str]) -> None:
    from vsrbench import config, train

    if DOUBLE in overrides:
        with doubled():
            train.run(config.compose([*overrides, "trainer.limit_val_batches=0"]))
    else:
        train.run(config.compose(overrides))


@contextmanager
def doubled() -> Iterator[None]:
    """Within the block ``trainer.precision=64-true`` trains, which is refused elsewhere: Lightning itself converts no
    frozen records, and frames that are validated come in float32, so that nothing is validated."""
    from dataclasses import replace
    from unittest.mock import patch

    import torch
    from pytorch_lightning.plugins.precision import DoublePrecision

    from vsrbench.training import trainer
    from vsrbench.types import Clip

    def convert(_: DoublePrecision, clip: Clip) -> Clip:
        return replace(
            clip, **{k: v.double() for k, v in vars(clip).items() if getattr(v, "dtype", 0) == torch.float32}
        )

    with (
        patch.object(DoublePrecision, "convert_input", convert),
        patch.object(trainer, "UNFIT", ()),
    ):
        yield


def trained_by_two(folder: Path, runs: dict[str, list[str]], timeout: float = 600) -> dict[str, str]:
    """Make all runs; returns what went wrong by the run's name. ``folder`` takes the list and the marks."""
    left, failures = dict(runs), {}
    while left:
        (folder / "runs.json").write_text(json.dumps(list(left.items())))
        text = _both(folder / "runs.json", timeout)
        done = [name for name in left if all((folder / f"{name}.done.{r}").exists() for r in range(PROCESSES))]
        for name in done:
            del left[name]
        if left:
            name = next(iter(left))
            told = [f.read_text() for f in sorted(folder.glob(f"{name}.failed.*"))]
            failures[name] = "\n".join(told) or text
            del left[name]
    return failures


def _both(runs: Path, timeout: float) -> str:
    """Start both processes and wait for their end; returns what they printed."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")])
    pair = []
    for rank in range(PROCESSES):
        log = (runs.parent / f"log.{rank}").open("w")
        settings = {**environment, "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
        pair.append(subprocess.Popen([sys.executable, __file__, str(runs)], env=settings, stdout=log, stderr=log))
    try:
        _ended(pair, timeout)
    finally:
        for process in pair:
            process.kill()
            process.wait()
    return "\n".join((runs.parent / f"log.{rank}").read_text() for rank in range(PROCESSES))


def _ended(pair: "list[subprocess.Popen[bytes]]", timeout: float) -> None:
    """Until one has failed or all are done."""
    import time

    end = time.monotonic() + timeout
    while time.monotonic() < end:
        codes = [process.poll() for process in pair]
        if any(codes) or None not in codes:
            return
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
