"""Errors a user can act on. Each message names the file or setting and the remedy; no traceback is shown.

Kept apart from ``types.py`` so that commands without torch can raise them.
"""


class VsrbenchError(Exception):
    """Base of all errors that are the user's to solve; entry points print only the message."""


class ConfigError(VsrbenchError):
    """A setting that is unknown, missing, or impossible together with another."""


class DataError(VsrbenchError):
    """Frames, clips or lists that are absent, broken, or do not fit each other."""


class WeightsError(VsrbenchError):
    """Weights that are absent or do not fit the network they are meant for."""


class RunError(VsrbenchError):
    """A run folder, checkpoint or result that cannot be used as asked."""


class TrainingError(VsrbenchError):
    """Training that cannot go on, for instance a loss that is no longer finite."""
