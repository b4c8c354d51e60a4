"""From a split's settings to its clips: which data set looks where."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsrbench.data import folders, packed, trees
from vsrbench.data.catalog import Catalog, Settings, whole
from vsrbench.errors import ConfigError


def find(settings: Settings, split: Mapping[str, Any] | None) -> Catalog:
    """The clips of a split: {partition, clips: first so many or null, frames: first so many or null}.

    A clip that ``frames`` cuts counts as short. Raises DataError where the data are absent or broken, ConfigError
    for an unknown set and for a split of another form.
    """
    finders = {
        **dict.fromkeys(("sample", "photos"), _rendered),
        "folder": folders.folder,
        "video": folders.video,
        **dict.fromkeys(trees.SETS, trees.tree),
    }
    if split is None:
        return Catalog()
    partition, clips, frames = _checked(settings, split)
    if settings.set not in finders:
        raise ConfigError(f"data.set={settings.set}: use one of {', '.join(sorted(finders))}")
    packed.refuse_as_root(settings.root)
    finder = packed.clips if settings.packed else finders[settings.set]
    return _limited(finder(settings, partition, clips), frames)


def _rendered(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    from vsrbench.data import rendered  # and torch, which the others do without until frames are read

    finder = rendered.sample if settings.set == "sample" else rendered.photos
    return finder(settings, partition, limit)


def clip_names(settings: Settings, split: Mapping[str, Any] | None) -> list[str]:
    """The clips that a split means, by name; those of a published set whether they are there or not."""
    if split is None:
        return []
    if settings.set not in trees.SETS:
        return [source.name for source in find(settings, split).sources]
    partition, clips, _ = _checked(settings, split)
    root = Path(settings.packed or settings.folder)
    names, _ = trees.partition_names(settings.set, trees.load_list(settings.set), partition, root)
    return names[:clips]


def _checked(settings: Settings, split: Mapping[str, Any]) -> tuple[Any, int | None, int | None]:
    """Partition, clips and frames of a split. Raises ConfigError for another form."""
    if not isinstance(split, Mapping):
        raise ConfigError(f"a split of data={settings.set} is {{partition, clips, frames}} or null, not {split}")
    partition, clips, frames = (split.get(key) for key in ("partition", "clips", "frames"))
    whole(clips, "a split's clips")
    whole(frames, "a split's frames")
    if isinstance(partition, Mapping):
        raise ConfigError(f"a split's partition={partition}: give a name or a list of names")
    if isinstance(partition, int | float):
        partition = str(partition)  # the name of a clip may be a number
    return partition, clips, frames


def _limited(catalog: Catalog, frames: int | None) -> Catalog:
    if frames is None:
        return catalog
    for source in catalog.sources:
        if source.frames > frames:
            full = catalog.short.get(source.name, [0, source.frames])[1]
            catalog.short[source.name] = [frames, full]
    catalog.sources = [s.first(frames) for s in catalog.sources]
    return catalog
