"""Composing a configuration from anywhere, checking it early, and building what it names.

The only file besides the entry points that knows Hydra. Importing it loads neither torch nor Hydra.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrbench import experiments, published, refusals
from vsrbench.errors import ConfigError, VsrbenchError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method

PACKAGE = Path(__file__).resolve().parent
# what needs no ``key=``
WORDS = {"upscale": ("input", "output"), "data": ("task",), "weights": ("task", "input"), "analyse": ("task",)}
WORDS |= {"dashboard": ("dashboard",)}
FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's switch: "1" hands errors on as they are; otherwise it prints them and exits
FULL_ERROR_WANTED = os.environ.get(FULL_ERROR) == "1"
FLAGS_WITH_VALUE = (
    "--config-path", "-cp", "--config-dir", "-cd", "--config-name", "-cn", "--cfg", "-c", "--info", "-i",
    "--package", "-p", "--experimental-rerun",
)  # fmt: skip


def home() -> Path:
    """Folder that holds ``conf/`` (with ``conf/experiments``): the package in a wheel, else the checkout."""
    for folder in (PACKAGE, PACKAGE.parents[1]):
        if (folder / "conf" / "config.yaml").is_file():
            return folder
    raise ConfigError(f"conf/config.yaml is neither in {PACKAGE} nor in {PACKAGE.parents[1]}: reinstall vsrbench")


def compose(overrides: Sequence[str] = (), verb: str = "train") -> "DictConfig":
    """The configuration that a command line would give; for tests and for use from Python.

    Raises ConfigError for what Hydra or the early checks refuse.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    _register_resolvers()
    arguments = expand_arguments(list(overrides), verb)
    GlobalHydra.instance().clear()  # a command that composes a second configuration already runs under Hydra
    with refused(arguments, verb), initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        cfg = hydra_compose("config", overrides=arguments)
    check(cfg)
    return cfg


@contextmanager
def refused(arguments: Sequence[str], verb: str) -> Iterator[None]:
    """What Hydra refuses of a command becomes a ConfigError. HYDRA_FULL_ERROR=1 leaves it as it is."""
    try:
        yield
    except Exception as error:
        if FULL_ERROR_WANTED:
            raise
        told = refusals.refusal(error, arguments, home() / "conf", lambda: _settings_without(arguments, verb))
        if told is None:
            raise
        raise told from error


def _settings_without(arguments: Sequence[str], verb: str) -> dict[str, Any]:
    """The settings of a command as its choices of groups make them; none where those cannot be composed either."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    conf = home() / "conf"
    groups = [a if "=[" in a else a.partition(",")[0] for a in arguments if (conf / a.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            cfg: Any = OmegaConf.to_container(hydra_compose("config", overrides=[*groups, f"verb={verb}"]))
    except HydraException:
        return {}
    return dict(cfg)


def launch(run: Callable[["DictConfig"], Any], verb: str) -> None:
    """Run ``run(cfg)`` under Hydra with the command line's overrides; a user's error is one line and exit code 2."""
    import hydra

    _register_resolvers()
    with one_line():
        sys.argv[1:] = sweep_arguments(expand_arguments(sys.argv[1:], verb), verb)
    arguments = sys.argv[1:]

    def task(cfg: "DictConfig") -> Any:
        composed()
        with one_line(), refused(arguments, verb):
            check(cfg)
            _refuse_hydras_own_multirun(cfg)
            return run(cfg)

    main = hydra.main(version_base="1.3", config_path=str(home() / "conf"), config_name="config")(task)
    os.environ[FULL_ERROR] = "1"
    with one_line(), refused(arguments, verb):
        main()


def composed() -> None:
    """Composing is over: what Hydra meets from now on is no longer for ``launch`` to put into words."""
    if not FULL_ERROR_WANTED:
        os.environ.pop(FULL_ERROR, None)


def given() -> list[str]:
    """The settings that the running command was given; none where a configuration was composed in Python."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return []
    words = HydraConfig.get().overrides
    return [*(word for word in words.hydra if not word.startswith("hydra.mode=")), *words.task]


@contextmanager
def one_line() -> Iterator[None]:
    """A user's error becomes one line and exit code 2."""
    try:
        yield
    except VsrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


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
    refusals.check_renamed(expanded)
    expanded += _positional(words, verb)
    if not any(a.startswith("verb=") for a in expanded):
        expanded.append(f"verb={verb}")
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
    if len(words) > len(names):
        raise ConfigError(f"cannot use {words[len(names)]!r}: settings are written key=value (see --help)")
    return [f"{name}={_quoted(word)}" for name, word in zip(names, words, strict=False)]


def _quoted(text: str) -> str:
    """A value that Hydra and OmegaConf give back unchanged: backslashes count only before a quote or a ``${``."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + m[2].replace("'", "\\'"), literal)
    return f"'{escaped}'"


def _register_resolvers() -> None:
    """``${assets:name}``: a file or folder shipped inside the package."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("assets", lambda name: str(PACKAGE / "assets" / name), replace=True)


