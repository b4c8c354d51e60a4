"""The flow that temporal metrics are measured under, by name."""

import os
from pathlib import Path

from torch import nn

from vsrbench.errors import ConfigError
from vsrbench.flow.estimators import DIS, RAFT, Farneback
from vsrbench.flow.spynet import SpyNet
from vsrbench.weights.cache import fetched

VARIABLES = {"raft": "VSRBENCH_RAFT", "spynet": "VSRBENCH_SPYNET"}
KNOWN = {"raft": "raft_large", "spynet": "basicvsr_reds4"}
FLOWS = ("dis", "farneback", *VARIABLES)


def estimator(name: str, weights: str | None = None, device: str = "cpu", released: bool = False) -> nn.Module | str:
    """A frozen ``estimator(a, b) -> flow[a→b]``, or one line why it cannot be had on this machine.

    name: dis and farneback need no weights; raft and spynet take ``weights``, else $VSRBENCH_RAFT and
    $VSRBENCH_SPYNET, else what was fetched. released: RAFT as StableVSR's codes leave it, in train mode (``RAFT``,
    batch_statistics).
    Raises ConfigError for another name and WeightsError for a file that does not fit: another flow would give
    other numbers under the same name, so none replaces another.
    """
    if name not in FLOWS:
        raise ConfigError(f"protocol.flow={name}: use one of {', '.join(FLOWS)}")
    if name not in VARIABLES:
        return DIS() if name == "dis" else Farneback()
    known = fetched(KNOWN[name])
    path = weights or os.environ.get(VARIABLES[name]) or (known and str(known))
    if not path or not Path(path).expanduser().is_file():
        where = f"{path} is missing" if path else "no file is named"
        fetch = f"`vsrbench weights fetch {name}`, set {VARIABLES[name]}=FILE"
        return f"flow={name} has no weights, {where}: {fetch}, or choose a protocol with flow=dis"
    net = RAFT(path, batch_statistics=released) if name == "raft" else SpyNet(path)
    return net.to(device)
