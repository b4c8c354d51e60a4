"""Clips with exact flow: a camera moves over a photograph, an object may pass in front of it.

A frame is made of layers. A layer maps frame coordinates (HR pixels, 0 at the first pixel's centre, x first)
to coordinates of its photograph by a similarity; the object's layer has an elliptic mask. The flow between two
frames is one map after the inverse of the other, without approximation. Where a layer is reduced, its
photograph is low-passed first, by an amount that follows the zoom continuously, so nothing aliases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vsrbench.errors import DataError

BORDER = 4  # photograph pixels beyond a frame that interpolation and low-pass may touch


@dataclass(frozen=True)
class Motion:
    """A similarity that changes with time: where a layer's centre is, how large and how turned.

    start: position at time 0; velocity: per frame. For the camera in photograph pixels, for an object in HR
    pixels of the frame. zoom: photograph pixels per HR pixel (above 1: the photograph appears reduced);
    growth: factor on zoom per frame. angle, spin: degrees, degrees per frame. sway: amplitude of a sinusoidal
    hand movement added to the position; period: its length in frames.
    """

    start: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    growth: float = 1.0
    angle: float = 0.0
    spin: float = 0.0
    sway: float = 0.0
    period: float = 8.0

    def position(self, time: float) -> np.ndarray:
        phase = 2 * math.pi * time / self.period
        sway = self.sway * np.array([math.sin(phase), math.sin(0.7 * phase + 1.0) - math.sin(1.0)])
        return np.asarray(self.start) + time * np.asarray(self.velocity) + sway

    def scale(self, time: float) -> float:
        return self.zoom * self.growth**time

    def matrix(self, time: float) -> np.ndarray:
        """Rotation by the angle at ``time`` times the zoom, (2,2)."""
        turn = math.radians(self.angle + self.spin * time)
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        return self.scale(time) * rotation


@dataclass(frozen=True)
class Thing:
    """An elliptic piece of a photograph that moves in front of the camera.

    motion: in HR pixels of the frame; radii: half axes in HR pixels at zoom 1; texture: centre of the piece
    in its photograph.
    """

    motion: Motion
    radii: tuple[float, float]
    texture: tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """A camera path over ``photo`` (H,W,3 uint8), and perhaps a thing cut out of ``thing_photo``."""

    photo: np.ndarray
    camera: Motion
    thing: Thing | None = None
    thing_photo: np.ndarray | None = None


@dataclass(frozen=True)
class Rendering:
    """hr uint8 (T,3,H,W); flows float32 (T-1,2,h,w) in LR pixels; occlusion bool (T-1,2,h,w), as in Clip."""

    hr: Tensor
    flow_forward: Tensor
    flow_backward: Tensor
    occlusion: Tensor


class Layer:
    """One layer at one time: ``photo = matrix @ frame + offset`` in float64."""

    def __init__(self, matrix: np.ndarray, offset: np.ndarray) -> None:
        self.matrix, self.offset = matrix, offset

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Frame coordinates (...,2) to photograph coordinates."""
        return points @ self.matrix.T + self.offset

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        return (points - self.offset) @ np.linalg.inv(self.matrix).T


def camera_layer(camera: Motion, time: float, size: tuple[int, int]) -> Layer:
    """The photograph as the camera sees it; ``size`` (H,W): the frame's centre looks at the camera's position."""
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    matrix = camera.matrix(time)
    return Layer(matrix, camera.position(time) - matrix @ middle)


def thing_layer(thing: Thing, time: float) -> Layer:
    matrix = thing.motion.matrix(time)
    return Layer(matrix, np.asarray(thing.texture) - matrix @ thing.motion.position(time))


def grid(size: tuple[int, int], step: float = 1.0) -> np.ndarray:
    """Centres of a grid of ``size`` cells whose cells are ``step`` HR pixels wide, in HR coordinates, (h,w,2)."""
    y, x = np.meshgrid(*[(np.arange(n) + 0.5) * step - 0.5 for n in size], indexing="ij")
    return np.stack([x, y], axis=-1)


