"""Rooms with boxes, balls and columns, rendered by casting a ray through every pixel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
CLASSES = ("wall", "floor", "ceiling", "picture", "box", "ball", "column")
WALL, FLOOR, CEILING, PICTURE, BOX, BALL, COLUMN = range(len(CLASSES))
FAR = np.float32(1e6)
# Of rays that graze a surface, or meet it far away, a sensor of depth learns nothing.
GRAZING = 0.08


class Room(NamedTuple):
    """A rendered room.

    Attributes:
        image: ``float32[H, W, 3]`` in [0, 1].
        classes: ``int8[H, W]``, of :data:`CLASSES`; -1 where there is no label.
        depth: ``float32[H, W]`` along the axis of the camera; 0 where there is none.
        normals: ``float32[H, W, 3]`` in the camera's frame: right, down, ahead; zero where there is none.
    """

    image: Array
    classes: NDArray[np.int8]
    depth: Array
    normals: Array


class _Hit(NamedTuple):
    """Where rays meet what they meet first so far: flat over pixels."""

    distance: Array
    normal: Array
    kind: NDArray[np.int8]
    colour: Array
    other: Array
    # Size and phase of the pattern, or a size of zero for a plain surface.
    pattern: Array


def render(seed: int | list[int], height: int, width: int) -> Room:
    """The room of a seed.

    Walls, things, colours, patterns, light, camera and noise are all drawn from it. Colours do not tell
    classes.
    """
    draw = np.random.default_rng(seed)
    extent = draw.uniform([2.5, 2.2, 3.0], [5.0, 3.2, 7.0]).astype(np.float32)
    eye = np.array([draw.uniform(0.3, 0.7), draw.uniform(0.4, 0.6), draw.uniform(0.08, 0.2)])
    eye = (eye * extent).astype(np.float32)
    frame = _camera(draw)
    rays, forward = _rays(frame, height, width, draw.uniform(0.55, 0.9))
    hit = _walls(draw, eye, rays, extent)
    for _ in range(draw.integers(3, 8)):
        hit = _thing(draw, eye, rays, extent, hit)
    return _seen(draw, eye, rays, forward, frame, extent, hit, (height, width))


def _camera(draw: np.random.Generator) -> Array:
    """Axes of the camera in the room, one a row: right, down, ahead. In the room y points down."""
    turn, tilt, roll = draw.normal(0, [0.35, 0.12, 0.04])
    ahead = np.array([np.sin(turn) * np.cos(tilt), np.sin(tilt), np.cos(turn) * np.cos(tilt)])
    right = np.cross([0.0, 1.0, 0.0], ahead)
    right /= np.linalg.norm(right)
    down = np.cross(ahead, right)
    right, down = (
        np.cos(roll) * right + np.sin(roll) * down,
        np.cos(roll) * down - np.sin(roll) * right,
    )
    return np.stack([right, down, ahead]).astype(np.float32)


def _rays(frame: Array, height: int, width: int, reach: float) -> tuple[Array, Array]:
    """Directions of unit length, ``[P, 3]``, and their share along the axis of the camera, ``[P]``."""
    # As wide as high per pixel; ``reach`` is the tangent of half the angle of view.
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * height / width
    grid = np.stack(np.broadcast_arrays(x[None] * reach, y[:, None] * reach, 1.0), -1)
    flat = grid.reshape(-1, 3).astype(np.float32)
    length = np.linalg.norm(flat, axis=1)
    return (flat @ frame) / length[:, None], 1 / length


def _paint(draw: np.random.Generator) -> tuple[Array, Array, Array]:
    first = draw.uniform(0.15, 0.95, 3)
    other = np.clip(first + draw.normal(0, 0.25, 3), 0.05, 1)
    size = draw.choice([0.0, draw.uniform(0.15, 0.7)])
    phase = draw.uniform(0, 6, 2)
    style = draw.integers(0, 3)
    pattern = np.array([size, *phase, style])
    return first.astype(np.float32), other.astype(np.float32), pattern.astype(np.float32)


def _walls(draw: np.random.Generator, eye: Array, rays: Array, extent: Array) -> _Hit:
    """The room from inside: the nearest of the planes ahead."""
    with np.errstate(divide="ignore"):
        ahead = (np.where(rays > 0, extent, 0) - eye) / np.where(rays == 0, 1e-9, rays)
    axis = ahead.argmin(1)
    rows = np.arange(len(rays))
    distance = ahead[rows, axis].astype(np.float32)
    side = (rays[rows, axis] > 0).astype(np.int64)
    normal = np.zeros_like(rays)
    normal[rows, axis] = 1 - 2 * side
    kind = np.where(axis == 1, np.where(side == 1, FLOOR, CEILING), WALL).astype(np.int8)
    paints = [_paint(draw) for _ in range(6)]
    # Walls of a room mostly have one colour.
    if draw.random() < 0.7:
        paints[1] = paints[4] = paints[5] = paints[0]
    which = axis + 3 * side
    colour, other, pattern = (np.stack(part)[which] for part in zip(*paints, strict=True))
    hit = _Hit(distance, normal, kind, colour, other, pattern)
    for _ in range(draw.integers(0, 4)):
        hit = _picture(draw, eye, rays, extent, hit, which)
    return hit


def _picture(
    draw: np.random.Generator, eye: Array, rays: Array, extent: Array, hit: _Hit, which: Any
) -> _Hit:
    """A flat patch on one of the walls."""
    wall = draw.choice([0, 3, 5, 5])
    across = 2 if wall in (0, 3) else 0
    size = draw.uniform([0.4, 0.3], [1.3, 0.9])
    corner = draw.uniform([0.0, 0.3], [max(extent[across] - size[0], 0.1), 1.0])
    at = eye + hit.distance[:, None] * rays
    inside = (which == wall) & (hit.kind == WALL)
    for axis, low, span in zip((across, 1), corner, size, strict=True):
        inside &= (at[:, axis] > low) & (at[:, axis] < low + span)
    return _over(hit, inside, hit.distance, hit.normal, PICTURE, _paint(draw))


def _thing(draw: np.random.Generator, eye: Array, rays: Array, extent: Array, hit: _Hit) -> _Hit:
    """A box, a ball or a column on the floor, not around the camera."""
    kind = int(draw.choice([BOX, BOX, BALL, COLUMN]))
    centre = draw.uniform([0.1, 0, 0.35], [0.9, 0, 0.95]) * extent
    if kind == BALL:
        radius = draw.uniform(0.15, 0.5)
        centre[1] = extent[1] - radius - draw.choice([0.0, draw.uniform(0, 0.8)])
        found = _round(eye - centre, rays, radius, (0, 1, 2))
    elif kind == COLUMN:
        radius = draw.uniform(0.1, 0.3)
        found = _round(eye - centre, rays, radius, (0, 2))
    else:
        half = draw.uniform([0.15, 0.1, 0.15], [0.6, 0.6, 0.6])
        centre[1] = extent[1] - half[1]
        found = _box(eye - centre, rays, half, draw.uniform(0, np.pi / 2))
    distance, normal = found
    return _over(hit, distance < hit.distance, distance, normal, kind, _paint(draw))


def _round(start: Any, rays: Array, radius: float, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """A ball, or an endless column about the axis that is left out."""
    p, d = start[list(axes)].astype(np.float32), rays[:, axes]
    a, b, c = np.square(d).sum(1), d @ p, float(p @ p) - radius**2
    inside = b**2 - a * c
    distance = (-b - np.sqrt(np.maximum(inside, 0))) / np.maximum(a, 1e-9)
    there = (inside > 0) & (distance > 0.2)
    normal = np.zeros_like(rays)
    normal[:, axes] = (p + distance[:, None] * d) / radius
    return np.where(there, distance, FAR).astype(np.float32), normal


def _box(start: Any, rays: Array, half: Any, turn: float) -> tuple[Array, Array]:
    """A box that is turned about the vertical."""
    cos, sin = np.cos(turn), np.sin(turn)
    own = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)
    p, d = own @ start.astype(np.float32), rays @ own.T
    d = np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
    one, two = (-half - p) / d, (half - p) / d
    near = np.minimum(one, two)
    axis = near.argmax(1)
    rows = np.arange(len(rays))
    distance = near[rows, axis]
    there = (distance < np.maximum(one, two).min(1)) & (distance > 0.2)
    normal = -np.sign(d[rows, axis])[:, None] * own[axis]
    return np.where(there, distance, FAR).astype(np.float32), normal.astype(np.float32)


def _over(
    hit: _Hit, there: Any, distance: Array, normal: Array, kind: int, paint: tuple[Array, ...]
) -> _Hit:
    colour, other, pattern = paint
    mask = there[:, None]
    return _Hit(
        np.where(there, distance, hit.distance),
        np.where(mask, normal, hit.normal),
        np.where(there, np.int8(kind), hit.kind),
        np.where(mask, colour, hit.colour),
        np.where(mask, other, hit.other),
        np.where(mask, pattern, hit.pattern),
    )


def _seen(
    draw: np.random.Generator,
    eye: Array,
    rays: Array,
    forward: Array,
    frame: Array,
    extent: Array,
    hit: _Hit,
    size: tuple[int, int],
) -> Room:
    """Patterns, light and noise of the camera; what sensors of depth and annotators miss."""
    at = eye + hit.distance[:, None] * rays
    size_of, style = np.maximum(hit.pattern[:, 0], 1e-3), hit.pattern[:, 3]
    wave = np.sin((at + hit.pattern[:, 1:2]) * (np.pi / size_of)[:, None])
    checks = wave.prod(1) > 0
    stripes = np.sin((at @ np.array([1, 0.6, 0.8], np.float32)) * np.pi / size_of) > 0
    mottled = (wave.sum(1) + np.sin(at[:, 2] * 9 + at[:, 0] * 7)) > 0.5
    second = np.choose(style.astype(np.int64), [checks, stripes, mottled])
    second &= hit.pattern[:, 0] > 0
    colour = np.where(second[:, None], hit.other, hit.colour)
    lamp = (draw.uniform([0.2, 0.02, 0.1], [0.8, 0.3, 0.7]) * extent).astype(np.float32)
    towards = lamp - at
    far = np.linalg.norm(towards, axis=1)
    facing = np.maximum((towards * hit.normal).sum(1) / np.maximum(far, 1e-3), 0)
    bright = draw.uniform(0.25, 0.5) + draw.uniform(0.6, 1.2) * facing / (1 + 0.12 * far**2)
    tint = draw.uniform(0.85, 1.1, 3).astype(np.float32)
    image = colour * bright[:, None].astype(np.float32) * tint
    image += draw.normal(0, draw.uniform(0.01, 0.05), image.shape)
    height, width = size
    grazing = np.abs((rays * hit.normal).sum(1)) < GRAZING
    gone = grazing | (draw.random(len(rays)) < 0.02)
    depth = np.where(gone, 0, hit.distance * forward)
    normals = np.where(gone[:, None], 0, hit.normal @ frame.T)
    classes = hit.kind.reshape(size).copy()
    # A patch that nobody labelled.
    top, left = draw.integers(0, [height, width])
    classes[top : top + height // 6, left : left + width // 6] = -1
    return Room(
        np.clip(image, 0, 1).astype(np.float32).reshape(height, width, 3),
        classes,
        depth.astype(np.float32).reshape(size),
        normals.astype(np.float32).reshape(height, width, 3),
    )
