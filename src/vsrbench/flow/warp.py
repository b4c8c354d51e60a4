"""Backward warping and the geometry of flow fields.

``flow[i→j]`` lives on the grid of frame i, in pixels, x first; ``warp(frame_j, flow[i→j])`` brings frame j
onto the grid of frame i.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Coordinates of the pixel centres, (2,H,W), x first, in pixels from 0."""
    y = torch.arange(height, dtype=like.dtype, device=like.device)
    x = torch.arange(width, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def warp(image: Tensor, flow: Tensor, align: str = "exact", padding: str = "zeros") -> Tensor:
    """Sample ``image`` (B,C,H,W) at ``pixel + flow``; flow (B,2,H,W) in pixels; bilinear.

    align="exact" samples at pixel centres: zero flow is the identity. align="released" reproduces the code
    released with StableVSR and DGAF-VSR, which normalises by W-1 but samples with half-pixel corners, so the
    position p is read at p*W/(W-1) - 0.5 (zero flow zooms by half a pixel towards the borders).
    padding: "zeros" or "border" for positions outside the image.
    """
    height, width = image.shape[-2:]
    # positions in bf16 or fp16 would be off by whole pixels
    exact = torch.promote_types(torch.promote_types(image.dtype, flow.dtype), torch.float32)
    x, y = (pixel_grid(height, width, flow.to(exact)) + flow).unbind(dim=1)
    if align == "exact":
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    elif align == "released":
        grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    else:
        raise ValueError(f"align={align!r}: use exact or released")
    sampled = F.grid_sample(image.to(exact), grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return sampled.to(image.dtype)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a flow (B,2,h,w) onto another grid (H,W), bilinear between pixel centres; values scale along."""
    height, width = flow.shape[-2:]
    resized = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    factor = torch.tensor([size[1] / width, size[0] / height], dtype=flow.dtype, device=flow.device)
    return resized * factor.view(1, 2, 1, 1)


def inside(flow: Tensor) -> Tensor:
    """Bool (B,1,H,W): True where ``pixel + flow`` lies within the image."""
    height, width = flow.shape[-2:]
    x, y = (pixel_grid(height, width, flow) + flow).unbind(dim=1)
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).unsqueeze(1)


def agree(flow: Tensor, returned: Tensor, alpha: float = 0.01, beta: float = 0.5) -> Tensor:
    """Whether two flows on one grid undo each other: bool (B,1,H,W), the inequality of ``consistent``."""
    gap = (flow + returned).square().sum(1, keepdim=True)
    size = flow.square().sum(1, keepdim=True) + returned.square().sum(1, keepdim=True)
    return gap <= alpha * size + beta


def consistent(forward: Tensor, backward: Tensor, alpha: float = 0.01, beta: float = 0.5) -> Tensor:
    """Forward-backward check: bool (B,1,H,W), True where the two flows agree, so the pixel is not occluded.

    |f + b(x+f)|^2 <= alpha (|f|^2 + |b(x+f)|^2) + beta, the rule of Ruder et al. (2016), Sec. 5.2.
    """
    return agree(forward, warp(backward, forward), alpha, beta) & inside(forward)
