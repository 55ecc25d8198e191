"""The Pareto front of a narrow linear network, and the part of it that no fixed weights reach.

The problem is ``linear_front`` (after Hu et al., NeurIPS 2023, arXiv:2308.13985): everything is computed in
closed form but the ends of MGDA, which are trained.

Run it with ``python examples/front_of_linear_networks.py --out front.svg``.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import torch

from equipoise import Balancer
from equipoise.problems.synthetic.linear_front import TASKS, attainable, linear_front


def swept(steps: int) -> np.ndarray:
    """Gains that all fixed weights in steps of ``1 / steps`` reach, ``[N, 3]``."""
    pairs = [(i, j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    return attainable().reached(np.array([(i, j, steps - i - j) for i, j in pairs]) / steps)


def front(points: int) -> np.ndarray:
    """Gains on the Pareto front among ``points`` networks spread evenly, ``[N, 3]``."""
    known = attainable()
    return np.array([g for g in known.feasible(points) if known.suboptimality(g) < 1e-3])


def trained(method: str, seed: int, steps: int = 240) -> np.ndarray:
    """Gains where Adam with a method ends, ``[3]``."""
    torch.manual_seed(seed)
    problem = linear_front(rows=64)
    model, balancer = problem.model(TASKS), Balancer(method, list(TASKS))
    (batch,) = problem.data("train").batches(64, None)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        balancer.backward(problem.losses_of(model, batch))
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        losses = problem.losses_of(model, batch)
    return np.array([1.1 - losses[name].item() for name in TASKS])


def draw(groups: dict[str, np.ndarray], out: Path) -> None:
    """Writes the figure as SVG: shares of the tasks in the sum of the gains, in a triangle."""
    import altair as alt

    looks = {"front": (9, "#c9c9c9"), "fixed weights": (9, "#1f6f6b"), "MGDA": (110, "#d1495b")}
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    scale = {"scale": alt.Scale(domain=[-0.06, 1.06], nice=False), "axis": None}
    layers = []
    for name, gains in groups.items():
        places = gains / gains.sum(-1, keepdims=True) @ corners
        rows = [{"x": x, "y": y, "what": name} for x, y in places.tolist()]
        color = alt.Color(
            "what:N",
            scale=alt.Scale(domain=list(looks), range=[c for _, c in looks.values()]),
            legend=alt.Legend(title=None),
        )
        mark = alt.Chart(alt.InlineData(values=rows)).mark_circle(size=looks[name][0], opacity=1)
        layers.append(mark.encode(alt.X("x:Q", **scale), alt.Y("y:Q", **scale), color=color))
    edge = [{"x": x, "y": y, "n": n} for n, (x, y) in enumerate(corners[[0, 1, 2, 0]].tolist())]
    line = alt.Chart(alt.InlineData(values=edge)).mark_line(color="#888", strokeWidth=1)
    named = [
        {"x": x, "y": y - (0.04 if y < 0.5 else -0.04), "name": f"only {name}"}
        for name, (x, y) in zip(TASKS, corners.tolist(), strict=True)
    ]
    words = alt.Chart(alt.InlineData(values=named)).mark_text(fontSize=12)
    layers += [
        line.encode(alt.X("x:Q", **scale), alt.Y("y:Q", **scale), order="n:Q"),
        words.encode(alt.X("x:Q", **scale), alt.Y("y:Q", **scale), text="name:N"),
    ]
    chart = alt.layer(*layers).properties(width=380, height=380).configure(background="white")
    out.parent.mkdir(parents=True, exist_ok=True)
    chart.configure_view(stroke=None).save(str(out), format="svg")
    # Tenths of a pixel are enough here, and a third of the size.
    short = re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", out.read_text())
    out.write_text(re.sub(r' aria-[a-z]+="[^"]*"', "", short))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1500, help="networks to look at")
    parser.add_argument("--steps", type=int, default=40, help="of fixed weights along an edge")
    parser.add_argument("--seeds", type=int, default=5, help="runs of MGDA")
    parser.add_argument("--out", type=Path, help="an SVG file; needs the extra 'report'")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    known = attainable()
    ends = np.array([trained("mgda", seed) for seed in range(given.seeds)])
    for seed, gains in enumerate(ends):
        apart = np.abs(swept(100) - gains).max(-1).min()
        print(
            f"MGDA, seed {seed}: gains {gains.round(3)}, below the front by "
            f"{known.suboptimality(gains):.4f}, beyond fixed weights by {known.beyond(gains).low:.4f}, "
            f"nearest of 5,151 fixed weights {apart:.3f} away"
        )
    if given.out:
        draw(
            {"front": front(given.points), "fixed weights": swept(given.steps), "MGDA": ends},
            given.out,
        )
        print(given.out)


if __name__ == "__main__":
    main()
