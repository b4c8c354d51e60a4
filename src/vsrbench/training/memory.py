"""Settings that hold for every method: gradient checkpointing, torch.compile; the batch of its paper."""

from typing import Any

from omegaconf import OmegaConf

from vsrbench.command_line import home
from vsrbench.compat import raise_compilations
from vsrbench.errors import ConfigError
from vsrbench.methods.module import REPEATED, MethodModule

BACKENDS = ("inductor", "aot_eager", "eager")


def apply_checkpointing(module: MethodModule, wanted: bool | None) -> None:
    """``gradient_checkpointing``: in every network that can, layers are computed again in the backward pass.

    A module of ours that can do so has a switch ``checkpointing``; networks of diffusers have their own. None leaves
    what the method's size says. Raises ConfigError where a method has nothing to switch.
    """
    if wanted is None:
        return
    able = [m for m in module.modules() if isinstance(getattr(m, "checkpointing", None), bool)]
    if not able:
        raise ConfigError(f"gradient_checkpointing={wanted}: {name_of(module)} has no gradient checkpointing; use null")
    for network in able:
        network.checkpointing = wanted  # type: ignore[assignment]
    for network in (m for m in module.modules() if getattr(m, "_supports_gradient_checkpointing", False)):
        change: Any = network.enable_gradient_checkpointing if wanted else network.disable_gradient_checkpointing
        change()


def apply_compile(module: MethodModule, wanted: bool | str) -> None:
    """``compile``: the repeated blocks of all networks are compiled, with a named backend or inductor.

    A discriminator's blocks stay as they are: R1 differentiates twice, which compiled modules cannot. Raises
    ConfigError where a stage has no block to compile.
    """
    if wanted is False:
        return
    backend = "inductor" if wanted is True else wanted
    if backend not in BACKENDS:
        raise ConfigError(f"compile={wanted}: use false, true or one of {', '.join(BACKENDS)}")
    blocks = module.repeated_blocks()
    if not blocks:
        raise ConfigError(
            f"compile={wanted}: {name_of(module)} stage={module.stage} calls none of the blocks that are "
            f"compiled ({', '.join(REPEATED)}); use compile=false"
        )
    # Blocks of one kind share their code: each width, and sampling beside training, is one more compilation of it.
    raise_compilations(64)
    for block in blocks:
        block.compile(backend=backend)


def name_of(module: MethodModule) -> str:
    return f"method={type(module.method).__name__.lower()}"


def paper_batch(method: str) -> int | None:
    """The effective batch that a method's paper trains with, as its size ``paper`` has it; None where it has none."""
    file = home() / "conf" / "training" / method / "paper.yaml"
    settings: Any = OmegaConf.load(file) if file.is_file() else OmegaConf.create()
    batch = OmegaConf.select(settings, "train.effective_batch")
    return None if batch is None else int(batch)
