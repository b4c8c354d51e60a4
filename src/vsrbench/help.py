"""What the commands say of themselves, made from the schema and from the comments of conf/: help, lists, first lines.

Needs neither torch nor Lightning.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from vsrbench.command_line import WORDS, expand_arguments, home
from vsrbench.errors import ConfigError
from vsrbench.schema.check import check_files
from vsrbench.schema.sections import Section
from vsrbench.schema.verbs import VERBS as MODELS
from vsrbench.schema.verbs import extra, section

VERBS = {
    "train": "train a method on a data set",
    "eval": "write frames and evaluate them under a protocol",
    "compare": "all methods on the same data, protocol and training budget",
    "upscale": "upscale a video file or a folder of frames",
    "bench": "parameters, FLOPs, speed and memory by part; speed of the training loader",
    "data": "check, pack, degrade or verify a data set on disk",
    "weights": "list and fetch known weights, check a folder, export trained parts",
    "analyse": "the papers' own analyses of a sampling run",
    "report": "a page, tables and statistics of finished evaluations; how far a sweep is",
    "conformance": "compare every protocol's bicubic row with the reported one on the data at hand",
    "smoke_test": "run every experiment at size=tiny",
    "verify": "replay a recording of a method's released code and compare every tensor",
    "dashboard": "write W&B dashboards and save them where somebody is logged in",
    "demo": "train, evaluate and upscale a miniature in a few minutes and write a page about it",
}
OTHERS = {
    "help": "this page; help VERB [all]: the settings of a command",
    "list": "list methods | data | experiments | protocols | metrics",
    "completion": "completion bash | zsh: the script that a shell needs, and how to install it",
}
EXAMPLES = {
    "train": ["vsrbench train method=dgaf data=reds data.root=DIR", "vsrbench train -m seed=1,2,3 launcher=slurm"],
    "eval": ["vsrbench eval method=bicubic data=vid4 data.root=DIR", "vsrbench eval predictions=FRAMES data=sample"],
    "compare": ["vsrbench compare experiments=compare/* data=sample"],
    "upscale": ["vsrbench upscale in.mp4 out.mp4 method=basicvsr", "vsrbench upscale frames/ out/ method=dgaf"],
    "bench": ["vsrbench bench params method=dgaf", "vsrbench bench flops method=stablevsr size=paper"],
    "data": ["vsrbench data check data=reds data.root=DIR", "vsrbench data pack data=reds data.root=DIR output=PACK"],
    "weights": [
        "vsrbench weights list",
        "vsrbench weights fetch basicvsr",
        "vsrbench weights check PATH",
        "vsrbench weights export method=dgaf ckpt_path=RUN output=FILE.safetensors",
    ],
    "analyse": ["vsrbench analyse warping method=dgaf size=mini data=vid4 data.root=DIR"],
    "verify": ["vsrbench verify method=dgaf variant=released size=tiny reference=DIR"],
    "dashboard": ["vsrbench dashboard all logger=wandb"],
    "demo": ["vsrbench demo"],
    "smoke_test": ["vsrbench smoke_test experiments=dgaf/*"],
}
NEEDS = {  # what a command cannot do without, for those that are typed bare
    "upscale": "upscale needs an input and an output",
    "bench": "bench needs a task: params, flops, speed, memory, loader or metrics",
    "data": "data needs a task: check, pack, degrade or verify",
    "weights": "weights needs a task: list, fetch, check or export",
    "analyse": "analyse needs a task: correlation, warping, steps, factors, components or textures",
    "verify": "verify needs a method, variant=released and the folder of a recording",
}
GROUPS = (  # groups of conf/ that a command line chooses from
    "method", "size", "variant", "data", "degradation", "protocol", "sampler", "flow", "trainer", "callbacks", "logger",
    "launcher", "debug",
)  # fmt: skip
ASIDE = {  # what is left to the page of another command, or to --help all
    "train": ("Experiments (experiments/)",),
    "compare": ("Training", "Computing"), "smoke_test": ("Training", "Computing", "Data", "Protocol"),
}  # fmt: skip
ASIDE_OF_METHODS = ("Run folder and sweeps", "Experiments (experiments/)")  # where a method's settings are shown
INDENT = 34  # of the second column
MOST = 20  # settings of a method that the usual page shows; fewer where they would not fit
SCREEN = 80  # lines
WIDTH = 100
FLAGS = """\
  -m, --multirun        a job for each value of a comma list (seed=1,2,3)
  --cfg job             print the settings that the command would use, and stop
  --help all            every setting"""
OF_METHOD = "  method=NAME --help    the settings of a method too"


def overview() -> str:
    """``vsrbench help``."""
    lines = [f"  {verb:12}{text}" for verb, text in (VERBS | OTHERS).items()]
    last = "vsrbench VERB --help shows the settings of a command."
    return "\n".join(["usage: vsrbench VERB [key=value ...]", "", *lines, "", last])


def bare(verb: str) -> str | None:
    """What a command says that was typed without a word and cannot do without; None where it can."""
    if verb not in NEEDS:
        return None
    return f"{NEEDS[verb]}, for instance\n  {EXAMPLES[verb][0]}\nvsrbench {verb} --help shows its settings"


def of_default(method: str, size: str) -> str:
    """The line of a command that was given no method: which it takes, and why not to take it for the paper's."""
    what = ", a miniature that is shipped and not the paper's network" if size == "mini" else ""
    other = "method=basicvsr has published weights (`vsrbench weights fetch basicvsr`)"
    return f"no method= is given: method={method} size={size}, the default{what}; {other}"


