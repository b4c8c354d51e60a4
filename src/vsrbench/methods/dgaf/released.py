"""The guide in the layout of the code released with DGAF-VSR: key names, and what its config says of the blocks.

That code names a zero convolution ``dgafnet_down_blocks.3``; early files say ``brushnet_`` for ``dgafnet_``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsrbench.errors import WeightsError
from vsrbench.methods.dgaf.networks import GuidingUNet
from vsrbench.weights.folders import save_part
from vsrbench.weights.report import load_strictly
from vsrbench.weights.trained import check_class, read_released

CLASSES = ("DGAFNetModel", "BrushNetModel")
CONDITIONING = 4  # channels of the aligned x0
# Keys of their config that mean what they mean in the U-Net's; the rest of theirs is fixed or unused there.
SHARED = (
    "act_fn", "attention_head_dim", "block_out_channels", "class_embed_type", "cross_attention_dim",
    "down_block_types", "downsample_padding", "flip_sin_to_cos", "freq_shift", "layers_per_block",
    "mid_block_scale_factor", "norm_eps", "norm_num_groups", "num_attention_heads", "num_class_embeds",
    "only_cross_attention", "resnet_time_scale_shift", "transformer_layers_per_block", "up_block_types",
    "upcast_attention", "use_linear_projection",
)  # fmt: skip
OURS_TO_RELEASED = {
    "net.conv_in.": "conv_in_condition.",
    "net.": "",
    "zero_encoder.": "dgafnet_down_blocks.",
    "zero_middle.": "dgafnet_mid_block.",
    "zero_decoder.": "dgafnet_up_blocks.",
}


def load(guide: GuidingUNet, folder: Path) -> str:
    """Load ``config.json`` and weights of a folder (``dgafnet/``); returns a key report.

    Raises WeightsError where the config's block types differ from the guide's, and listing keys that do not fit.
    """
    config, state = read_released(folder)
    check_class(config, folder, CLASSES, "dgaf")
    attention = any("CrossAttn" in name for name in config.get("down_block_types", []))
    if attention != has_attention(guide):
        raise WeightsError(
            f"{folder / 'config.json'} names blocks {'with' if attention else 'without'} attention: "
            f"set method.guide_attention={str(attention).lower()}"
        )
    values = to_ours(state)
    return load_strictly(guide, values, str(folder))


def export(guide: GuidingUNet, folder: Path, dtype: torch.dtype) -> None:
    """Write ``dgafnet/`` with config and weights as the released code reads them.

    Raises WeightsError for a guide without decoder, which that code has no config for.
    """
    if not guide.dense:
        raise WeightsError("a guide with method.guidance=encoder has no released layout: use output=FILE.safetensors")
    state = {to_released(key): value for key, value in guide.state_dict().items()}
    save_part(state, released_config(guide), folder / "dgafnet", dtype)


def released_config(guide: GuidingUNet) -> dict[str, Any]:
    """``config.json`` of the released class for a guide."""
    config = {key: guide.net.config[key] for key in SHARED}
    return {
        **config,
        "_class_name": CLASSES[0],
        "in_channels": guide.net.config.in_channels - CONDITIONING,
        "conditioning_channels": CONDITIONING,
        "dgafnet_conditioning_channel_order": "rgb",
        "mid_block_type": "UNetMidBlock2DCrossAttn" if has_attention(guide) else "MidBlock2D",
    }


def expected(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict, on the meta device and under the released names, of the network that a config describes."""
    from diffusers import UNet2DConditionModel

    attention = any("CrossAttn" in name for name in config["down_block_types"])
    shapes = {key: config[key] for key in SHARED if key in config}
    channels = config["in_channels"] + config["conditioning_channels"] - CONDITIONING
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shapes, in_channels=channels)  # its middle is the prior's, as in training
        return {to_released(key): value for key, value in GuidingUNet(unet, attention).state_dict().items()}


def has_attention(guide: GuidingUNet) -> bool:
    return any("CrossAttn" in name for name in guide.net.config.down_block_types)


def to_released(name: str) -> str:
    """Our key to theirs."""
    for ours, theirs in OURS_TO_RELEASED.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def to_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under our names."""
    return {_ours(key.replace("brushnet_", "dgafnet_")): value for key, value in state.items()}


def _ours(key: str) -> str:
    for ours, theirs in OURS_TO_RELEASED.items():
        if theirs and key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return "net." + key