def render(scene: Scene, times: Sequence[float], size: tuple[int, int], scale: int) -> Rendering:
    """Frames of ``size`` (H,W; multiples of ``scale``) at ``times``, with flow and occlusion on the LR grid.

    Raises DataError where the camera's path leaves the photograph.
    """
    frames, pieces = [], []
    points = grid(size)
    small = grid((size[0] // scale, size[1] // scale), scale)
    for time in times:
        layers = [camera_layer(scene.camera, time, size)]
        frame = sample(scene.photo, layers[0].to_photo(points), scene.camera.scale(time))
        if scene.thing is not None and scene.thing_photo is not None:
            layers.append(thing_layer(scene.thing, time))
            frame = _covered(frame, scene, layers[1], points, time)
        frames.append(frame)
        pieces.append(layers)
    hr = torch.stack(frames).clamp(0, 255).add(0.5).floor().to(torch.uint8)
    steps = [_motion_between(scene, a, b, small, scale, size) for a, b in zip(pieces, pieces[1:], strict=False)]
    if not steps:
        empty = torch.zeros(0, 2, *small.shape[:2])
        return Rendering(hr, empty, empty, empty.bool())
    forward, backward, occlusion = (torch.stack(part) for part in zip(*steps, strict=True))
    return Rendering(hr, forward, backward, occlusion)


def sample(photo: np.ndarray, points: np.ndarray, zoom: float, hold: bool = False) -> Tensor:
    """Values (3,H,W), 0..255, of a photograph at ``points`` (H,W,2) that lie ``zoom`` photograph pixels apart.

    hold: points outside take the border's value instead of raising DataError (corners that a mask hides).
    """
    if hold:
        points = np.clip(points, 0, np.array(photo.shape[1::-1]) - 1.0)
    corners = points[[0, 0, -1, -1], [0, -1, 0, -1]]  # the map is affine: they span the rest
    low = np.floor(corners.min(0)).astype(int) - BORDER
    high = np.ceil(corners.max(0)).astype(int) + BORDER + 1
    if (low < -BORDER).any() or (high > np.array(photo.shape[1::-1]) + BORDER).any():
        raise DataError(
            f"the camera leaves its photograph of {photo.shape[1]}x{photo.shape[0]} pixels: it needs "
            f"x {low[0] + BORDER}..{high[0] - BORDER}, y {low[1] + BORDER}..{high[1] - BORDER}; "
            "use smaller frames, a slower path or a larger photograph"
        )
    low, high = np.maximum(low, 0), np.minimum(high, photo.shape[1::-1])
    region: np.ndarray = photo[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    if zoom > 1:
        # ours: a Gaussian of 0.5 sqrt(zoom^2 - 1) pixels: none at zoom 1, then growing without a jump, so that
        # a moving zoom does not flicker; with the pixels' own blur it comes to about half a sample.
        region = cv2.GaussianBlur(region, (0, 0), 0.5 * math.sqrt(zoom * zoom - 1) + 1e-3)
    size = np.array(region.shape[1::-1])
    where = torch.from_numpy(((2 * (points - low) + 1) / size - 1).astype(np.float32))
    image = torch.from_numpy(region).permute(2, 0, 1)
    return F.grid_sample(image[None], where[None], mode="bicubic", padding_mode="reflection", align_corners=False)[0]


def _distance(thing: Thing, layer: Layer, points: np.ndarray) -> np.ndarray:
    """Distance of frame points to the thing's outline in HR pixels, negative inside (first order)."""
    inner = layer.to_photo(points) - np.asarray(thing.texture)
    a, b = np.asarray(thing.radii) * thing.motion.zoom
    x, y = inner[..., 0] / a, inner[..., 1] / b
    level = np.hypot(x, y)
    slope = np.hypot(x / a, y / b) / np.maximum(level, 1e-6)
    size = math.sqrt(abs(np.linalg.det(layer.matrix)))
    return (level - 1) / np.maximum(slope, 1e-6) / size


def _covered(frame: Tensor, scene: Scene, layer: Layer, points: np.ndarray, time: float) -> Tensor:
    """Lay the thing over a frame; its outline is one pixel wide, as an ideal camera's would be."""
    assert scene.thing is not None and scene.thing_photo is not None
    cover = np.clip(0.5 - _distance(scene.thing, layer, points), 0, 1)
    rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    if rows.size == 0:
        return frame
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    texture = sample(scene.thing_photo, layer.to_photo(points[box]), scene.thing.motion.scale(time), hold=True)
    alpha = torch.from_numpy(cover[box].astype(np.float32))
    frame[(slice(None), *box)] = torch.lerp(frame[(slice(None), *box)], texture, alpha)
    return frame


def _motion_between(
    scene: Scene, now: list[Layer], then: list[Layer], points: np.ndarray, scale: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Flow now→then, flow then→now (2,h,w) in LR pixels, and both occlusions (2,h,w)."""
    forward, hidden_then = _one_way(scene, now, then, points, scale, size)
    backward, hidden_now = _one_way(scene, then, now, points, scale, size)
    occlusion = torch.from_numpy(np.stack([hidden_then, hidden_now]))
    flows = [torch.from_numpy(f.astype(np.float32)).permute(2, 0, 1) for f in (forward, backward)]
    return flows[0], flows[1], occlusion


def _one_way(
    scene: Scene, now: list[Layer], then: list[Layer], points: np.ndarray, scale: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where LR pixels of one time go (displacement in LR pixels), and which the other time does not show.

    ours: a pixel counts as shown where its whole footprint is: pixels that the thing's outline cuts, in the
    one frame or in the other, are marked, for they mix two motions.
    """
    target = then[0].to_frame(now[0].to_photo(points))
    hidden = np.zeros(points.shape[:2], dtype=bool)
    if scene.thing is not None:
        reach = scale * math.sqrt(0.5)  # half the diagonal of an LR pixel
        before = _distance(scene.thing, now[1], points)
        after = _distance(scene.thing, then[1], target)
        hidden = np.where(before < 0, before > -reach, (before < reach) | (after < reach))
        moved = then[1].to_frame(now[1].to_photo(points))
        target = np.where((before < 0)[..., None], moved, target)
    low = 0.5 * scale - 0.5
    x, y = target[..., 0], target[..., 1]
    inside = (x > low - 1e-6) & (y > low - 1e-6) & (x < size[1] - 1 - low + 1e-6) & (y < size[0] - 1 - low + 1e-6)
    return (target - points) / scale, hidden | ~inside
