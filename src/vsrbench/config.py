"""Composing a configuration from anywhere, checking it early, and building what it names.

The only file besides the entry points that knows Hydra. Importing it loads neither torch nor Hydra.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vsrbench import experiments, published
from vsrbench.command_line import PACKAGE, expand_arguments, home, sweep_arguments
from vsrbench.errors import ConfigError, VsrbenchError
from vsrbench.interrupts import one_line_at_the_end
from vsrbench.schema import check as schema
from vsrbench.schema import messages, targets
from vsrbench.schema.verbs import VERBS

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vsrbench.methods.base import Method

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's switch: "1" hands errors on as they are; otherwise it prints them and exits
NAMES_A_METHOD = ("method=", "experiments=", "predictions=")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator")  # torch's words
MEMORY = (
    "memory ran out: upscale in smaller pieces (inference.batch=1, inference.chunk=N, inference.tile=N), train with a "
    "smaller train.batch or train.crop, or choose a smaller size="
)
FULL_ERROR_WANTED = os.environ.get(FULL_ERROR) == "1"


def compose(overrides: Sequence[str] = (), verb: str = "train") -> "DictConfig":
    """The configuration that a command line would give; for tests and for use from Python.

    Raises ConfigError for what Hydra or the early checks refuse.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    _register_resolvers()
    arguments = expand_arguments(list(overrides), verb)
    schema.check_arguments(arguments, verb, home() / "conf")
    GlobalHydra.instance().clear()  # a command that composes a second configuration already runs under Hydra
    with refused(arguments, verb), initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        cfg = hydra_compose(verb, overrides=arguments)
    check(cfg, arguments)
    return cfg


@contextmanager
def refused(arguments: Sequence[str], verb: str) -> Iterator[None]:
    """What Hydra refuses of a command becomes a ConfigError. HYDRA_FULL_ERROR=1 leaves it as it is."""
    try:
        yield
    except Exception as error:
        if FULL_ERROR_WANTED:
            raise
        text = messages.from_hydra(error, arguments, home() / "conf", lambda: _settings_without(arguments, verb))
        if text is None:
            raise
        raise text from error


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
            cfg: Any = OmegaConf.to_container(hydra_compose(verb, overrides=groups))
    except HydraException:
        return {}
    return dict(cfg)


def launch(run: Callable[["DictConfig"], Any], verb: str) -> None:
    """Run ``run(cfg)`` under Hydra with the command line's overrides.

    A user's error is one line and exit code 2; so are Ctrl-C and SIGTERM, with 130 and 143.
    """
    with one_line_at_the_end(verb):
        _launch(run, verb)


def _launch(run: Callable[["DictConfig"], Any], verb: str) -> None:
    import hydra

    _register_resolvers()
    with one_line():
        answer_questions(verb, sys.argv[1:])
        sys.argv[1:] = sweep_arguments(expand_arguments(sys.argv[1:], verb), verb)
        schema.check_arguments(sys.argv[1:], verb, home() / "conf")
    arguments = sys.argv[1:]

    def task(cfg: "DictConfig") -> Any:
        composed()
        with one_line(), refused(arguments, verb):
            check(cfg, arguments)
            check_nodes(cfg)
            _refuse_absent_task(cfg)
            _refuse_hydras_own_multirun(cfg)
            if verb in ("upscale", "eval") and not any(a.startswith(NAMES_A_METHOD) for a in arguments):
                from vsrbench import help as texts

                print(texts.of_default(str(cfg.method.name), str(cfg.size)), file=sys.stderr)
            return run(cfg)

    main = hydra.main(version_base="1.3", config_path=str(home() / "conf"), config_name=verb)(task)
    os.environ[FULL_ERROR] = "1"
    with one_line(), refused(arguments, verb):
        main()


def answer_questions(verb: str, arguments: Sequence[str]) -> None:
    """``--help`` prints the page of the command and ends it; a command that is typed bare says what it needs."""
    from vsrbench import help as texts

    if {"-h", "--help"} & set(arguments):
        words = [a for a in arguments if a not in ("-h", "--help", "all")]
        print(texts.page(verb, words, everything="all" in arguments))
        raise SystemExit(0)
    if list(arguments[-2:]) in (["--cfg", "job"], ["-c", "job"]) and not any(a[0] == "-" for a in arguments[:-2]):
        print_settings(verb, arguments[:-2])
        raise SystemExit(0)
    if not arguments and (text := texts.bare(verb)):
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2)


