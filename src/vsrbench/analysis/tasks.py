"""The analyses by name."""

from collections.abc import Callable

from vsrbench.analysis.components import components
from vsrbench.analysis.observation1 import correlations
from vsrbench.analysis.observation2 import factors, steps, warping
from vsrbench.analysis.report import Found
from vsrbench.analysis.session import Session
from vsrbench.analysis.textures import textures
from vsrbench.errors import ConfigError

# name: (analysis, whether it warps)
TASKS: dict[str, tuple[Callable[[Session], Found], bool]] = {
    "correlation": (correlations, False),
    "warping": (warping, True),
    "steps": (steps, True),
    "factors": (factors, True),
    "components": (components, True),
    "textures": (textures, True),
}


def find(name: str) -> tuple[Callable[[Session], Found], bool]:
    """The analysis of that name and whether it needs flows. Raises ConfigError for an unknown one."""
    if name not in TASKS:
        raise ConfigError(f"task={name}: use one of {', '.join(TASKS)}")
    return TASKS[name]
