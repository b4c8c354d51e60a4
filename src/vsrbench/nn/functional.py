"""What networks share beside layers: zero initialisation, recomputation, full precision, the Charbonnier error.

This is the one home of each: nothing else in the package calls ``torch.utils.checkpoint`` or ``nn.init.zeros_``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Layer = TypeVar("Layer", bound=nn.Module)


def zero_init(layer: Layer) -> Layer:
    """The layer, with its own weights and bias at zero; layers inside it keep theirs."""
    for parameter in layer.parameters(recurse=False):
        nn.init.zeros_(parameter)
    return layer


def recomputed(
    function: Callable[..., Any], *inputs: Any, enabled: bool = True, preserve_rng_state: bool = True, **named: Any
) -> Any:
    """function(*inputs, **named), whose activations are computed again in the backward pass (gradient checkpointing).

    enabled: the setting; without it, and where no gradients are recorded, this is a plain call. preserve_rng_state:
    not needed by functions that draw no random numbers.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=preserve_rng_state, **named)
    return function(*inputs, **named)


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def native_precision(device: torch.device) -> torch.dtype:
    """The lowest precision that a device multiplies matrices in natively; float32 where nobody says."""
    if device.type == "cpu":
        features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.12
        return torch.bfloat16 if features.get("avx512_bf16") or features.get("amx_bf16") else torch.float32
    if device.type != "cuda":
        return torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32


def precise(x: Tensor) -> Tensor:
    """x in float32, or in float64 where it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast off: positions above 256 pixels have no fraction in bf16. Does nothing where there is no autocast."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def without_half(device: torch.device) -> AbstractContextManager[Any]:
    """fp16 off, any other precision as it is: the activations of Stable Diffusion's VAEs exceed fp16's range."""
    half = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
    return full_precision(device) if half else nullcontext()


def charbonnier(error: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean of sqrt(error² + eps²) (Charbonnier et al. 1994), as the mean and not the sum.

    eps: 1e-3 is the common constant; 1e-6 that of the BasicVSR line.
    """
    return (error.square() + eps**2).sqrt().mean()