def page(verb: str, arguments: Sequence[str] = (), everything: bool = False) -> str:
    """``vsrbench VERB --help``: what the command does, examples, choices of groups, settings with their defaults.

    arguments: further words of the command; defaults are those that it would use, and the settings of a method that
    they choose are among the usual ones. everything: not the usual settings alone. Raises ConfigError for a verb that
    does not exist.
    """
    if verb not in MODELS:
        raise ConfigError(f"there is no help on {verb!r}: use one of {', '.join(MODELS)}")
    defaults = composed(verb, arguments)
    most = MOST
    while most > 1 and not everything and len(_page(verb, arguments, defaults, False, most, WIDTH)) >= SCREEN:
        most -= 1  # counted at the full width: which settings are shown depends on no terminal
    return "\n".join(_page(verb, arguments, defaults, everything, most, columns()))


def _page(
    verb: str, arguments: Sequence[str], defaults: Mapping[str, Any], everything: bool, most: int, width: int
) -> list[str]:
    """Its lines, with at most so many settings of the method, and of its training."""
    model = MODELS[verb]
    words = " ".join(word.upper() for word in WORDS.get(verb, ()))
    lines = [f"usage: vsrbench {verb} {words + ' ' if words else ''}[key=value ...]", "", (model.__doc__ or "").strip()]
    of_method = any(re.match("(method|experiments?)=", word) for word in arguments)
    typed = dict(word.split("=", 1) for word in arguments if "=" in word)
    chosen = {group: typed.get(group, name) for group, name in choices(verb).items()}
    lines += [] if of_method else ["", *(f"  {example}" for example in EXAMPLES.get(verb, ()))]
    choosable = [group for group in GROUPS if group in chosen and (group in model.model_fields or group == "debug")]
    lines += ["", "Choices", *chain(row(f"{g}={chosen[g]}", ", ".join(options(g)), width) for g in choosable)]
    aside = () if everything else ASIDE.get(verb, ()) + (ASIDE_OF_METHODS if of_method else ())
    for title, entries in settings(model, defaults, everything, most if of_method else 0):
        if title not in aside:
            lines += ["", title, *chain(row(f"{key}={shown(value)}", text, width) for key, value, text in entries)]
    if not everything:
        lines += ["", FLAGS, *([OF_METHOD] if "method" in model.model_fields and not of_method else [])]
    return [line for text in lines for line in text.splitlines() or [""]]


