"""Whether W&B would find a login, asked without starting it: a batch job has nobody to answer its prompt."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlparse


def mode() -> str:
    """What WANDB_MODE says, else online where somebody is logged in, else offline."""
    value = os.environ.get("WANDB_MODE")
    if value:
        return "offline" if value == "dryrun" else value
    return "online" if has_wandb_key() else "offline"


def has_wandb_key() -> bool:
    """True where W&B would find an API key without asking: environment or netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
