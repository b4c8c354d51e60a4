"""Which pixels of a frame count in a warping error: those that the next frame shows too.

Every rule takes ``flow`` on the frame's own grid and ``back``, the flow of the other frame that leads back; (N,2,H,W)
in pixels. Every rule gives bool (N,H,W), True where the pixel counts.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.errors import ConfigError
from vsrbench.flow.warp import agree, consistent, warp

RULES = ("occlusion", "ruder", "lai", "stablevsr")


def visible(flow: Tensor, back: Tensor, rule: str = "occlusion") -> Tensor:
    """Non-occluded pixels after Ruder et al. (2016), "Artistic Style Transfer for Videos", Sec. 5.2, and its users.

    All rules ask |f + b(x+f)|^2 <= 0.01 (|f|^2 + |b(x+f)|^2) + 0.5 of flow and flow back.
    "occlusion": this alone, and the pixel must not leave the frame. "ruder": motion boundaries do not count either
    (Ruder et al. give both the weight 0). "lai": boundaries too, by the derivative of Lai et al.'s code, and pixels
    that leave the frame take the flow at its border. "stablevsr": as "lai", read with StableVSR's half-pixel
    warp and with zero flow outside.
    Raises ConfigError for another rule.
    """
    if rule == "occlusion":
        return consistent(flow, back).squeeze(1)
    if rule == "ruder":
        return consistent(flow, back).squeeze(1) & ~boundary(flow, centred=True)
    if rule == "lai":
        return agree(flow, warp(back, flow, padding="border")).squeeze(1) & ~boundary(flow)
    if rule == "stablevsr":
        return agree(flow, warp(back, flow, "released")).squeeze(1) & ~boundary(flow)
    raise ConfigError(f"protocol.mask={rule}: use one of {', '.join(RULES)}")


def boundary(flow: Tensor, centred: bool = False) -> Tensor:
    """Motion boundaries, bool (N,H,W): |grad u|^2 + |grad v|^2 > 0.01 |f|^2 + 0.002 (Ruder et al. Sec. 5.2).

    centred: differences of the neighbours on both sides, halved, as in the code of Ruder et al.; otherwise of the
    pixel and the next one, 0 in the last column and row, as in the code of Lai et al. and StableVSR.
    """
    gradient = sum(_difference(flow, dim, centred).square().sum(1) for dim in (-1, -2))
    return torch.as_tensor(gradient) > 0.01 * flow.square().sum(1) + 0.002


def _difference(flow: Tensor, dim: int, centred: bool) -> Tensor:
    pad = (1, 1, 0, 0) if dim == -1 else (0, 0, 1, 1)
    wide = F.pad(flow, pad, mode="replicate").transpose(dim, -1)
    forward = wide[..., 2:] - wide[..., 1:-1]  # 0 behind the last pixel
    difference = (wide[..., 2:] - wide[..., :-2]) / 2 if centred else forward
    return difference.transpose(dim, -1)
