"""The frozen image encoder: a vision transformer over every LR frame (Sec. 3.2: ViT-base-patch16-224)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrbench.errors import ConfigError
from vsrbench.weights.folders import load_pretrained
from vsrbench.weights.hub import Selection, locate
from vsrbench.weights.layout import TRANSFORMERS_FILES, read_json, weight_files
from vsrbench.weights.report import no_weights

SELECTION = Selection(
    ("config.json", "*.safetensors", "*.bin"),
    complete=lambda folder: bool(weight_files(folder, TRANSFORMERS_FILES)),
    what=" of transformers' ViTForImageClassification with config.json and model.safetensors",
)


class FrameEncoder(nn.Module):
    """transformers' ViTForImageClassification, of which the last hidden state is used.

    Its classifier is part of the published model and of the thesis's count (86,567,656), and takes no part.
    cls: keep the class token (ours: dropped, only then the adapter's printed size comes out).
    """

    def __init__(self, net: Any, cls: bool = False) -> None:
        super().__init__()
        self.net, self.cls = net, cls

    @property
    def width(self) -> int:
        return int(self.net.config.hidden_size)

    @property
    def tokens(self) -> int:
        """Tokens per frame."""
        return (self.net.config.image_size // self.net.config.patch_size) ** 2 + int(self.cls)

    def forward(self, lr: Tensor) -> Tensor:
        """Frames (N,3,h,w) in [0,1] to tokens (N,n,d): resized bilinearly to the ViT's size, mean and deviation 0.5."""
        size = self.net.config.image_size
        pixels = F.interpolate(lr, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        hidden = self.net.vit(2 * pixels - 1).last_hidden_state
        return hidden if self.cls else hidden[:, 1:]


def load_vit(
    path: str | None = None,
    random: bool = False,
    config: dict[str, Any] | None = None,
    cls: bool = False,
    seed: int = 0,
) -> FrameEncoder:
    """From a local folder or hub id (google/vit-base-patch16-224), or random weights of the shape of ``config``.

    Raises WeightsError where there is neither, or where a weights file does not fit its config.
    """
    from transformers import ViTConfig, ViTForImageClassification

    kind: Any = ViTForImageClassification
    if random:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return FrameEncoder(kind(ViTConfig(**(config or {}))).eval(), cls)
    if path is None:
        raise no_weights(
            "the frame encoder",
            "set vit.path=DIR (a folder of transformers, or the hub id google/vit-base-patch16-224)",
            "vit.random=true",
        )
    folder = locate(path, "vit.path", SELECTION)
    settings = read_json(folder / "config.json")
    if settings.get("model_type") != "vit":
        raise ConfigError(f"vit.path={path} holds a {settings.get('model_type')}, not a vit")
    return FrameEncoder(load_pretrained(kind, folder, "the ViT"), cls)
