"""Small pictures of what a method does, drawn from what the method itself computes.

The colours are those of the page (``_static/equipoise.css``), so that the pictures follow its light and
dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

import equipoise
from equipoise.methods.base import GramianMethod, JacobianMethod, LossMethod, Method
from equipoise.methods.drawing import Random

WIDTH, HEIGHT = 460, 300
Point = tuple[float, float]

# Two tasks that conflict (an angle of 103 degrees) and differ in length; the third, which lies between
# them, is for methods that need three.
GRADIENTS = torch.tensor([[1.7, 0.2], [-0.35, 1.0], [0.5, 0.7]], dtype=torch.float64)
KINDS = ("one", "two", "three")
DRAWS = 24


def drawn(cls: type[Method]) -> bool:
    """Whether the method has a figure: those do that need only losses or gradients of one batch."""
    return cls.needs in ("losses", "gramian", "jacobian") and issubclass(
        cls, LossMethod | GramianMethod | JacobianMethod
    )


def figure(cls: type[Method]) -> str:
    """The figure of a method as an HTML ``<figure>``."""
    method_id = cls.card.id
    if not issubclass(cls, LossMethod):
        return _of_gradients(method_id)
    if cls.state or cls.learns:
        return _over_time(method_id)
    return _of_losses(method_id)


# --- methods that look at gradients ---------------------------------------------------------------


def _directions(method_id: str) -> tuple[torch.Tensor, list[Point]]:
    """The gradients, and the different directions of fresh methods; one, unless the method draws."""
    fewest = _fewest_tasks(method_id)
    gradients, losses = GRADIENTS[:fewest], torch.ones(fewest, dtype=torch.float64)
    found: dict[Point, Point] = {}
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        method = equipoise.method(method_id)
        method.begin(fewest)
        x, y = method.direction(gradients, losses).tolist()
        found.setdefault((round(x, 4), round(y, 4)), (x, y))
    return gradients, list(found.values())


def _fewest_tasks(method_id: str) -> int:
    """2, or 3 for a method that refuses 2."""
    method = equipoise.method(method_id)
    method.begin(2)
    try:
        method.direction(GRADIENTS[:2], torch.ones(2, dtype=torch.float64))
    except ValueError:
        return 3
    return 2


def _of_gradients(method_id: str) -> str:
    method = equipoise.method(method_id)
    gradients, updates = _directions(method_id)
    rows: list[Point] = [(x, y) for x, y in gradients.tolist()]
    total = (sum(x for x, _ in rows), sum(y for _, y in rows))
    # The longest update is drawn as long as this at most: directions matter here, lengths depend on
    # the sum of the weights.
    longest = max(math.hypot(*update) for update in updates)
    shrink = 1.9 / longest if longest > 1.9 else 1.0
    scale, origin = (126.0, (128.0, 258.0)) if len(rows) == 2 else (106.0, (128.0, 258.0))

    def at(p: Point) -> Point:
        return origin[0] + scale * p[0], origin[1] - scale * p[1]

    def arrow(p: Point, kind: str, opacity: float = 1.0) -> str:
        (x, y), length = at(p), math.hypot(*p)
        if length * scale < 3:
            return f'<circle class="fill-{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        ux, uy = p[0] / length, -p[1] / length
        bx, by = x - 10 * ux, y - 10 * uy
        tip = f"{x:.1f},{y:.1f} {bx - 4.5 * uy:.1f},{by + 4.5 * ux:.1f} "
        tip += f"{bx + 4.5 * uy:.1f},{by - 4.5 * ux:.1f}"
        return (
            f'<g opacity="{opacity:.2f}"><path class="{kind}" d="M{origin[0]} {origin[1]}L{bx:.1f} '
            f'{by:.1f}"/><polygon class="fill-{kind}" points="{tip}"/></g>'
        )

    opacity = 1.0 if len(updates) == 1 else max(0.25, 2 / len(updates))
    shifts = [(8, 14), (-10, -8), (-10, -6)]
    plus = " + ".join(f"g{'₁₂₃'[k]}" for k in range(len(rows)))
    parts = [
        _cone(rows[0], rows[1], at),
        arrow(total, "sum"),
        *(arrow((u[0] * shrink, u[1] * shrink), "update", opacity) for u in updates),
        *(arrow(row, KINDS[k]) for k, row in enumerate(rows)),
        *(
            _label(at(row), f"g{'₁₂₃'[k]}", f"fill-{KINDS[k]}", shifts[k])
            for k, row in enumerate(rows)
        ),
        _label(at(total), plus, "fill-sum", (8, -6)),
    ]
    if len(updates) == 1:
        x, y = updates[0]
        parts.append(_label(at((x * shrink, y * shrink)), "d", "fill-update", (-4, -10)))
    what = "The update d" if len(updates) == 1 else f"{DRAWS} draws of the update d"
    number = "two" if len(rows) == 2 else "three"
    caption = (
        f"{what} for {number} gradients that conflict. Grey: directions in which every loss falls when "
        "the step goes along −d. Dashed: equal weights."
    )
    if method.state or method.learns:
        caption += " The first step, in which the method has no history yet."
    if shrink < 1:
        caption += f" d is drawn {1 / shrink:.1f} times shorter than it is."
    return _wrapped(parts, caption)


def _cone(one: Point, two: Point, at) -> str:
    """The directions with a positive inner product with both gradients."""
    edges = []
    for p, other in ((one, two), (two, one)):
        edge = (-p[1], p[0])
        if edge[0] * other[0] + edge[1] * other[1] < 0:
            edge = (p[1], -p[0])
        length = math.hypot(*edge)
        edges.append((edge[0] / length * 4, edge[1] / length * 4))
    (a, b), (c, d), (e, f) = at((0, 0)), at(edges[0]), at(edges[1])
    return f'<polygon class="halfplanes" points="{a:.1f},{b:.1f} {c:.1f},{d:.1f} {e:.1f},{f:.1f}"/>'


# --- methods that look at losses ------------------------------------------------------------------


def _of_losses(method_id: str) -> str:
    """Weights against the first loss; the second is 1."""
    torch.manual_seed(0)
    method = equipoise.method(method_id)
    assert isinstance(method, LossMethod)
    losses = [10 ** (-1 + 2 * i / 60) for i in range(61)]
    rows = []
    for loss in losses:
        method.begin(2)
        rows.append(method.weights(torch.tensor([loss, 1.0], dtype=torch.float64)).tolist())
    caption = "Weights of two tasks. The loss of task 1 varies, that of task 2 is 1."
    if isinstance(method, Random):
        caption += " The weights are drawn anew in every step, whatever the losses are."
    return _chart(losses, rows, "loss of task 1", True, caption, isinstance(method, Random))


def _over_time(method_id: str) -> str:
    """Weights over steps, through a balancer: the first loss falls fast, the second slowly."""
    steps, epoch = 120, 10
    torch.manual_seed(0)
    method = equipoise.method(method_id)
    options = {"self_optimized": 0.05} if method.learns else {}
    balancer = equipoise.Balancer(method, ["1", "2"], **options)
    scale = torch.ones(2, dtype=torch.float64, requires_grad=True)

    def losses(step: int) -> dict[str, torch.Tensor]:
        return {
            "1": scale[0] * (0.1 + 1.9 * math.exp(-step / 15)),
            "2": scale[1] * (0.1 + 0.9 * math.exp(-step / 60)),
        }

    rows = []
    for step in range(steps):
        balancer(losses(step))
        rows.append([balancer.weights["1"], balancer.weights["2"]])
        balancer.after_step(lambda step=step: losses(step + 1))
        if step % epoch == epoch - 1:
            balancer.end_epoch()
    caption = (
        "Weights of two tasks over 120 steps, 10 to an epoch. The loss of task 1 falls fast, from 2 to "
        "0.1; that of task 2 slowly, from 1 to 0.22."
    )
    if method.learns:
        caption += " The weights are learned with Adam at learning rate 0.05."
    return _chart(
        list(range(1, steps + 1)), rows, "step", False, caption, isinstance(method, Random)
    )


def _chart(
    xs: Sequence[float],
    rows: Sequence[Sequence[float]],
    x_title: str,
    log_x: bool,
    caption: str,
    dots: bool,
) -> str:
    left, right, top, bottom = 52, WIDTH - 60, 16, HEIGHT - 44
    values = [v for row in rows for v in row]
    low, high = min(values), max(values)
    log_y = low > 0 and 20 < high / low < 1e4
    if log_y:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [10.0**e for e in range(first, last + 1)]
    else:
        ticks = _ticks(min(0.0, low), high)

    def forward(v: float) -> float:
        return math.log10(v) if log_y else v

    def x_of(x: float) -> float:
        part = (
            math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
            if log_x
            else (x - xs[0]) / (xs[-1] - xs[0])
        )
        return left + (right - left) * part

    def y_of(v: float) -> float:
        a, b = forward(ticks[0]), forward(ticks[-1])
        return bottom - (bottom - top) * (forward(v) - a) / (b - a)

    parts = []
    for tick in ticks:
        y = y_of(tick)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(
            f'<text class="quiet" x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    marks = [0.1, 0.3, 1.0, 3.0, 10.0] if log_x else range(20, int(xs[-1]) + 1, 20)
    parts += [
        f'<text class="quiet" x="{x_of(x):.1f}" y="{bottom + 17}" text-anchor="middle">{x:g}</text>'
        for x in marks
    ]
    middle = (left + right) / 2
    parts.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    parts.append(
        f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{x_title}</text>'
        f'<text x="14" y="{(top + bottom) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(top + bottom) / 2:.0f})">weight</text>'
    )
    ends = [y_of(row) for row in rows[-1]]
    apart = abs(ends[0] - ends[1]) > 14
    same = all(abs(a - b) <= 1e-9 * max(abs(a), abs(b), 1e-300) for a, b in rows)
    for k, kind in enumerate(("one", "two")):
        points = [(x_of(x), y_of(row[k])) for x, row in zip(xs, rows, strict=True)]
        if dots:
            parts += [
                f'<circle class="fill-{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
                for x, y in points
            ]
        else:
            line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path class="{kind}" d="{line}"/>')
        if not same:
            lower = ends[k] > ends[1 - k] or (ends[k] == ends[1 - k] and k == 1)
            y = ends[k] if apart else sum(ends) / 2 + (9 if lower else -9)
            parts.append(_label((right, y), f"task {k + 1}", f"fill-{kind}", (6, 4)))
    if same:
        parts.append(_label((right, ends[0]), "both", "fill-two", (6, 4)))
    return _wrapped(parts, caption)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` or below to ``high`` or above."""
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span))
    step = next(step * f for f in (0.2, 0.25, 0.5, 1, 2) if span / (step * f) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last == first:
        last += 1
    return [round(i * step, 10) for i in range(first, last + 1)]


def _label(at: Point, text: str, kind: str, shift: Point) -> str:
    anchor = "end" if shift[0] < -5 else "start"
    x, y = at[0] + shift[0], at[1] + shift[1]
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _wrapped(parts: Sequence[str], caption: str) -> str:
    inside = "\n".join(parts)
    return (
        f'<figure class="method-figure">\n<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{caption}">\n{inside}\n</svg>\n<figcaption>{caption}</figcaption>\n</figure>\n'
    )
