"""Clips over photographs: those of ``data=sample`` and those over a user's folder."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vsrbench.data.catalog import Catalog, Settings
from vsrbench.data.paths import Paths, random_scene
from vsrbench.data.photos import Album, RenderedSource, SceneFile, Scenery, album
from vsrbench.data.renderer import Motion, Scene, Thing
from vsrbench.data.sampling import generator
from vsrbench.data.trees import load_list
from vsrbench.errors import DataError

PHOTO_FRAMES = 8  # ours: frames of a clip over a user's photograph, enough for a stable mean of consistency


def frame_names(frames: int) -> list[str]:
    return [f"{n:08d}" for n in range(frames)]


def sample(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    """The clips or training photographs that ``lists/sample.yaml`` describes, inside scikit-image's wheel."""
    book = load_list("sample")
    if not isinstance(partition, str) or partition not in book:
        raise DataError(f"data=sample has no partition {partition!r}: it has {', '.join(book)}")
    entry = book[partition]
    if "photos" in entry:
        return Catalog(photos=Album([wheel_photo(name) for name in entry["photos"]]), unit="clips")
    clips = dict(list(entry["clips"].items())[:limit])
    return Catalog([_stored(settings, name, spec, entry["frames"]) for name, spec in clips.items()])


def wheel_photo(name: str) -> str:
    """Path of a photograph inside the installed scikit-image. Raises DataError where it is not there."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError("data=sample takes its photographs from scikit-image: pip install scikit-image")
    path = Path(spec.origin).parent / "data" / name
    if not path.is_file():
        raise DataError(f"the installed scikit-image has no photograph {path}: pip install 'scikit-image>=0.24'")
    return str(path)


def _stored(settings: Settings, name: str, spec: Mapping[str, Any], frames: int) -> RenderedSource:
    scene = SceneFile(wheel_photo(spec["photo"]), _motion(spec["camera"]))
    thing = spec.get("thing")
    if thing is not None:
        piece = Thing(_motion(thing["motion"]), tuple(thing["radii"]), tuple(thing["texture"]))
        scene = replace(scene, thing=piece, thing_photo=wheel_photo(thing["photo"]))
    return _source(settings, name, frames, scene)


def _motion(spec: Mapping[str, Any]) -> Motion:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}
    return Motion(**values)


def _source(settings: Settings, name: str, frames: int, scene: Scenery) -> RenderedSource:
    pairing = settings.pairing
    return RenderedSource(name, frame_names(frames), settings.frame_size, pairing.scale, pairing.degradation, scene)


def photos(settings: Settings, partition: Any, limit: int | None) -> Catalog:
    """Photographs of ``root`` (partition ".") for training, or one clip per photograph of a subfolder.

    The camera path of a clip is drawn once and for all from the photograph's name.
    """
    root = Path(settings.folder)
    if partition == ".":
        return Catalog(photos=album(root), unit="clips")
    if not (root / str(partition)).is_dir():
        raise DataError(
            f"no folder {root / str(partition)}: put photographs there, or set data.splits.val=null to do without"
        )
    pictures = album(root / str(partition))
    paths = Paths.of(settings.motion)
    scenes = [DrawnScene(pictures, n, settings.frame_size, paths) for n in range(len(pictures))][:limit]
    return Catalog([_source(settings, s.name, PHOTO_FRAMES, s) for s in scenes])


@dataclass(frozen=True)
class DrawnScene:
    """A random camera path that depends on the photograph's name alone."""

    pictures: Album
    number: int
    size: tuple[int, int]
    paths: Paths

    @property
    def name(self) -> str:
        return self.pictures.stem(self.number)

    def open(self) -> Scene:
        rng = generator("photos", self.name)
        return random_scene(self.pictures, self.number, self.size, range(PHOTO_FRAMES), self.paths, rng)
