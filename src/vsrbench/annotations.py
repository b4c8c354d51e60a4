"""Checks of values against the annotations of Python signatures, in one line each.

``Literal["a", "b"]``, ``Annotated[int, Ge(1)]``, unions, lists. One place says which values a setting takes, for the
constructors of our classes, for their nodes in conf/ and for the schema of plain sections. Needs
neither torch nor Hydra.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from vsrbench.errors import ConfigError

BOUNDS = (Ge, Gt, Le, Lt)
P = typing.ParamSpec("P")


UNRESOLVED = (NameError, AttributeError, TypeError, SyntaxError)  # what an annotation as text may end in


def fits(value: Any, annotation: Any) -> bool:
    """True where the value has the annotated kind; annotations that are no plain kinds fit everything.

    A whole number is also a number, and a list is also a tuple, as in YAML; true and false are no numbers.
    """
    kind, bounds = _without_bounds(annotation)
    if _is_union(kind):
        return any(fits(value, Annotated[one, *bounds] if bounds else one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(kind))
    if kind is None or kind is type(None):
        return value is None
    if kind in (bool, str):
        return isinstance(value, kind)
    if kind in (int, float):
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return number and all(_within(value, bound) for bound in bounds)
    origin = get_origin(kind) or kind
    if origin in (list, tuple, set, Sequence):
        return _fits_items(value, get_args(kind), fixed=origin is tuple)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if isinstance(kind, type) and isinstance(value, bool | int | float | str):  # no stand-in for an object
        return isinstance(value, kind) or (isinstance(value, str) and issubclass(kind, PurePath | Enum))
    return True


def _fits_items(value: Any, kinds: tuple[Any, ...], fixed: bool) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if fixed and kinds and Ellipsis not in kinds:
        return len(value) == len(kinds) and all(fits(one, kind) for one, kind in zip(value, kinds, strict=True))
    return all(fits(one, kinds[0]) for one in value) if kinds else True


def _within(value: float, bound: Any) -> bool:
    if isinstance(bound, Ge):
        return bool(value >= bound.ge)  # type: ignore[operator]
    if isinstance(bound, Gt):
        return bool(value > bound.gt)  # type: ignore[operator]
    if isinstance(bound, Le):
        return bool(value <= bound.le)  # type: ignore[operator]
    return bool(value < bound.lt)  # type: ignore[operator]


def _without_bounds(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
        stated = [one for entry in metadata for one in (entry, *getattr(entry, "metadata", ()))]  # pydantic's Field
        return kind, tuple(one for one in stated if isinstance(one, BOUNDS))
    return annotation, ()


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def judges(annotation: Any) -> bool:
    """True where an annotation has choices or bounds of our own, beyond the kind of value."""
    kind, bounds = _without_bounds(annotation)
    if bounds or get_origin(kind) is Literal:
        return True
    return any(judges(one) for one in get_args(kind)) if _is_union(kind) else False


def _has_choices(annotation: Any) -> bool:
    kind, _ = _without_bounds(annotation)
    return get_origin(kind) is Literal or (_is_union(kind) and any(map(_has_choices, get_args(kind))))


def wanted(annotation: Any) -> str:
    """What a setting takes, in words: "a whole number from 1", "true or false", "fp32 or bf16"."""
    names = list(dict.fromkeys(_alternatives(annotation)))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}" if names else "another value"


def choices(annotation: Any) -> list[str]:
    """The words that a setting takes, as YAML writes them; none where it takes other values as well."""
    kind, _ = _without_bounds(annotation)
    if _is_union(kind):
        return [word for one in get_args(kind) for word in choices(one)]
    if get_origin(kind) is Literal:
        return [_yaml(one) for one in get_args(kind)]
    return {type(None): ["null"], bool: ["true", "false"]}.get(kind, [])


def _alternatives(annotation: Any, outer: tuple[Any, ...] = ()) -> Iterator[str]:
    kind, bounds = _without_bounds(annotation)
    bounds = (*outer, *bounds)
    if _is_union(kind):
        members = [one for one in get_args(kind) if one is not type(None)]
        if int in members and float in members:
            members.remove(int)
        for one in members:
            yield from _alternatives(one, bounds)
        if type(None) in get_args(kind):
            yield "null"
    elif get_origin(kind) is Literal:
        yield from map(_yaml, get_args(kind))
    elif kind is bool:
        yield from ("true", "false")
    elif kind in (int, float):
        yield f"{'a whole number' if kind is int else 'a number'}{_range(bounds)}"
    elif (get_origin(kind) or kind) in (list, tuple, set, Sequence):
        yield "a list"
    elif (get_origin(kind) or kind) in (dict, Mapping):
        yield "a group of settings"
    elif kind is str:
        yield "text"
    elif kind is type(None):
        yield "null"


def _range(bounds: tuple[Any, ...]) -> str:
    words = {Ge: "from", Gt: "above", Le: "to", Lt: "below"}
    values = {type(one): getattr(one, type(one).__name__.lower()) for one in bounds}
    return "".join(f" {words[kind]} {values[kind]:g}" for kind in BOUNDS if kind in values)


def _yaml(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def check_value(name: str, value: Any, annotation: Any) -> None:
    """Raise ConfigError naming the setting, its value and what it takes."""
    if not fits(value, annotation):
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        verb = "use" if _has_choices(annotation) else "give"
        hint = f", {name}=[{value}]" if wanted(annotation).startswith("a list") and not isinstance(value, list) else ""
        raise ConfigError(f"{name}={shown}: {verb} {wanted(annotation)}{hint}")


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a function's parameters, strings resolved; what cannot be resolved is left out."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except UNRESOLVED:  # a name that is only there for type checkers
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        hints: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            try:
                text = parameter.annotation
                hints[name] = eval(text, scope) if isinstance(text, str) else text
            except UNRESOLVED:
                continue
        return {name: kind for name, kind in hints.items() if kind is not inspect.Parameter.empty}


def check_fields(record: Any, group: str) -> None:
    """``check_arguments`` for a dataclass, called in its ``__post_init__``."""
    for name, annotation in typing.get_type_hints(type(record), include_extras=True).items():
        if judges(annotation):
            check_value(f"{group}.{name}", getattr(record, name), annotation)


def check_arguments(group: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorator of an ``__init__``: arguments that are annotated with choices or bounds are checked against them.

    group: name of the node in conf/, for the message: ``method.pick=left: use centre or corner``.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        signature = inspect.signature(init)

        @functools.wraps(init)
        def checked(*args: P.args, **kwargs: P.kwargs) -> None:
            hints = annotations_of(init)
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                if name in hints and judges(hints[name]):
                    check_value(f"{group}.{name}", value, hints[name])
            init(*args, **kwargs)

        return checked

    return decorate
