"""From a split's settings to its clips: which data set looks where."""

from collections.abc import Mapping
from typing import Any

from vsrbench.data import folders, packed, rendered, trees
from vsrbench.data.catalog import Catalog, Settings
from vsrbench.errors import ConfigError


def find(settings: Settings, split: Mapping[str, Any] | None) -> Catalog:
    """The clips of a split: {partition, clips: first so many or null, frames: first so many or null}.

    A clip that ``frames`` cuts counts as short. Raises DataError where the data are absent or broken, ConfigError
    for an unknown set.
    """
    finders = {
        "sample": rendered.sample,
        "photos": rendered.photos,
        "folder": folders.folder,
        "video": folders.video,
        **dict.fromkeys(trees.SETS, trees.tree),
    }
    if split is None:
        return Catalog()
    if settings.set not in finders:
        raise ConfigError(f"data.set={settings.set}: use one of {', '.join(sorted(finders))}")
    packed.refuse_as_root(settings.root)
    finder = packed.clips if settings.packed else finders[settings.set]
    catalog = finder(settings, split.get("partition"), split.get("clips"))
    return _limited(catalog, split.get("frames"))


def _limited(catalog: Catalog, frames: int | None) -> Catalog:
    if frames is None:
        return catalog
    if frames < 1:
        raise ConfigError(f"a split's frames={frames}: give a number from 1, or null for all")
    for source in catalog.sources:
        if source.frames > frames:
            full = catalog.short.get(source.name, [0, source.frames])[1]
            catalog.short[source.name] = [frames, full]
    catalog.sources = [s.first(frames) for s in catalog.sources]
    return catalog
