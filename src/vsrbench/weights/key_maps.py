"""SPyNet, BasicVSR and BasicVSR++ as OpenMMLab (mmagic), BasicSR and others publish them, under our names."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from vsrbench.errors import WeightsError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0,1]
# A published name begins with one of these; ours begins with what stands beside it.
PREFIXES = {
    "feat_extract.": "feat_extract.",
    "deform_align.": "propagation.deform_align.",
    "backbone.": "propagation.backbone.",
    "reconstruction.": "reconstruction.reconstruction.",
    "upsample1.": "reconstruction.upsample1.",
    "upsample2.": "reconstruction.upsample2.",
    "upconv1.": "reconstruction.upsample1.upsample_conv.",  # BasicSR
    "upconv2.": "reconstruction.upsample2.upsample_conv.",
    "conv_hr.": "reconstruction.conv_hr.",
    "conv_last.": "reconstruction.conv_last.",
}
# The same of BasicVSR: BasicSR's names, and OpenMMLab's where they differ.
BASICVSR_PREFIXES = {
    "backward_trunk.": "propagation.backward_trunk.",
    "forward_trunk.": "propagation.forward_trunk.",
    "backward_resblocks.": "propagation.backward_trunk.",
    "forward_resblocks.": "propagation.forward_trunk.",
    "fusion.": "reconstruction.fusion.",
    **{key: PREFIXES[key] for key in ("upsample1.", "upsample2.", "upconv1.", "upconv2.", "conv_hr.", "conv_last.")},
}
COUNTERS = ("step_counter",)  # no weights
PARTS = ("spynet", "feat_extract", "propagation", "reconstruction")
BASICVSR_PARTS = ("spynet", "propagation", "reconstruction")


def is_published(names: Iterable[str]) -> bool:
    """Whether these are the names of a published generator rather than ``<part>.<key>`` of this project."""
    return any(_bare(key).startswith(("backbone.", "deform_align.", "conv_last.")) for key in names)


def own_state(state: dict[str, Tensor], source: str = "the published weights") -> dict[str, Tensor]:
    """A published generator's weights as ``<part>.<key>``; the caller loads them strictly.

    ``generator.`` in front is taken off, ``step_counter`` left out, and SPyNet's names may be of any layout that
    ``spynet_state`` knows. Raises WeightsError for a name that belongs to nothing here, and for a missing part.
    """
    bare = {_bare(key): value for key, value in state.items() if _bare(key) not in COUNTERS}
    old = any(key.startswith(("backward_trunk.", "backward_resblocks.")) for key in bare)
    name, prefixes, parts = ("BasicVSR", BASICVSR_PREFIXES, BASICVSR_PARTS) if old else ("BasicVSR++", PREFIXES, PARTS)
    flow = {key: value for key, value in bare.items() if key.startswith("spynet.")}
    own = {f"spynet.{key}": value for key, value in spynet_state(flow, source).items()} if flow else {}
    for key in bare.keys() - flow.keys():
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        if prefix is None:
            raise WeightsError(f"{source} hold {key!r}, which is nothing of {name}'s generator")
        own[prefixes[prefix] + key.removeprefix(prefix)] = bare[key]
    absent = [part for part in parts if not any(key.startswith(f"{part}.") for key in own)]
    if absent:
        raise WeightsError(f"{source} lack {', '.join(absent)}: give a whole generator of {name}")
    return own


def _bare(key: str) -> str:
    return key.removeprefix("generator.")


_NAME = r"(?:basic_module|netBasic|moduleBasic)"
_KEY = re.compile(rf"{_NAME}\.(\d)\.{_NAME}\.(\d)\.(conv\.)?(weight|bias)")


def spynet_state(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Weights in any published layout, renamed to SpyNetwork's; names that are none of them stay as they are.

    Layouts, with levels coarse to fine in all: ``basic_module.L.basic_module.N.conv.weight`` with N the number of
    the convolution (BasicVSR line, mmagic); ``basic_module.L.basic_module.N.weight`` with N counting ReLUs too
    (BasicSR); the same with ``netBasic`` or ``moduleBasic`` (pytorch-spynet). Of a whole BasicVSR generator its
    SPyNet is taken. Raises WeightsError for a stored ``mean`` or ``std`` that is not ImageNet's.
    """
    for prefix in ("generator.spynet.", "spynet."):
        part = {key.removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}
        state = part or state
    for name, own in (("mean", MEAN), ("std", STD)):
        if name in state and not _close(state[name], own):
            raise WeightsError(f"{source}: its {name} is not ImageNet's {own}, on which SPyNet's weights rest")
    return {_renamed(str(key)): value for key, value in state.items() if key not in ("mean", "std")}


def _renamed(key: str) -> str:
    match = _KEY.fullmatch(key)
    if match is None:
        return key
    level, number, wrapped, kind = match.groups()
    layer = 2 * int(number) if wrapped else int(number)
    return f"basic_module.{level}.basic_module.{layer}.{kind}"


def _close(stored: Tensor, own: tuple[float, ...]) -> bool:
    return stored.numel() == len(own) and bool((stored.float().flatten() - torch.tensor(own)).abs().max() < 1e-3)
