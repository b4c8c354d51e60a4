"""Holding a composed configuration, and the words of a command, against what the command reads."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_origin

import yaml
from pydantic import ValidationError

from vsrbench.annotations import check_value
from vsrbench.errors import ConfigError
from vsrbench.schema import messages
from vsrbench.schema.sections import Section
from vsrbench.schema.verbs import VERBS, extra, readers, section

# Groups of conf/ that are called otherwise than the settings that they hold.
HELD = {
    "size": "method", "training": "module", "costs": "counts",
    "variant": "method", "recipe": "train", "debug": "trainer", "protocol": "protocols",
    "experiments": "command",
}  # fmt: skip
HYDRA = ("hydra", "sweeper")
HEADER = "# @package _global_"
RENAMED = {  # settings that were called otherwise once: an old spelling is answered with the new one
    "trainer.gradient_clip": "trainer.gradient_clip_val",
    "trainer.log_every": "trainer.log_every_n_steps",
    "trainer.compile": "compile",
    "trainer.checkpointing": "gradient_checkpointing",
    "logger.project": "logger.wandb.project",
    "logger.entity": "logger.wandb.entity",
    "logger.group": "logger.wandb.group",
    "logger.checkpoint": "logger.wandb.checkpoint",
}


def check_renamed(argument: str) -> None:
    """Raise ConfigError for a setting, ``key`` or ``key=value``, under the name that it once had."""
    key, equals, value = argument.lstrip("+").partition("=")
    if key in RENAMED:
        new = RENAMED[key]
        raise ConfigError(f"{key} is now {new}" + (f": write {new}={value}" if equals else ""))


def check_arguments(arguments: Sequence[str], verb: str, conf: Path) -> None:
    """Raise ConfigError for a setting or a group that the command does not read, and for an old spelling."""
    fields = VERBS[verb].model_fields
    for argument in arguments:
        if argument.startswith("-") or not (key := argument.lstrip("+~").partition("=")[0]):
            continue
        check_renamed(argument)
        top = re.split(r"[./@]", key)[0]
        group = HELD.get(key, key) if (conf / key).is_dir() else top
        if top in HYDRA or (group in fields and _has(VERBS[verb], key)):
            continue
        others = readers(group) if group not in fields else [v for v in readers(group) if _has(VERBS[v], key)]
        if others:
            known = f"{' and '.join(others)} {'do' if others[1:] else 'does'}"
            raise ConfigError(f"{key}: {verb} does not read it; {known}")


def _has(model: type[Section], key: str) -> bool:
    """True unless the key names a setting that a group of plain settings does not have."""
    top, _, rest = key.partition(".")
    field = model.model_fields.get(top)
    if field is None:
        return True
    inner = section(field.annotation)
    return (
        not rest
        or inner is None
        or get_origin(field.annotation) is not None
        or rest.partition(".")[0] in inner.model_fields
    )


def check_files(settings: Mapping[str, Any], conf: Path) -> None:
    """Raise ConfigError where a file of conf/method or conf/training hides what it says of a method, and name it.

    Without its first line a file's settings stand below the name of its folder; without ``method.name`` nothing can
    say which method it is.
    """
    method = settings.get("method")
    whole = isinstance(method, Mapping) and {"name", "_target_"} <= set(method)
    if "method" not in settings or (whole and "training" not in settings):
        return
    for file in sorted([*(conf / "method").glob("*.yaml"), *(conf / "training").glob("*.yaml")]):
        text, place = file.read_text(encoding="utf-8"), f"conf/{file.parent.name}/{file.name}"
        if HEADER not in text.splitlines():
            raise ConfigError(f"{place} has no line `{HEADER}`: write it first, or its settings end up elsewhere")
        stated = (yaml.safe_load(text) or {}).get("method") or {}
        for key in ("name", "_target_"):
            if file.parent.name == "method" and key not in stated:
                value = file.stem if key == "name" else "the class derived from Method"
                raise ConfigError(f"{place} has no method.{key}: write `{key}: {value}` below `method:`")
    if not whole:
        raise ConfigError("the file of this method has no method.name or method._target_: see CONTRIBUTING.md")


def check(settings: dict[str, Any], verb: str) -> None:
    """Raise ConfigError for a setting that does not exist, and for a value of another kind or out of its bounds."""
    _check_nodes(settings, VERBS[verb])
    try:
        VERBS[verb].model_validate(settings)
    except ValidationError as error:
        unknown = [one for one in error.errors(include_url=False) if one["type"] == "extra_forbidden"]
        _refuse((unknown or error.errors(include_url=False))[0]["loc"], settings, VERBS[verb])
        raise


def _refuse(place: tuple[int | str, ...], settings: dict[str, Any], model: type[Section]) -> None:
    """Raise the ConfigError for the setting at a place that pydantic names."""
    path, value = "", settings
    for step in place:
        field = model.model_fields.get(str(step))
        if field is None:
            if path and value.get("kind") == step and isinstance(value, dict):  # pydantic's name of a launcher
                continue
            raise ConfigError(messages.no_setting(f"{path}.{step}".lstrip("."), list(model.model_fields), path))
        path = f"{path}.{step}".lstrip(".")
        if step not in value:
            raise ConfigError(f"the setting {path!r} has no value: add {path}=... to the command")
        value = value[str(step)]
        inner = section(field.annotation, value)
        if inner is not None and not isinstance(value, dict):
            _refuse_group(path, value, inner)
        if inner is None:
            kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            check_value(path, value, kind)
            return
        model = inner


def _check_nodes(settings: dict[str, Any], model: type[Section]) -> None:
    """What holds of a node whatever its target says: bounds of our own, names that are elsewhere now."""
    for name, field in model.model_fields.items():
        value = settings.get(name)
        if "node" not in extra(field) or not isinstance(value, dict):
            continue
        for key, inner in value.items():
            check_renamed(f"{name}.{key}")
            if moved := messages.of_training(f"{name}.{key}", settings):
                raise ConfigError(f"there is no setting {name}.{key}: {moved}")
            if key in extra(field)["kinds"]:
                check_value(f"{name}.{key}", inner, extra(field)["kinds"][key])


def check_groups(settings: dict[str, Any], verb: str) -> None:
    """Raise ConfigError for a value where a group of settings belongs; others may be interpolations still."""
    for name, field in VERBS[verb].model_fields.items():
        inner, value = section(field.annotation), settings.get(name)
        if inner is not None and isinstance(value, str | int | float | list) and not str(value).startswith("${"):
            _refuse_group(name, value, inner)


def _refuse_group(path: str, value: Any, model: type[Section]) -> None:
    names = ", ".join(f"{path}.{name}" for name in model.model_fields)
    raise ConfigError(f"{path}={'null' if value is None else value}: {path} is a group, set one of {names}")


def prune(settings: Any, verb: str) -> None:
    """Take out of a configuration what the command does not read: settings that files hold for other commands."""
    from omegaconf import open_dict

    model = VERBS[verb]
    with open_dict(settings):
        for name in [str(name) for name in settings]:
            if name not in model.model_fields and readers(name):
                del settings[name]
            elif name in model.model_fields and (inner := section(model.model_fields[name].annotation)):
                others = {key for v in readers(name) for key in _settings(VERBS[v], name)}
                for key in others - set(inner.model_fields):
                    if isinstance(settings[name], Mapping):
                        settings[name].pop(key, None)


def _settings(model: type[Section], name: str) -> set[str]:
    inner = section(model.model_fields[name].annotation)
    return set(inner.model_fields) if inner else set()


def nodes(settings: dict[str, Any], verb: str) -> dict[str, dict[str, Any]]:
    """The nodes of a configuration whose ``_target_`` says what they take, by their place."""
    result = {}
    for name, field in VERBS[verb].model_fields.items():
        kind, value = extra(field).get("node"), settings.get(name)
        if kind == "one" and isinstance(value, dict):
            result[name] = _given(value, field)
        elif kind == "many" and isinstance(value, dict):
            result |= {f"{name}.{key}": _given(one, field) for key, one in value.items() if isinstance(one, dict)}
    return result


def _given(node: dict[str, Any], field: Any) -> dict[str, Any]:
    return {k: v for k, v in node.items() if v is not None} if extra(field)["default_for_null"] else node
