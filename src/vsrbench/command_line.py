"""What users type, as Hydra takes it: words without ``key=``, patterns of experiments, sweeps.

Needs neither torch nor Hydra.
"""

import hashlib
import importlib.util
import os
import re
from pathlib import Path

from vsrbench import experiments
from vsrbench.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent
# what needs no ``key=``
WORDS = {"upscale": ("input", "output"), "data": ("task",), "weights": ("task", "input"), "analyse": ("task",)}
WORDS |= {"dashboard": ("dashboard",), "bench": ("task",)}
STRUCTURE = re.compile(r"""[][{}(),"'=]""")  # what makes a value more than one word
UNREADABLE = re.compile(r"[^a-zA-Z0-9_/\\+.$%*@?|:\- ]")  # what Hydra's grammar takes in no value without quotes
FLAGS_WITH_VALUE = (
    "--config-path", "-cp", "--config-dir", "-cd", "--config-name", "-cn", "--cfg", "-c", "--info", "-i",
    "--package", "-p", "--experimental-rerun",
)  # fmt: skip


def home() -> Path:
    """Folder that holds ``conf/`` (with ``conf/experiments``): the package in a wheel, else the checkout."""
    for folder in (PACKAGE, PACKAGE.parents[1]):
        if (folder / "conf" / "train.yaml").is_file():
            return folder
    raise ConfigError(f"conf/train.yaml is neither in {PACKAGE} nor in {PACKAGE.parents[1]}: reinstall vsrbench")


def expand_arguments(arguments: list[str], verb: str) -> list[str]:
    """Turn what users type into Hydra overrides.

    ``upscale IN OUT`` and ``data check`` words become keys, ``experiment=x`` means ``experiments=x``,
    ``experiments=folder/*`` lists the folder. Applying it twice changes nothing (child processes of a
    distributed run are started with the expanded line). A path with ``=`` in it counts as a path where it
    exists or starts with ``/``, ``./`` or ``../``. Raises ConfigError for words and patterns that mean nothing.
    """
    words: list[str] = []
    settings: list[str] = []
    flags: list[str] = []  # last: Hydra's parser wants all settings side by side
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument.startswith("-") or (before in FLAGS_WITH_VALUE and "=" not in argument):
            flags.append(argument)
        else:
            (words if _is_word(argument, verb) else settings).append(argument)
    root = home() / "conf" / "experiments"
    expanded = [experiments.expand(re.sub(r"^experiment=", "experiments=", a), root) for a in settings]
    experiments.check_moved(expanded, root)
    expanded = [_literal(a) for a in expanded] + _positional(words, verb)
    expanded = [_free(a) for a in expanded] + _only_size(expanded)
    return expanded + flags


def sweep_arguments(arguments: list[str], verb: str) -> list[str]:
    """Expanded arguments of a sweep (``-m``, or implied by ``launcher=slurm`` and ``sweeper=optuna``) for Hydra.

    ``sweeper.x`` means ``hydra.sweeper.x``. Adds ``sweep=NAME``, which names the sweep's folder and is a function of
    what is asked for, so that the same command finds it again. Arguments of a single run come back as they are.
    Raises ConfigError where an extra is not installed.
    """
    if any(a == "sweeper=optuna" for a in arguments) and not _installed("hydra_plugins.hydra_optuna_sweeper"):
        raise ConfigError("sweeper=optuna needs the extra `sweep`: pip install 'vsrbench[sweep]'")
    if other := next((a for a in arguments if a.startswith("sweeper=") and a != "sweeper=optuna"), None):
        raise ConfigError(f"{other} does not exist: use sweeper=optuna, or leave it out for comma lists")
    implied = any(a.startswith(("launcher=slurm", "sweeper=optuna")) for a in arguments)
    if not implied and not {"-m", "--multirun"} & set(arguments):
        return arguments
    # Not Hydra's own name: it would take its schema, in which values cannot come from our settings.
    renamed = [re.sub(r"^sweeper=optuna$", "hydra/sweeper=vsrbench_optuna", a) for a in arguments]
    renamed = [re.sub(r"^sweeper\.", "hydra.sweeper.", a) for a in renamed]
    if not any(a.startswith("sweep=") for a in renamed):
        aside = ("launcher", "runs=", "force=", "-m", "--multirun", "hydra.sweeper.n_trials=")
        essence = sorted(a for a in renamed if not a.startswith(aside))
        name = f"{verb}-{hashlib.blake2b(' '.join(essence).encode(), digest_size=4).hexdigest()}"
        renamed.insert(0, f"sweep={name}")
    return renamed if {"-m", "--multirun"} & set(renamed) else [*renamed, "--multirun"]


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _is_word(argument: str, verb: str) -> bool:
    if argument.startswith(("~", "+")):
        return False
    is_path = argument.startswith(("/", "./", "../")) or os.path.exists(argument)
    return "=" not in argument or (verb in ("upscale", "weights") and is_path)


def _positional(words: list[str], verb: str) -> list[str]:
    names = WORDS.get(verb, ())
    if verb == "weights" and words[:1] == ["fetch"] and words[1:]:
        return ["task=fetch", f"names=[{','.join(map(_quoted, words[1:]))}]"]
    if len(words) > len(names):
        raise ConfigError(f"cannot use {words[len(names)]!r}: settings are written key=value (see --help)")
    return [f"{name}={_quoted(word)}" for name, word in zip(names, words, strict=False)]


def _literal(argument: str) -> str:
    """``key=value`` whose value Hydra could not read, or would not as the path that it is, with the value in quotes.

    ``~/x`` and ``"~/x"`` become the path that they mean. Lists, sweeps and values in quotes of their own stay.
    """
    key, equals, value = argument.partition("=")
    if not equals or not value or key.startswith("~"):
        return argument
    if match := re.fullmatch(r"""(["']?)(~[^,"']*)\1""", value):
        path = os.path.expanduser(match[2])
        return argument if path == match[2] else f"{key}={_quoted(path)}"
    if not UNREADABLE.search(value) or "${" in value:
        return argument
    is_path = os.path.exists(value) or (value.startswith(("/", "./", "../")) and "," not in value)
    return argument if STRUCTURE.search(value) and not is_path else f"{key}={_quoted(value)}"


def _quoted(text: str) -> str:
    """A value that Hydra and OmegaConf give back unchanged: backslashes count only before a quote or a ``${``."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + m[2].replace("'", "\\'"), literal)
    return f"'{escaped}'"


def _only_size(arguments: list[str]) -> list[str]:
    """``size=paper`` where the command names a method that has no miniature, and no size."""
    names = [a.partition("=")[2] for a in arguments if a.startswith("method=")]
    if len(names) != 1 or any(a.startswith("size=") for a in arguments):
        return []
    folder = home() / "conf" / "method" / names[0]
    return ["size=paper"] if (folder / "paper.yaml").is_file() and not (folder / "mini.yaml").is_file() else []


def _free(argument: str) -> str:
    """``trainer.x=1`` may be any argument of Lightning's Trainer, also one that conf/trainer does not mention."""
    match = re.match(r"trainer\.(\w+)[.=]", argument)
    if match is None:
        return argument
    texts = (file.read_text() for file in (home() / "conf" / "trainer").glob("*.yaml"))
    stated = {name for text in texts for name in re.findall(r"^(\w+):", text, re.MULTILINE)}
    return argument if match[1] in stated else f"++{argument}"