def check(cfg: "DictConfig") -> None:
    """Refuse what cannot work, before anything heavy is imported.

    Raises ConfigError naming the setting and what is possible instead.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if cfg.stage != "default":  # first, for settings of a stage are resolved by its name
        stages = method_class(cfg).stages
        known = ["default", *stages, *(["all"] if len(stages) > 1 else [])]
        if cfg.stage not in known:
            raise ConfigError(f"stage={cfg.stage} is not one of {', '.join(known)}")
    experiments.check_row(cfg)  # what the row chooses is resolved by its name
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        refusals.check_groups(OmegaConf.to_container(cfg), home() / "conf")
        raise ConfigError(f"the setting {key!r} has no value: add {key}=... to the command") from error
    refusals.check_kinds(plain, home() / "conf")
    published.check(plain["published"])
    for setting, what in plain["needs"].items():
        if plain["verb"] == plain["command"] and OmegaConf.select(cfg, setting) is None:
            raise ConfigError(f"the setting {setting!r} has no value: add {setting}=... to the command ({what})")
    supports = plain["supports"]
    for setting in ("size", "variant", "scale"):
        allowed = supports.get(setting)
        if allowed is not None and plain[setting] not in allowed:
            options = ", ".join(str(a) for a in allowed)
            raise ConfigError(
                f"method={plain['method']['name']} has no {setting}={plain[setting]}: use one of {options}"
            )
    if plain["verb"] not in (supports.get("verbs") or [plain["verb"]]):
        raise ConfigError(f"method={plain['method']['name']} is for {' and '.join(supports['verbs'])} alone")
    if plain["verb"] == "train" and plain["module"] is None:
        raise ConfigError(f"method={plain['method']['name']} has nothing to train; use it with eval or upscale")
    if plain["inference"]["precision"] not in ("fp32", "bf16"):
        raise ConfigError(f"inference.precision={plain['inference']['precision']}: use fp32 or bf16")


def refuse_shared_process(cfg: "DictConfig") -> None:
    """Raise ConfigError for a job on several devices that would share its process with the jobs of a sweep.

    Lightning starts the other ranks by repeating the command line, and with ``-m`` each would begin the whole sweep.
    """
    t = cfg.trainer
    forks = any(word in str(t.strategy) for word in ("fork", "spawn", "notebook"))
    if cfg.verb == "train" and not forks and (str(t.devices) not in ("1", "[0]") or t.num_nodes > 1):
        raise ConfigError(
            f"trainer.devices={t.devices} in a sweep whose jobs share one process: every rank would run the whole "
            "sweep again. Use launcher=local (the default: a process per job), launcher=slurm, or trainer.devices=1"
        )


def _refuse_hydras_own_multirun(cfg: "DictConfig") -> None:
    """The same where somebody chose Hydra's own launcher (``hydra/launcher=basic``)."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return
    if HydraConfig.get().launcher._target_.endswith(".BasicLauncher"):
        refuse_shared_process(cfg)


def build(node: "DictConfig", **extra: Any) -> Any:
    """Instantiate a node with ``_target_`` from plain dicts and lists; a VsrbenchError inside comes out as itself."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(node, **{"_convert_": "all", **extra})
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, VsrbenchError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise


def method_class(cfg: "DictConfig") -> "type[Method]":
    """The class that the node ``method`` names."""
    module, _, name = str(cfg.method._target_).rpartition(".")
    found: type[Method] = getattr(importlib.import_module(module), name)
    return found


def refuse_untrained(cfg: "DictConfig") -> None:
    """Raise ConfigError where no weights are given although the method's trained part has none at this size."""
    if cfg.size not in cfg.supports.untrained and not cfg.untrained:
        raise ConfigError(
            f"method={cfg.method.name} size={cfg.size} variant={cfg.variant} has no trained weights here: give "
            "ckpt_path=RUN (a run of `vsrbench train`, a file, or a folder of released weights), "
            "or untrained=true to go on with an untrained part"
        )


def build_method(cfg: "DictConfig") -> "Method":
    """The method of the configuration with its trained weights, in eval mode, on ``inference.device``.

    Weights: ``ckpt_path`` where it is given, else what the size ships (``weights:``), else as initialised.
    """
    import torch

    from vsrbench.weights.trained import load_trained

    torch.manual_seed(int(cfg.seed))  # an untrained part is a function of the seed, in every process
    method: Method = build(cfg.method)
    source = cfg.ckpt_path or cfg.weights
    if source:
        load_trained(method, str(source))
        if later := method.lacking():
            stages = " and ".join(f"stage={name}" for name in later)
            print(f"note: {source} holds nothing of {stages}: that part is as it starts", file=sys.stderr)
    else:
        refuse_untrained(cfg)
    device = cfg.inference.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return method.eval().to(device).use(precision=cfg.inference.precision, batch=cfg.inference.batch)
