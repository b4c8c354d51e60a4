"""Whether weights fit a network: one report for all, and loading where they do."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from vsrbench.errors import WeightsError


def no_weights(what: str, remedy: str, switch: str) -> WeightsError:
    """The error for a pretrained or trained part without weights, in the same words for all of them.

    remedy: the settings that give it weights; switch: the setting with which to go on as it is.
    """
    return WeightsError(f"{what} has no weights: {remedy}, or {switch} to go on without them")


def load_strictly(network: nn.Module, values: Mapping[str, Tensor], where: str, assign: bool = False) -> str:
    """Load weights of which every key and shape fits; returns the key report. Nothing is loaded by half.

    assign: take the tensors themselves instead of copying their values. Raises WeightsError as ``key_report``.
    """
    report = key_report(network.state_dict(), values, where)
    network.load_state_dict(values, assign=assign)
    return report


def key_report(own: Mapping[str, Tensor], values: Mapping[str, Tensor], where: str) -> str:
    """One line about weights that fit. Raises WeightsError listing what is missing, unexpected, of another shape or
    quantised.

    where: what the weights are and what they are for, in the words of the user.
    """
    missing = sorted(own.keys() - values.keys())
    unexpected = sorted(values.keys() - own.keys())
    shared = own.keys() & values.keys()
    shapes = sorted(
        f"{k} {tuple(values[k].shape)} for {tuple(own[k].shape)}" for k in shared if own[k].shape != values[k].shape
    )
    kinds = sorted(
        f"{k} {values[k].dtype} for {own[k].dtype}"
        for k in shared
        if own[k].is_floating_point() and not values[k].is_floating_point()
    )
    if kinds:
        raise WeightsError(
            f"{where}: {len(kinds)} tensors are no floating-point numbers ({kinds[0]}): quantised weights cannot be "
            "used, get them as float32, float16 or bfloat16"
        )
    if missing or unexpected or shapes:
        raise WeightsError(
            f"{where}: {len(shared) - len(shapes)} of {len(own)} tensors fit; {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, {len(shapes)} of wrong shape {shapes[:3]}"
            + _class_embedding(missing + unexpected)
        )
    return f"{where}: all {len(own)} tensors fit"


def _class_embedding(keys: Sequence[str]) -> str:
    """The remedy where weights and network disagree about the stock upscaler's noise level."""
    if not any(key.endswith("class_embedding.weight") for key in keys):
        return ""
    return (
        "; only one side has a class embedding: the stock UNet has 1000 levels (num_class_embeds of its config.json, "
        "prior.noise_level=0), that of StableVSR and what was trained on it has none (null, null)"
    )
