"""Settings that hold for every method: gradient checkpointing, torch.compile; the batch of its paper."""

from typing import Any

from omegaconf import OmegaConf
from torch import nn

from vsrbench import config
from vsrbench.errors import ConfigError
from vsrbench.methods.base import Method

# Blocks that networks repeat, called as modules (``Method.opens_blocks`` says where they are not). Compiling these
# instead of whole networks compiles each kind once, and leaves out what no compiler follows: noise by name, loops over
# frames. diffusers' U-Nets and VAE; ours.
REPEATED = ("ResnetBlock2D", "BasicTransformerBlock", "ResidualBlock")
BACKENDS = ("inductor", "aot_eager", "eager")


def apply_checkpointing(method: Method, wanted: bool | None) -> None:
    """``gradient_checkpointing``: in every network that can, layers are computed again in the backward pass.

    A module of ours that can do so has a switch ``checkpointing``; networks of diffusers have their own. None leaves
    what the method's size says. Raises ConfigError where a method has nothing to switch.
    """
    if wanted is None:
        return
    able = [m for m in method.modules() if isinstance(getattr(m, "checkpointing", None), bool)]
    if not able:
        raise ConfigError(f"gradient_checkpointing={wanted}: {name_of(method)} has no gradient checkpointing; use null")
    for module in able:
        module.checkpointing = wanted  # type: ignore[assignment]
    for network in (m for m in method.modules() if getattr(m, "_supports_gradient_checkpointing", False)):
        change: Any = network.enable_gradient_checkpointing if wanted else network.disable_gradient_checkpointing
        change()


def apply_compile(method: Method, wanted: bool | str) -> None:
    """``compile``: the repeated blocks of all networks are compiled, with a named backend or inductor.

    A discriminator's blocks stay as they are: R1 differentiates twice, which compiled modules cannot. Raises
    ConfigError where a stage has no block to compile.
    """
    if wanted is False:
        return
    backend = "inductor" if wanted is True else wanted
    if backend not in BACKENDS:
        raise ConfigError(f"compile={wanted}: use false, true or one of {', '.join(BACKENDS)}")
    found = repeated_blocks(method)
    if not found:
        raise ConfigError(
            f"compile={wanted}: {name_of(method)} stage={method.stage} calls none of the blocks that are "
            f"compiled ({', '.join(REPEATED)}); use compile=false"
        )
    from torch._dynamo import config as dynamo_config  # a second to import

    # Blocks of one kind share their code: each width, and sampling beside training, is one more compilation of it.
    dynamo_config.cache_size_limit = max(dynamo_config.cache_size_limit, 64)
    for block in found:
        block.compile(backend=backend)


def repeated_blocks(method: Method) -> list[nn.Module]:
    """The modules that ``compile`` compiles and ``trainer=fsdp`` shards."""
    if method.opens_blocks:
        return []
    return [module for module in method.modules() if type(module).__name__ in REPEATED]


def name_of(method: Method) -> str:
    return f"method={type(method).__name__.lower()}"


def paper_batch(method: str) -> int | None:
    """The effective batch that a method's paper trains with, as its size ``paper`` has it; None where it has none."""
    file = config.home() / "conf" / "method" / method / "paper.yaml"
    settings: Any = OmegaConf.load(file) if file.is_file() else OmegaConf.create()
    found = OmegaConf.select(settings, "train.effective_batch")
    return None if found is None else int(found)