def print_settings(verb: str, words: Sequence[str]) -> None:
    """``--cfg job``: what the command reads, as YAML; Hydra would add what files hold for other commands."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    arguments = expand_arguments(list(words), verb)
    schema.check_arguments(arguments, verb, home() / "conf")
    with refused(arguments, verb), initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        cfg = hydra_compose(verb, overrides=arguments)
    schema.prune(cfg, verb)
    print(OmegaConf.to_yaml(cfg), end="")


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
    """A user's error becomes one line and exit code 2; so does memory that ran out."""
    try:
        yield
    except VsrbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        print(f"error: {MEMORY} ({str(error).partition(chr(10))[0] or 'no more of it'})", file=sys.stderr)
        raise SystemExit(2) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine, or of a GPU, ran out."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in OUT_OF_MEMORY)


def _register_resolvers() -> None:
    """What values of conf/ may follow from.

    ``${assets:name}``: a file or folder shipped inside the package. ``${lr_pixels:256,${scale}}``: HR in LR pixels.
    """
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("assets", lambda name: str(PACKAGE / "assets" / name), replace=True)
    OmegaConf.register_new_resolver("lr_pixels", lambda hr, scale: int(hr) // int(scale), replace=True)


def check(cfg: "DictConfig", arguments: Sequence[str] = ()) -> None:
    """Leave in the configuration what its command reads, and refuse what cannot work, before heavy imports.

    arguments: of the command; targets of nodes that were given further settings (``+trainer.x=1``) are looked up.
    Raises ConfigError naming the setting and what is possible instead.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    verb = str(cfg.verb)
    schema.prune(cfg, verb)
    schema.check_files(cfg, home() / "conf")
    if "stage" in cfg:  # first, for settings of a stage are resolved by its name
        _check_stage(cfg)
    if "rows" in cfg:
        experiments.check_row(cfg)  # what the row chooses is resolved by its name
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        unresolved: Any = OmegaConf.to_container(cfg)
        schema.check_groups(unresolved, verb)
        raise ConfigError(f"the setting {key!r} has no value: add {key}=... to the command") from error
    schema.check(plain, verb)
    added = [a.lstrip("+").partition("=")[0] for a in arguments if a.startswith("+")]
    for place, node in schema.nodes(plain, verb).items():
        if any(key.startswith(f"{place}.") for key in added):
            targets.check(node, place, plain)
    if plain.get("published"):
        published.check(plain["published"])
    for setting, what in plain.get("needs", {}).items():
        if verb == plain["command"] and OmegaConf.select(cfg, setting) is None:
            raise ConfigError(f"the setting {setting!r} has no value: add {setting}=... to the command ({what})")
    if "supports" in plain:
        _check_supported(plain)


def _check_stage(cfg: "DictConfig") -> None:
    if cfg.stage == "default":
        return
    stages = method_class(cfg).stages
    known = ["default", *stages, *(["all"] if len(stages) > 1 else [])]
    if cfg.stage not in known:
        raise ConfigError(f"stage={cfg.stage} is not one of {', '.join(known)}")


def _check_supported(plain: dict[str, Any]) -> None:
    """Choices that the method does not have."""
    supports, name, verb = plain["supports"], plain["method"]["name"], plain["verb"]
    for setting in ("size", "variant", "scale"):
        allowed = supports.get(setting)
        if allowed is not None and plain[setting] not in allowed:
            options = ", ".join(str(a) for a in allowed)
            raise ConfigError(f"method={name} has no {setting}={plain[setting]}: use one of {options}")
    _check_words(plain)
    if verb not in (supports.get("verbs") or [verb]):
        raise ConfigError(f"method={name} is for {' and '.join(supports['verbs'])} alone")
    if verb == "train" and plain["module"] is None:
        raise ConfigError(f"method={name} has nothing to train; use it with eval or upscale")


def _check_words(plain: dict[str, Any]) -> None:
    """``weights`` of a method that knows words for them. Raises ConfigError for what is neither a word nor a file."""
    words, value = plain["supports"].get("weights"), plain.get("weights")
    if words and value is not None and value not in (*words, "auto") and not os.path.exists(os.path.expanduser(value)):
        raise ConfigError(f"weights={value}: use {', '.join(words)}, auto, or a file")


def check_nodes(cfg: "DictConfig") -> None:
    """Hold the nodes that the command builds against what they build. Imports it. Raises ConfigError."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    foreign = plain.get("predictions") is not None
    for place, node in schema.nodes(plain, str(cfg.verb)).items():
        top = place.partition(".")[0]
        if top in VERBS[str(cfg.verb)].builds and not (foreign and top == "method"):
            targets.check(node, place, plain)


def refuse_shared_process(cfg: "DictConfig") -> None:
    """Raise ConfigError for a job on several devices that would share its process with the jobs of a sweep.

    Lightning starts the other ranks by repeating the command line, and with ``-m`` each would begin the whole sweep.
    """
    if cfg.verb != "train":
        return
    t = cfg.trainer
    forks = any(word in str(t.strategy) for word in ("fork", "spawn", "notebook"))
    if not forks and (str(t.devices) not in ("1", "[0]") or t.num_nodes > 1):
        raise ConfigError(
            f"trainer.devices={t.devices} in a sweep whose jobs share one process: every rank would run the whole "
            "sweep again. Use launcher=local (the default: a process per job), launcher=slurm, or trainer.devices=1"
        )


def _refuse_absent_task(cfg: "DictConfig") -> None:
    """A command that has settings and does not know what to do with them."""
    from vsrbench import help as texts

    if "task" in cfg and cfg.task is None and cfg.verb in texts.NEEDS:
        raise ConfigError(f"{texts.NEEDS[cfg.verb]}, for instance: {texts.EXAMPLES[cfg.verb][0]}")


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


def check_weights(cfg: "DictConfig", method: "Method") -> None:
    """Raise WeightsError for a method with networks and without weights, unless that makes sense at this size."""
    has_networks = next(method.parameters(), None) is not None
    if has_networks and cfg.size not in cfg.supports.untrained and not cfg.untrained:
        from vsrbench.weights.report import no_weights

        raise no_weights(
            f"the trained part of method={cfg.method.name} size={cfg.size} variant={cfg.variant}",
            "give ckpt_path=RUN (a run of `vsrbench train`, a file, or a folder of released weights)",
            "untrained=true",
        )


def device(name: str) -> str:
    """``inference.device`` as torch calls it; "auto" is a GPU where there is one. Raises ConfigError for one that is
    not there."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(f"cuda:{n}" for n in range(gpus)), *(["mps"] if torch.backends.mps.is_available() else [])]
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in there and not (name == "cuda" and gpus):
        raise ConfigError(f"inference.device={name} is not there: this machine has {', '.join(there)} (auto chooses)")
    return name


def build_method(cfg: "DictConfig") -> "Method":
    """The method of the configuration with its trained weights, in eval mode, on ``inference.device``.

    Weights: ``ckpt_path`` where it is given, else what the size ships (``weights:``), else as initialised.
    """
    import torch

    from vsrbench.weights.choice import choose, trained_source
    from vsrbench.weights.trained import load_trained

    device(str(cfg.inference.device))  # fails here where it is not there, before networks are built
    torch.manual_seed(int(cfg.seed))  # an untrained part is a function of the seed, in every process
    method: Method = build(cfg.method)
    if source := trained_source(cfg):
        load_trained(method, source)
        if not cfg.ckpt_path and (reason := choose(cfg)[1]):
            print(f"weights={choose(cfg)[0]}, chosen for {reason}", file=sys.stderr)
        if later := method.missing_parts():
            stages = " and ".join(f"stage={name}" for name in later)
            print(f"note: {source} holds nothing of {stages}: that part is as it starts", file=sys.stderr)
    else:
        check_weights(cfg, method)
    method.check_pretrained(cfg.untrained)
    method.eval().to(device(str(cfg.inference.device)))
    return method.configure_inference(precision=cfg.inference.precision, batch=cfg.inference.batch)