def composed(verb: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The command's settings, not resolved, so that a default that follows another one shows it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        cfg = compose(verb, overrides=expand_arguments([a for a in arguments if not a.startswith("-")], verb))
    plain: Any = OmegaConf.to_container(cfg)
    check_files(plain, home() / "conf")
    return dict(plain)


Entry = tuple[str, Any, str]


def settings(
    model: type[Section], defaults: Mapping[str, Any], everything: bool, of_method: int = 0
) -> Iterator[tuple[str, list[Entry]]]:
    """Groups of settings in the order in which they concern a user: (title, [(key, default, meaning)])."""
    groups: dict[str, list[Entry]] = {}
    for owner in (model, *(base for base in model.__mro__[1:] if issubclass(base, Section) and base is not Section)):
        names = [name for name in owner.__annotations__ if name in model.model_fields]
        entries = [entry for name in names for entry in of_field(name, model, defaults, everything, of_method)]
        title = "Settings" if owner is model else (owner.__doc__ or "").strip().rstrip(".")
        groups.setdefault(title, []).extend(entries)
    yield from ((title, entries) for title, entries in groups.items() if entries)


def of_field(
    name: str, model: type[Section], defaults: Mapping[str, Any], everything: bool, of_method: int
) -> Iterator[Entry]:
    """The lines of one top-level setting: itself, or what its group or its node holds.

    of_method: so many settings of a method at most, 0: none.
    """
    field = model.model_fields[name]
    value, about, usual = defaults.get(name), extra(field), extra(field).get("usual")
    inner = section(field.annotation, value)
    if inner is not None and isinstance(value, dict):
        yield from of_section(name, inner, value, everything)
    elif about.get("node") == "one" and isinstance(value, dict):
        entries = list(of_node(name, value, comments(name, value), everything))
        if everything or (usual == ["*"] and of_method):
            yield from entries if everything else first(entries, of_method)
        else:
            yield from (entry for entry in entries if entry[0].removeprefix(f"{name}.") in (usual or ()))
    elif everything or usual is True:
        yield name, value, field.description or ""


def of_node(path: str, values: Mapping[str, Any], meanings: Mapping[str, str], everything: bool) -> Iterator[Entry]:
    """The settings of a node; groups inside it one by one where everything is shown and their comments say what."""
    for key, value in values.items():
        if key.startswith("_") or value == f"${{{key}}}" or f"{path}.{key}" == "method.name":
            continue
        below = {name.partition(".")[2]: text for name, text in meanings.items() if name.startswith(f"{key}.")}
        if everything and below and isinstance(value, dict):
            yield from of_node(f"{path}.{key}", value, below, everything)
        else:
            yield f"{path}.{key}", value, meanings.get(key, "")


def first(entries: Sequence[Entry], most: int) -> Iterator[Entry]:
    """The first settings of a method, each on one line; the last line says how many more there are."""
    for key, value, meaning in entries[:most]:
        lines = wrap(meaning, WIDTH - INDENT - 4)
        yield key, value, f"{lines[0]} ..." if len(lines) > 1 else meaning
    if len(entries) > most:
        node = entries[0][0].partition(".")[0]
        yield f"{node}...", "", f"{len(entries) - most} more: --help all"


def of_section(path: str, model: type[Section], values: Mapping[str, Any], everything: bool) -> Iterator[Entry]:
    for name, field in model.model_fields.items():
        value, inner = values.get(name), section(field.annotation, values.get(name))
        if inner is not None and isinstance(value, dict):
            yield from of_section(f"{path}.{name}", inner, value, everything)
        elif (everything or extra(field).get("usual")) and not field.alias:
            yield f"{path}.{name}", value, field.description or ""


def comments(name: str, value: Mapping[str, Any]) -> dict[str, str]:
    """Meanings of a node's settings, {setting of the node: comment behind it in the files of conf/ that hold it}."""
    folder = home() / "conf" / name
    own = value.get("name") or value.get("set")
    files = [folder / f"{own}.yaml"] if own else sorted(folder.glob("*.yaml"))
    if name == "module":
        files = [folder.parent / "training" / f"{str(value['_target_']).split('.')[2]}.yaml"]
    shared = [folder.parent / "shared" / f"{name}.yaml", folder.parent / "training" / "default.yaml"]
    meanings: dict[str, str] = {}
    for file in (*files, *shared):
        if file.is_file():
            for key, meaning in commented(file.read_text(encoding="utf-8")):
                meanings.setdefault(key.removeprefix(f"{name}."), meaning)
    return meanings


def commented(text: str) -> Iterator[tuple[str, str]]:
    """(setting by its full name, comment on its line) of a YAML file; also ``# setting: comment`` on lines of its own,
    for settings that the file leaves as they are."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if stated := re.match(r"^ *# ([\w.]+): (.+)$", line):
            yield stated[1], stated[2]
        if match := re.match(r"^( *)(\w+):(?:.*?\s# (.+))?", line):
            above = [*(one for one in above if one[0] < len(match[1])), (len(match[1]), match[2])]
            if match[3]:
                yield ".".join(key for _, key in above), match[3]


def choices(verb: str) -> dict[str, str]:
    """What a command chooses in each group where the user does not."""
    text = (home() / "conf" / f"{verb}.yaml").read_text(encoding="utf-8")
    return {group: "" if "$" in name else name for group, name in re.findall(r"^  - (\w+): (\S+)", text, re.MULTILINE)}


def options(group: str) -> list[str]:
    """Names that can be chosen in a group of conf/."""
    names = (file.stem for file in (home() / "conf" / group).glob("*.yaml"))
    return sorted(name for name in names if not name.startswith(("_", "default_")))


def shown(value: Any) -> str:
    """A default as it is typed; long ones are cut."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(shown(one) for one in value)}]"
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    text = str(value)
    return text if len(text) <= 28 else f"{text[:25]}..."


def columns() -> int:
    """The width of the terminal, as far as a page uses it."""
    return min(WIDTH, max(60, shutil.get_terminal_size((WIDTH, 24)).columns))


def row(left: str, text: str, width: int, indent: int = INDENT) -> list[str]:
    """Two columns; what is too long goes on below its own column."""
    head = f"  {left}"
    body = wrap(text, width - indent) or [""]
    if len(head) >= indent:
        return [head, *(" " * indent + line for line in body if line)]
    return [f"{head:{indent}}{body[0]}".rstrip(), *(" " * indent + line for line in body[1:])]


def chain(rows: Iterator[list[str]]) -> Iterator[str]:
    for lines in rows:
        yield from lines


# --- lists ---------------------------------------------------------------------------------------


def listing(what: str) -> str:
    """``vsrbench list WHAT``: names with one line each. Raises ConfigError for something else."""
    makers = {
        "methods": lambda: headed("method"),
        "data": lambda: headed("data"),
        "protocols": lambda: headed("protocol"),
        "experiments": experiment_names,
        "metrics": metric_lines,
    }
    if what not in makers:
        raise ConfigError(f"list needs one of {', '.join(makers)}, for instance `vsrbench list methods`")
    return "\n".join(chain(row(name, text, columns(), 24) for name, text in makers[what]()))


def headed(group: str) -> list[tuple[str, str]]:
    """Choices of a group with the first comment of their files."""
    return [(name, first_comment(home() / "conf" / group / f"{name}.yaml")) for name in options(group)]


def first_comment(file: Path) -> str:
    """The first sentence of a file's leading comment."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    text = " ".join(lines)
    abbreviated = re.sub(r"\b(al|Sec|Supp|Fig|Eq|cf)\. ", r"\1.\0", text)  # these end no sentence
    return re.split(r"\.(?: |$)|; ", abbreviated, maxsplit=1)[0].replace("\0", " ")


def experiment_names() -> list[tuple[str, str]]:
    """Every file below experiments/ that can be chosen, with its first comment."""
    root = home() / "conf" / "experiments"
    files = sorted(file for file in root.rglob("*.yaml") if not file.name.startswith("_"))
    return [(str(file.relative_to(root).with_suffix("")), first_comment(file)) for file in files]


def metric_lines() -> list[tuple[str, str]]:
    """Every metric with what it is a value of and which way is better."""
    from vsrbench.metrics.catalog import METRICS

    return [
        (
            name,
            f"per {metric.kind}, {metric.better} is better, in {metric.unit}"
            + ("" if metric.reference else ", needs no ground truth"),
        )
        for name, metric in METRICS.items()
    ]
