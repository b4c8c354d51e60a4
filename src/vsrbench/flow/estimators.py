"""Flow estimators behind one call: ``estimator(a, b) -> flow[a→b]`` for frames (B,3,H,W) in [0,1]."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import ConfigError, WeightsError


class DIS(nn.Module):
    """Dense inverse search (Kroeger et al. 2016) from OpenCV: classical, no weights, on the CPU.

    preset: ultrafast, fast or medium. Frames below 24 pixels a side are extended to that size.
    """

    def __init__(self, preset: str = "medium") -> None:
        super().__init__()
        if preset not in ("ultrafast", "fast", "medium"):
            raise ConfigError(f"flow.preset={preset}: use ultrafast, fast or medium")
        self.preset = preset

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] twice → (B,2,H,W) pixels, x first."""
        import cv2
        import numpy as np

        presets = {"ultrafast": 0, "fast": 1, "medium": 2}
        solver = cv2.DISOpticalFlow_create(presets[self.preset])  # type: ignore[attr-defined]
        height, width = a.shape[-2:]
        pad = (0, max(0, 24 - width), 0, max(0, 24 - height))
        grey = [_grey8(F.pad(frames, pad, mode="replicate")) for frames in (a, b)]
        flows = [solver.calc(first, second, None) for first, second in zip(*grey, strict=True)]
        stacked = torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)[..., :height, :width]
        return stacked.to(a.device, a.dtype).contiguous()


class RAFT(nn.Module):
    """RAFT (Teed and Deng 2020) from torchvision, weights by path; the estimator of StableVSR and DGAF-VSR.

    weights: a state dict of ``raft_large`` (for example torchvision's C_T_SKHT_V2 file). updates: refinement
    steps (12 in the released codes). Frames are padded to multiples of 8 and to 128 pixels a side (RAFT's
    correlation pyramid), then cropped. Raises WeightsError for a file that does not fit, and for None unless
    ``random=True`` (counting, shape tests).
    """

    def __init__(self, weights: str | None = None, random: bool = False, updates: int = 12) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_large

        self.updates = updates
        self.net = raft_large(weights=None)
        if weights is not None:
            try:
                self.net.load_state_dict(_state(Path(weights).expanduser()))
            except RuntimeError as error:
                raise WeightsError(f"flow.weights={weights} does not hold raft_large's state dict") from error
        elif not random:
            raise WeightsError(
                "flow=raft needs weights: set flow.weights=FILE to torchvision's raft_large state dict "
                "(raft_large_C_T_SKHT_V2-ff5fadd5.pth), or use flow=dis, which needs none"
            )
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "RAFT":
        """Always in eval mode, so that a flow never depends on other samples of the batch."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] twice → (B,2,H,W) pixels, x first; the last refinement."""
        height, width = a.shape[-2:]
        bottom = max(128, -(-height // 8) * 8) - height
        right = max(128, -(-width // 8) * 8) - width
        first, second = (F.pad(2 * x.float() - 1, (0, right, 0, bottom), mode="replicate") for x in (a, b))
        with torch.autocast(a.device.type, enabled=False):  # positions above 256 have no fraction in bf16
            return self.net(first, second, num_flow_updates=self.updates)[-1][..., :height, :width]


class Exact(nn.Module):
    """Marks that the clip's own ground-truth flow is to be used (``flow=exact``); estimates nothing."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        raise ConfigError("flow=exact needs data that know their flow (data=sample): use flow=dis or flow=raft")


def _grey8(frames: Tensor) -> Any:
    """(B,3,H,W) in [0,1] → uint8 (B,H,W) of BT.601 luma."""
    weights = frames.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return ((frames * weights).sum(1).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def _state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"flow.weights={path}: no such file")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"flow.weights={path} cannot be read ({error}): it may be truncated") from error
