"""Real-ESRGAN: settings, weights and upscaling."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.diffusion.noise import NoiseSource
from vsrbench.errors import WeightsError
from vsrbench.methods.base import Method
from vsrbench.methods.realesrgan.networks import CompactNet, RRDBNet
from vsrbench.types import Clip, Progress, Trace


class RealESRGAN(Method):
    """Real-ESRGAN (Wang et al. 2021, "Training Real-World Blind Super-Resolution with Pure Synthetic Data").

    Each frame by itself: what temporal consistency is measured against. network: "x4plus" (RRDBNet) or "animevideov3"
    (compact). channels, blocks, growth: width, residual blocks (of the compact network: layers), and growth of the
    dense blocks (x4plus alone). Not trained here.
    """

    @check_arguments("method")
    def __init__(
        self,
        network: Literal["x4plus", "animevideov3"] = "x4plus",
        channels: Annotated[int, Ge(1)] = 64,
        blocks: Annotated[int, Ge(0)] | None = None,
        growth: Annotated[int, Ge(1)] = 32,
        name: str = "realesrgan",
    ) -> None:
        super().__init__()
        self.net: nn.Module
        if network == "x4plus":
            self.net = RRDBNet(channels, 23 if blocks is None else blocks, growth)
        else:
            self.net = CompactNet(channels, 16 if blocks is None else blocks, self.scale)

    def parts(self) -> dict[str, nn.Module]:
        return {"generator": self.net}

    @torch.inference_mode()
    def upscale(
        self, clip: Clip, noise: NoiseSource, trace: Trace | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Frame by frame; ``noise`` is not used."""
        if progress is not None:
            progress.start(clip.frames, "frames")
        frames = []
        for t in range(clip.frames):
            with self.autocast():
                frames.append(self.net(clip.lr[:, t]).float().clamp(0, 1))
            if progress is not None:
                progress.advance()
        return torch.stack(frames, dim=1)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Takes BasicSR's names, and the layers of an ncnn file in their order. Raises WeightsError."""
        own = self.net.state_dict()
        bare = {key.removeprefix("generator."): value for key, value in state.items()}
        if not bare.keys() & own.keys() and len(bare) == len(own):
            bare = in_order(bare, own)
        super().load_trained_state({f"generator.{key}": value for key, value in bare.items()})


def in_order(stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored tensors under our names, one after the other: the layers of both networks follow the same order.

    Raises WeightsError where two that meet have different shapes.
    """
    for (layer, value), (name, parameter) in zip(stored.items(), own.items(), strict=True):
        if value.shape != parameter.shape:
            raise WeightsError(
                f"the weights' layer {layer} {tuple(value.shape)} is not {name} {tuple(parameter.shape)}: they are of "
                "another network (method.network)"
            )
    return dict(zip(own, stored.values(), strict=True))
