"""The guide in the layout of the code released with DGAF-VSR: key names, and what its config says of the blocks.

That code names a zero convolution ``dgafnet_down_blocks.3``; early files say ``brushnet_`` for ``dgafnet_``.
"""

from pathlib import Path

from torch import Tensor

from vsrbench.errors import WeightsError
from vsrbench.methods.dgaf.networks import GuidingUNet
from vsrbench.methods.released import key_report, read_released

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
    attention = any("CrossAttn" in name for name in config.get("down_block_types", []))
    if attention != has_attention(guide):
        raise WeightsError(
            f"{folder / 'config.json'} names blocks {'with' if attention else 'without'} attention: "
            f"set method.guide_attention={str(attention).lower()}"
        )
    values = to_ours(state)
    report = key_report(guide.state_dict(), values, str(folder))
    guide.load_state_dict(values)
    return report


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
