"""Which weights a configuration means: ``ckpt_path``, or ``weights`` by its word."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

AUTO = "auto"


def trained_source(cfg: "DictConfig") -> str | None:
    """A path, a name of the catalogue, or None for none.

    ``weights`` may be one of the method's words (``supports.weights``: word to name), or "auto".
    """
    if cfg.ckpt_path or not cfg.weights:
        return str(cfg.ckpt_path) if cfg.ckpt_path else None
    word, _ = choose(cfg)
    return str((cfg.supports.get("weights") or {}).get(word, word))


def choose(cfg: "DictConfig") -> tuple[str, str]:
    """The word of ``weights``, and what it was chosen for; "" where the command itself names it.

    "auto" takes the first rule of ``supports.auto`` that names the degradation or the data set; a command without
    either, and data that no rule names, take its ``default``.
    """
    if cfg.weights != AUTO:
        return str(cfg.weights), ""
    degradation, data = (cfg.get(name) or {} for name in ("degradation", "data"))
    known = {"degradation": degradation.get("name"), "data": data.get("set")}
    for rule, word in cfg.supports.auto.items():
        for setting, value in known.items():
            if value == rule:
                return str(word), f"{setting}={value}"
    return str(cfg.supports.auto["default"]), "footage whose degradation is not known"
