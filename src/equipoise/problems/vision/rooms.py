"""Rooms with boxes, balls and columns, rendered by casting a ray through every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
CLASSES = ("wall", "floor", "ceiling", "picture", "box", "ball", "column")
WALL, FLOOR, CEILING, PICTURE, BOX, BALL, COLUMN = range(len(CLASSES))
# Nothing is nearer to the camera, in metres.
NEAR = 0.2
# Cosine below which a ray grazes a surface, so that a sensor of depth learns nothing; and how often it fails.
GRAZING = 0.08
FAILURES = 0.02


class Room(NamedTuple):
    """A rendered room.

    Attributes:
        image: ``float32[H, W, 3]`` in [0, 1].
        classes: ``int8[H, W]``, of :data:`CLASSES`; -1 where there is no label.
        depth: ``float32[H, W]`` in metres along the axis of the camera; 0 where there is none.
        normals: ``float32[H, W, 3]`` in the camera's frame: right, down, ahead; zero where there is none.
    """

    image: Array
    classes: NDArray[np.int8]
    depth: Array
    normals: Array


class _View:
    """What the rays of an image, ``[3, P]`` of unit length, meet first so far, and the paint of all surfaces.

    In the room x points to the right, y down and z ahead.
    """

    def __init__(self, draw: np.random.Generator, height: int, width: int) -> None:
        self.draw = draw
        self.size = (height, width)
        self.extent = draw.uniform([2.5, 2.2, 3.0], [5.0, 3.2, 7.0])
        self.eye = self.extent * draw.uniform([0.3, 0.4, 0.08], [0.7, 0.6, 0.2])
        self.frame = _camera(draw)
        self.rays, self.forward = _rays(self.frame, height, width, draw.uniform(0.55, 0.9))
        self.distance = np.full(height * width, 1e6, np.float32)
        self.normals = np.zeros((3, height * width), np.float32)
        self.surface = np.zeros(height * width, np.int64)
        self.kinds: list[int] = []
        self.paints: list[Array] = []

    def painted(self, kind: int, paint: Array | None = None) -> int:
        """A new surface: its number."""
        self.kinds.append(kind)
        self.paints.append(_paint(self.draw) if paint is None else paint)
        return len(self.kinds) - 1

    def points(self) -> Array:
        """Where the rays end, ``[3, P]``."""
        found: Array = self.eye.astype(np.float32)[:, None] + self.distance * self.rays
        return found


def render(seed: int | Sequence[int], height: int, width: int) -> Room:
    """The room of a seed.

    Walls, things, colours, patterns, light, camera and noise are all drawn from it. Colours do not tell
    classes.
    """
    view = _View(np.random.default_rng(seed), height, width)
    _walls(view)
    for _ in range(view.draw.integers(3, 8)):
        _thing(view)
    image = _lit(view)
    draw, (height, width) = view.draw, view.size
    gone = np.abs((view.rays * view.normals).sum(0)) < GRAZING
    gone |= draw.random(gone.size, np.float32) < FAILURES
    depth = np.where(gone, np.float32(0), view.distance * view.forward)
    normals = np.where(gone, np.float32(0), view.frame @ view.normals)
    classes = np.array(view.kinds, np.int8)[view.surface].reshape(view.size)
    # A patch that nobody labelled.
    top, left = draw.integers(0, [height, width])
    classes[top : top + height // 6, left : left + width // 6] = -1
    return Room(
        np.ascontiguousarray(image.T).reshape(height, width, 3),
        classes,
        depth.reshape(view.size),
        np.ascontiguousarray(normals.T).reshape(height, width, 3),
    )


def _camera(draw: np.random.Generator) -> Array:
    """Axes of the camera in the room, one a row: right, down, ahead."""
    turn, tilt, roll = draw.normal(0, [0.35, 0.12, 0.04])
    ahead = np.array([np.sin(turn) * np.cos(tilt), np.sin(tilt), np.cos(turn) * np.cos(tilt)])
    right = np.cross([0.0, 1.0, 0.0], ahead)
    right /= np.linalg.norm(right)
    down = np.cross(ahead, right)
    cos, sin = np.cos(roll), np.sin(roll)
    return np.stack([cos * right + sin * down, cos * down - sin * right, ahead]).astype(np.float32)


def _rays(frame: Array, height: int, width: int, reach: float) -> tuple[Array, Array]:
    """Directions of unit length, ``[3, P]``, and their share along the axis of the camera, ``[P]``.

    Pixels are square; ``reach`` is the tangent of half the angle of view.
    """
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * reach
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * reach * height / width
    grid = np.ones((3, height, width), np.float32)
    grid[0], grid[1] = x, y[:, None]
    flat = grid.reshape(3, -1)
    along = 1 / np.sqrt(np.square(flat).sum(0))
    return (frame.T @ flat) * along, along


def _paint(draw: np.random.Generator) -> Array:
    """Two colours, the size of a pattern (0: none), its place, and which one it is."""
    first = draw.uniform(0.15, 0.95, 3)
    other = np.clip(first + draw.normal(0, 0.25, 3), 0.05, 1)
    size = draw.uniform(0.15, 0.7) if draw.random() < 0.6 else 0.0
    parts = [*first, *other, size, *draw.uniform(0, 6, 2), draw.integers(0, 3)]
    return np.array(parts, np.float32)


def _walls(view: _View) -> None:
    """The room from inside: the nearest of the planes ahead."""
    rays, eye = view.rays, view.eye.astype(np.float32)[:, None]
    extent = view.extent.astype(np.float32)[:, None]
    up = rays > 0
    ahead = (np.where(up, extent, 0) - eye) / np.where(rays == 0, np.float32(1e-9), rays)
    axis = ahead.argmin(0)
    pixels = np.arange(len(axis))
    side = up[axis, pixels]
    view.distance = ahead[axis, pixels]
    view.normals[axis, pixels] = 1 - 2 * side
    view.surface = axis + 3 * side
    paints = [_paint(view.draw) for _ in range(6)]
    # Walls of a room mostly have one colour.
    if view.draw.random() < 0.7:
        paints[2] = paints[3] = paints[5] = paints[0]
    for kind, paint in zip((WALL, CEILING, WALL, WALL, FLOOR, WALL), paints, strict=True):
        view.painted(kind, paint)
    at = view.points()
    for _ in range(view.draw.integers(0, 4)):
        _picture(view, at)


def _picture(view: _View, at: Array) -> None:
    """A flat patch on one of the walls."""
    wall = int(view.draw.choice([0, 3, 5, 5]))
    across = 2 if wall in (0, 3) else 0
    size = view.draw.uniform([0.4, 0.3], [1.3, 0.9])
    corner = view.draw.uniform([0.0, 0.3], [max(view.extent[across] - size[0], 0.1), 1.0])
    inside = view.surface == wall
    for axis, low, span in zip((across, 1), corner, size, strict=True):
        inside &= (at[axis] > low) & (at[axis] < low + span)
    view.surface[inside] = view.painted(PICTURE)


def _thing(view: _View) -> None:
    """A box, a ball or a column, not around the camera."""
    draw = view.draw
    kind = int(draw.choice([BOX, BOX, BALL, COLUMN]))
    centre = draw.uniform([0.1, 0, 0.35], [0.9, 0, 0.95]) * view.extent
    if kind == BALL:
        radius = draw.uniform(0.15, 0.5)
        floating = 0.0 if draw.random() < 0.5 else draw.uniform(0, 0.8)
        centre[1] = view.extent[1] - radius - floating
        _round(view, kind, centre, radius, [0, 1, 2])
    elif kind == COLUMN:
        _round(view, kind, centre, draw.uniform(0.1, 0.3), [0, 2])
    else:
        half = draw.uniform([0.15, 0.1, 0.15], [0.6, 0.6, 0.6])
        centre[1] = view.extent[1] - half[1]
        _box(view, kind, centre, half, draw.uniform(0, np.pi / 2))


def _round(view: _View, kind: int, centre: Any, radius: float, axes: list[int]) -> None:
    """A ball, or an endless column about the axis that is left out."""
    p = (view.eye - centre).astype(np.float32)[axes]
    d = view.rays[axes]
    a, b, c = np.square(d).sum(0), p @ d, np.float32(p @ p - radius**2)
    inside = b * b - a * c
    pixels = np.flatnonzero(inside > 0)
    distance = (-b[pixels] - np.sqrt(inside[pixels])) / np.maximum(a[pixels], 1e-9)
    nearer = (distance > NEAR) & (distance < view.distance[pixels])
    pixels, distance = pixels[nearer], distance[nearer]
    view.distance[pixels] = distance
    view.surface[pixels] = view.painted(kind)
    view.normals[:, pixels] = 0
    view.normals[np.ix_(axes, pixels)] = (p[:, None] + distance * d[:, pixels]) / radius


def _box(view: _View, kind: int, centre: Any, half: Any, turn: float) -> None:
    """A box that is turned about the vertical."""
    cos, sin = np.cos(turn), np.sin(turn)
    own = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)
    p, sides = own @ (view.eye - centre).astype(np.float32), half.astype(np.float32)
    d = own @ view.rays
    d = np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
    middle, reach = -p[:, None] / d, sides[:, None] / np.abs(d)
    near = middle - reach
    axis = near.argmax(0)
    distance = near.max(0)
    there = (distance < (middle + reach).min(0)) & (distance > NEAR) & (distance < view.distance)
    pixels = np.flatnonzero(there)
    axis = axis[pixels]
    view.distance[pixels] = distance[pixels]
    view.surface[pixels] = view.painted(kind)
    view.normals[:, pixels] = -np.sign(d[axis, pixels]) * own[axis].T


def _lit(view: _View) -> Array:
    """Patterns, the light of a lamp, and noise of the camera, ``[3, P]``."""
    draw, at = view.draw, view.points()
    paint = np.stack(view.paints).T[:, view.surface]
    size = np.maximum(paint[6], 1e-3) / np.float32(np.pi)
    waves = [
        np.sin((at[axis] + paint[place]) / size)
        for axis, place in zip(range(3), (7, 8, 7), strict=True)
    ]
    checks = waves[0] * waves[1] * waves[2] > 0
    stripes = np.sin((at[0] + np.float32(0.6) * at[1] + np.float32(0.8) * at[2]) / size) > 0
    mottled = waves[0] + waves[1] + waves[2] + np.sin(9 * at[2] + 7 * at[0]) > 0.5
    second = np.choose(paint[9].astype(np.int64), [checks, stripes, mottled]) & (paint[6] > 0)
    colour = np.where(second, paint[3:6], paint[:3])
    lamp = draw.uniform([0.2, 0.02, 0.1], [0.8, 0.3, 0.7]) * view.extent
    towards = lamp.astype(np.float32)[:, None] - at
    far = np.square(towards).sum(0)
    facing = np.maximum((towards * view.normals).sum(0) / np.sqrt(far + 1e-6), 0)
    weak, strong, noise = (
        np.float32(draw.uniform(*span)) for span in ((0.25, 0.5), (0.6, 1.2), (0.01, 0.05))
    )
    bright = weak + strong * facing / (1 + np.float32(0.12) * far)
    tint = draw.uniform(0.85, 1.1, 3).astype(np.float32)[:, None]
    image = colour * bright * tint + noise * draw.standard_normal(colour.shape, np.float32)
    found: Array = np.clip(image, 0, 1)
    return found
