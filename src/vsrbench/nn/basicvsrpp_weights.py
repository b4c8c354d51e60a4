"""Weights as OpenMMLab (mmediting, mmagic) and BasicSR publish them, under the names used here."""

from collections.abc import Iterable

from torch import Tensor

from vsrbench.errors import WeightsError
from vsrbench.flow.spynet import spynet_state

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
COUNTERS = ("step_counter",)  # no weights
PARTS = ("spynet", "feat_extract", "propagation", "reconstruction")


def is_published(names: Iterable[str]) -> bool:
    """Whether these are the names of a published generator rather than ``<part>.<key>`` of this project."""
    return any(_bare(key).startswith(("backbone.", "deform_align.", "conv_last.")) for key in names)


def own_state(state: dict[str, Tensor], source: str = "the published weights") -> dict[str, Tensor]:
    """A published generator's weights as ``<part>.<key>``; the caller loads them strictly.

    ``generator.`` in front is taken off, ``step_counter`` left out, and SPyNet's names may be of any layout that
    ``spynet_state`` knows. Raises WeightsError for a name that belongs to nothing here, and for a missing part.
    """
    bare = {_bare(key): value for key, value in state.items() if _bare(key) not in COUNTERS}
    flow = {key: value for key, value in bare.items() if key.startswith("spynet.")}
    named = {f"spynet.{key}": value for key, value in spynet_state(flow, source).items()} if flow else {}
    for key in bare.keys() - flow.keys():
        prefix = next((p for p in PREFIXES if key.startswith(p)), None)
        if prefix is None:
            raise WeightsError(f"{source} hold {key!r}, which is nothing of BasicVSR++'s generator")
        named[PREFIXES[prefix] + key.removeprefix(prefix)] = bare[key]
    absent = [part for part in PARTS if not any(key.startswith(f"{part}.") for key in named)]
    if absent:
        raise WeightsError(f"{source} lack {', '.join(absent)}: give a whole generator of BasicVSR++")
    return named


def _bare(key: str) -> str:
    return key.removeprefix("generator.")
