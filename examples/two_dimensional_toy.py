"""Two losses of two parameters: where do methods go, and where do they stop?

The problem of the CAGrad paper (Liu et al., NeurIPS 2021, arXiv:2110.14048), as the Nash-MTL paper runs it
(Navon et al., ICML 2022, arXiv:2202.01017): first loss times 0.1, five starting points, Adam with learning
rate 1e-3, 35,000 steps. The formula is that of the published code; in the text of the CAGrad paper the sign
of the tanh in f2 is different.

Run it with ``python examples/two_dimensional_toy.py --out toy.svg``.

A method is maths on tensors with leading batch dimensions, so the five starts run as one batch.
"""

from __future__ import annotations

import argparse
import base64
import re
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

import equipoise
from equipoise.problems.synthetic.toy2d import (
    BOUNDS,
    NEAR,
    SCALE,
    STARTS,
    distance,
    losses,
    pareto_front,
)

METHODS = {
    "ew": {},
    "rlw": {"seed": 0},
    "mgda": {},
    "pcgrad": {"seed": 0},
    "cagrad": {"c": 0.4},
    "imtl_g": {},
    "nash_mtl": {},
    # These losses go below 0; FAMO needs bounds, which are those of its authors' code.
    "famo": {"min_losses": BOUNDS},
}
EDGE = 11.0


def trajectories(method_id: str, steps: int, keep: int = 150) -> Tensor:
    """Where Adam goes with the method's direction, ``Tensor[about keep, starts, 2]``."""
    method = equipoise.method(method_id, **METHODS[method_id])
    method.begin(2)
    theta = torch.tensor(STARTS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=1e-3)
    every = max(1, steps // keep)
    path = [theta.detach().clone()]
    for step in range(1, steps + 1):
        values = losses(theta)
        first, second = (
            torch.autograd.grad(values[:, k].sum(), theta, retain_graph=k == 0)[0] for k in (0, 1)
        )
        theta.grad = method.direction(torch.stack([first, second], 1), values.detach())
        optimizer.step()
        method.after_step(losses(theta.detach()))  # FAMO looks again; the others do nothing
        if step % every == 0:
            path.append(theta.detach().clone())
    return torch.stack(path)


# --- the figure -----------------------------------------------------------------------------------


def landscape(size: int = 260, bands: int = 14) -> str:
    """The mean of the two losses (unscaled) as a PNG in a ``data:`` address: grey bands of equal area."""
    line = torch.linspace(-EDGE, EDGE, size, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line.flip(0), indexing="xy"), -1)
    mean = (losses(grid) / grid.new_tensor(SCALE)).mean(-1)
    band = (mean.flatten().argsort().argsort() * bands // mean.numel()).view_as(mean)
    shades = (190 + 62 * band / (bands - 1)).to(torch.uint8)
    rows = b"".join(b"\0" + bytes(row.tolist()) for row in shades)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def panel(name: str, path: Tensor, front: Tensor, background: str):
    """One method: landscape, front, and trajectories that go from dark to bright."""
    import altair as alt

    def points(places: Tensor) -> alt.InlineData:
        return alt.InlineData(values=[{"x": px, "y": py} for px, py in places.tolist()])

    side = 210
    axis = {"scale": alt.Scale(domain=[-EDGE, EDGE], nice=False)}
    look = alt.Axis(values=[-10, -5, 0, 5, 10], grid=False, title=None)
    x, y = alt.X("x:Q", axis=look, **axis), alt.Y("y:Q", axis=look, **axis)
    image = (
        alt.Chart(alt.InlineData(values=[{"x": 0.0, "y": 0.0, "url": background}]))
        .mark_image(width=side, height=side, aspect=False)
        .encode(x, y, url="url:N")
    )
    line = (
        alt.Chart(points(front))
        .mark_line(strokeWidth=5, color="#4a4a4a", opacity=0.85, strokeCap="round")
        .encode(x, y, order="x:Q")
    )
    pieces = 30
    rows = []
    for start in range(path.shape[1]):
        for piece in range(pieces):
            first = piece * (len(path) - 1) // pieces
            last = (piece + 1) * (len(path) - 1) // pieces
            rows += [
                {"x": px, "y": py, "piece": f"{start}/{piece}", "time": piece / pieces, "n": n}
                for n, (px, py) in enumerate(path[first : last + 1, start].tolist())
            ]
    way = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(strokeWidth=2.4, strokeJoin="round", strokeCap="round", aria=False)
        .encode(
            x,
            y,
            detail="piece:N",
            order="n:Q",
            color=alt.Color(
                "time:Q",
                scale=alt.Scale(domain=[0, 1], range=["#3b0f70", "#b5367a", "#fb8761", "#fed799"]),
                legend=None,
            ),
        )
    )
    starts = alt.Chart(points(path[0])).mark_circle(size=55, color="black", opacity=1).encode(x, y)
    ends = (
        alt.Chart(points(path[-1]))
        .mark_point(shape=STAR, size=70, filled=True, color="white", stroke="black", opacity=1)
        .encode(x, y)
    )
    reached = int((distance(path[-1], front) < NEAR).sum())
    title = alt.Title(name, subtitle=f"{reached} of {path.shape[1]} on the front")
    return alt.layer(image, line, way, starts, ends).properties(
        width=side, height=side, title=title
    )


STAR = "M0,-1L.29,-.4L.95,-.31L.48,.15L.59,.81L0,.5L-.59,.81L-.48,.15L-.95,-.31L-.29,-.4Z"


def draw(paths: dict[str, Tensor], front: Tensor, out: Path) -> None:
    """Writes the figure as SVG."""
    import altair as alt

    background = landscape()
    names = {card.id: card.name for card in equipoise.methods()}
    panels = [panel(names[each], path, front, background) for each, path in paths.items()]
    chart = alt.concat(*panels, columns=4, spacing=18)
    title = {"fontSize": 15, "subtitleFontSize": 11, "anchor": "start"}
    out.parent.mkdir(parents=True, exist_ok=True)
    chart.configure(background="white", title=title).save(str(out), format="svg")
    # Hundredths of a pixel are enough, and a third of the size.
    short = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", out.read_text())
    out.write_text(short)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=35_000)
    parser.add_argument("--methods", default=",".join(METHODS), help="ids, separated by commas")
    parser.add_argument("--out", type=Path, help="an SVG file; needs the extra 'report'")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    front, paths = pareto_front(), {}
    print(
        f"{'method':<10}"
        + "".join(f"{start!s:>14}" for start in STARTS)
        + "   distance to the front"
    )
    for method_id in given.methods.split(","):
        paths[method_id] = trajectories(method_id, given.steps)
        gaps = distance(paths[method_id][-1], front).tolist()
        print(f"{method_id:<10}" + "".join(f"{gap:>14.3f}" for gap in gaps), flush=True)
    if given.out:
        draw(paths, front, given.out)
        print(given.out)


if __name__ == "__main__":
    main()
