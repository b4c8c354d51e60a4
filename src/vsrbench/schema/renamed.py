"""Settings that were called otherwise once: an old spelling is answered with the new one."""

from vsrbench.errors import ConfigError

RENAMED = {
    "trainer.gradient_clip": "trainer.gradient_clip_val",
    "trainer.log_every": "trainer.log_every_n_steps",
    "trainer.compile": "compile",
    "trainer.checkpointing": "gradient_checkpointing",
    "logger.project": "logger.wandb.project",
    "logger.entity": "logger.wandb.entity",
    "logger.group": "logger.wandb.group",
    "logger.checkpoint": "logger.wandb.checkpoint",
}


def check(argument: str) -> None:
    """Raise ConfigError for a setting, ``key`` or ``key=value``, under the name that it once had."""
    key, equals, value = argument.lstrip("+").partition("=")
    if key in RENAMED:
        new = RENAMED[key]
        raise ConfigError(f"{key} is now {new}" + (f": write {new}={value}" if equals else ""))
