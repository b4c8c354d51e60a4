"""Whether stored tensors fit the network that their config describes: what one line of ``weights check`` holds."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vsrbench.weights.files import Header


@dataclass
class Fit:
    """One part of a folder or file.

    missing, unexpected, shapes: names that do not fit ("name stored for expected" for shapes). parameters: numbers
    stored. dtypes: {type: tensors}. notes: values worth knowing. warnings: values that are possible and most often
    a mistake. errors: what makes the part unusable.
    """

    part: str
    kind: str
    source: str = ""
    expected: int = 0
    matched: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    parameters: int = 0
    dtypes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.shapes or self.errors)


def compare(part: str, kind: str, source: str, own: Mapping[str, Any], stored: Mapping[str, Header]) -> Fit:
    """Judge stored headers against the tensors ``own`` that a network has, both under the same names."""
    shared = sorted(own.keys() & stored.keys())
    shapes = [
        f"{key} {stored[key].shape} for {tuple(own[key].shape)}"
        for key in shared
        if stored[key].shape != tuple(own[key].shape)
    ]
    return Fit(
        part,
        kind,
        source,
        expected=len(own),
        matched=len(shared) - len(shapes),
        missing=sorted(own.keys() - stored.keys()),
        unexpected=sorted(stored.keys() - own.keys()),
        shapes=shapes,
        parameters=sum(header.numbers for header in stored.values()),
        dtypes=dict(Counter(header.dtype for header in stored.values())),
    )
