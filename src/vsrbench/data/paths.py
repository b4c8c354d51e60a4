"""Random camera paths over photographs, for training samples and for clips of a user's photographs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vsrbench.data.photos import Album
from vsrbench.data.renderer import Motion, Scene, Thing
from vsrbench.errors import ConfigError, DataError


@dataclass(frozen=True)
class Paths:
    """Ranges that random camera paths are drawn from (``data.motion``).

    shift: largest displacement in HR pixels per frame; zoom: photograph pixels per HR pixel; growth: largest
    relative change of zoom per frame; tilt: largest angle, degrees; spin: degrees per frame; things: share of
    clips in which an object passes.
    """

    shift: float = 8.0
    zoom: tuple[float, float] = (1.0, 1.5)
    growth: float = 0.01
    tilt: float = 5.0
    spin: float = 0.5
    things: float = 0.3

    @classmethod
    def of(cls, settings: Mapping | None) -> "Paths":
        """Raises ConfigError for an unknown key or an impossible range."""
        try:
            values: dict[str, Any] = {str(k): tuple(v) if k == "zoom" else v for k, v in (settings or {}).items()}
            paths = cls(**values)
        except TypeError as error:
            raise ConfigError(f"data.motion has the keys {', '.join(cls.__dataclass_fields__)}: {error}") from error
        for key, value in vars(paths).items():
            numbers = value if key == "zoom" else (value,)
            if not all(type(n) in (int, float) and n >= 0 for n in numbers):
                raise ConfigError(f"data.motion.{key}={value}: give numbers from 0")
        if len(paths.zoom) != 2 or not 0 < paths.zoom[0] <= paths.zoom[1]:
            raise ConfigError(f"data.motion.zoom={list(paths.zoom)}: give two rising numbers above 0")
        return paths


def random_scene(
    photos: Album, number: int, size: tuple[int, int], times: Sequence[float], paths: Paths, rng: np.random.Generator
) -> Scene:
    """A camera path over photograph ``number`` for frames of ``size`` (H,W) that stays inside at all ``times``.

    Where the photograph is too small for the drawn path, the path is made slower and the zoom smaller.
    Raises DataError where even a resting camera at the smallest zoom does not fit.
    """
    photo = photos[number]
    turn = rng.uniform(0, 2 * math.pi)
    speed = paths.shift * rng.uniform(0, 1)
    zoom = rng.uniform(*paths.zoom)
    growth, tilt, spin = rng.uniform(-1, 1, 3) * (paths.growth, paths.tilt, paths.spin)
    place = rng.uniform(0, 1, 2)
    thing = _random_thing(photos, size, times, paths, rng) if rng.random() < paths.things else (None, None)
    for strength in (1.0, 0.7, 0.4, 0.2, 0.0):
        small = paths.zoom[0] + strength * (zoom - paths.zoom[0])
        camera = Motion(
            start=(0.0, 0.0),
            velocity=(strength * small * speed * math.cos(turn), strength * small * speed * math.sin(turn)),
            zoom=small,
            growth=1 + strength * growth,
            angle=strength * tilt,
            spin=strength * spin,
        )
        low, high = allowed_start(camera, photo.shape[:2], size, times)
        if (low <= high).all():
            start = low + place * (high - low)
            return Scene(photo, replace(camera, start=(float(start[0]), float(start[1]))), *thing)
    raise DataError(
        f"{photos.files[number]} has {photo.shape[1]}x{photo.shape[0]} pixels, too few for frames of "
        f"{size[1]}x{size[0]} at zoom {paths.zoom[0]}: use smaller crops (train.crop), a smaller data.motion.zoom "
        "or larger photographs"
    )


def allowed_start(
    camera: Motion, photo: tuple[int, ...], size: tuple[int, int], times: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest start (x,y) for which every frame stays inside the photograph (H,W)."""
    half = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    low, high = np.zeros(2), np.array([photo[1], photo[0]]) - 1.0
    lows, highs = [], []
    for time in times:
        reach = np.abs(camera.matrix(time)) @ half
        offset = camera.position(time) - np.asarray(camera.start)
        lows.append(low + reach - offset)
        highs.append(high - reach - offset)
    return np.max(lows, axis=0), np.min(highs, axis=0)


def _random_thing(
    photos: Album, size: tuple[int, int], times: Sequence[float], paths: Paths, rng: np.random.Generator
) -> tuple[Thing, np.ndarray]:
    """A piece of a random photograph that is inside the frame in the middle of the clip."""
    source = photos[int(rng.integers(len(photos)))]
    width, height = size[1], size[0]
    radii = rng.uniform(0.12, 0.3, 2) * min(size)
    middle = (times[0] + times[-1]) / 2
    turn, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0, paths.shift)
    velocity = speed * np.array([math.cos(turn), math.sin(turn)])
    start = rng.uniform(0.15, 0.85, 2) * (width, height) - middle * velocity
    largest = np.array(source.shape[1::-1]) - 1.0
    margin = np.minimum(radii.max() * paths.zoom[0], largest / 2)
    texture = margin + rng.uniform(0, 1, 2) * (largest - 2 * margin)
    motion = Motion(
        start=(start[0], start[1]),
        velocity=(velocity[0], velocity[1]),
        zoom=paths.zoom[0],
        angle=rng.uniform(-30, 30),
        spin=rng.uniform(-1, 1) * paths.spin,
    )
    return Thing(motion, (radii[0], radii[1]), (texture[0], texture[1])), source
