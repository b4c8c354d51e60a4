"""``python -m vsrbench.weights export method=dgaf ckpt_path=RUN output=FILE``: trained parts, half precision.

``output=FILE.safetensors`` stores the method's trained part as the sizes ship it; ``output=FOLDER`` with
method=ldm stores the whole prior in the diffusers layout, to be used as ``prior.path=FOLDER``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench.config import build_method, launch
from vsrbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.diffusion.prior import Prior


def run(cfg: "DictConfig") -> None:
    """Write what ``output`` asks for and print its path. Raises ConfigError for an output that cannot be meant."""
    if cfg.task != "export":
        raise ConfigError(f"weights knows the word export, not {cfg.task!r}")
    if not cfg.output:
        raise ConfigError("weights export needs output=FILE.safetensors, or output=FOLDER with method=ldm")
    target = Path(cfg.output).expanduser()
    if target.exists() and not cfg.force:
        raise ConfigError(f"output={target} exists: choose another name or add force=true")
    method: Any = build_method(cfg)
    if target.suffix == ".safetensors":
        save_part(method.trained_state(), target)
    elif cfg.method.name == "ldm":
        save_prior(method.prior, target)
    else:
        raise ConfigError(f"output={target}: method={cfg.method.name} exports to a file ending in .safetensors")
    print(target)


def save_part(state: dict[str, Any], target: Path) -> None:
    """Half-precision safetensors, written beside the target and renamed."""
    from safetensors.torch import save

    from vsrbench.runs import write_atomic

    write_atomic(target, save({k: v.half().contiguous() for k, v in state.items()}))


def save_prior(prior: "Prior", folder: Path) -> None:
    """A diffusers folder: unet/, vae/, scheduler/ and the embedded prompt, half precision."""
    import copy

    from diffusers import DDIMScheduler
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for part in ("unet", "vae"):
        network = copy.deepcopy(getattr(prior, part)).half()
        network.register_to_config(_name_or_path="")  # else the config would name a folder of this machine
        network.save_pretrained(folder / part)
    scheduler: Any = DDIMScheduler(**prior.schedule.config)
    scheduler.save_pretrained(folder / "scheduler")
    save_file({"prompt_embeds": prior.prompt.half().contiguous()}, folder / "prompt_embeds.safetensors")


if __name__ == "__main__":
    launch(run, "weights")
