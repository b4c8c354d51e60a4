"""What flow networks share: reading weights strictly, and running in full precision."""

import pickle
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsrbench.errors import WeightsError

WRAPPERS = ("params", "state_dict")  # keys below which BasicSR and OpenMMLab keep the tensors


def read_state(path: Path, setting: str = "flow.weights") -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a PyTorch checkpoint, taken out of a known wrapper.

    setting: that names the file, for the errors. Raises WeightsError for a file that is absent, unreadable, or holds
    something else.
    """
    if not path.is_file():
        raise WeightsError(f"{setting}={path}: no such file")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{setting}={path} cannot be read: it may be truncated or hold more than tensors ({reason})"
        ) from error
    if not isinstance(state, dict):
        raise WeightsError(f"{setting}={path} holds a {type(state).__name__}, not a state dict")
    wrapped = [state[key] for key in WRAPPERS if isinstance(state.get(key), dict)]
    return wrapped[0] if wrapped else state


def load_strictly(network: nn.Module, state: dict[str, Tensor], source: str, what: str) -> None:
    """Load ``state`` where every key and shape fits; else a WeightsError that counts and names what does not.

    source: where the state comes from, as the user knows it; what: the network, as the user knows it.
    """
    own = network.state_dict()
    shared = sorted(own.keys() & state.keys())
    report = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(map(str, state.keys() - own.keys())),
        "of another shape": [key for key in shared if getattr(state[key], "shape", None) != own[key].shape],
    }
    if any(report.values()):
        matched = len(shared) - len(report["of another shape"])
        counts = "; ".join(f"{len(keys)} {kind} {keys[:3]}" for kind, keys in report.items())
        raise WeightsError(f"{source} does not hold {what}: {matched} of {len(own)} keys match; {counts}")
    network.load_state_dict(state)


def precise(x: Tensor) -> Tensor:
    """x in float32, or in float64 where it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast off: positions above 256 pixels have no fraction in bf16. Does nothing where there is no autocast."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
