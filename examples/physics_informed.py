"""A physics-informed network: the wave equation in four loss terms, Adam first, then L-BFGS.

The string u_tt = 4 u_xx on 0 <= x, t <= 1, held at both ends, starts at rest as sin(pi x) and stays
u = sin(pi x) cos(2 pi t): the error is known. Derivatives of second order make the residual's gradient many
times as long as that of the other terms, which alone say which of all solutions is meant. A fixed sum with
100 for the values is the baseline that a method has to beat.

python examples/physics_informed.py --arms "plain sum,fixed sum,relobralo"
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from equipoise import Balancer

TERMS = ("residual", "start", "speed", "ends")
VALUES = {"start": 100.0, "ends": 100.0}
ARMS = {
    "plain sum": {"method": "ew"},
    "fixed sum": {"method": "ew", "prior": VALUES},
    "relobralo": {"method": "relobralo"},
    "relobralo + prior": {"method": "relobralo", "prior": VALUES},
    "upgrad": {"method": "upgrad", "update_every": 10},
    "unit_norm": {"method": "unit_norm", "form": "inverse_norm", "beta": 0.9, "update_every": 10},
}


def exact(x: Tensor, t: Tensor) -> Tensor:
    """The solution."""
    return torch.sin(torch.pi * x) * torch.cos(2 * torch.pi * t)


def network(width: int) -> nn.Module:
    """From points ``[N, 2]`` to u; float64, since L-BFGS would stop where float32 has no digits left."""
    layers = nn.Sequential(
        nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
    )
    return layers.double()


def derivatives(u: Tensor, of: Tensor) -> Tensor:
    """du/dof at every point, with a graph."""
    (found,) = torch.autograd.grad(u.sum(), of, create_graph=True)
    return found


def losses_of(model: nn.Module, x: Tensor, t: Tensor) -> dict[str, Tensor]:
    """The four terms, each a mean square over points ``[N, 1]``."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    u = model(torch.cat([x, t], 1))
    u_tt = derivatives(derivatives(u, t), t)
    u_xx = derivatives(derivatives(u, x), x)

    zero = torch.zeros_like(t).requires_grad_()
    first = model(torch.cat([x, zero], 1))
    edges = torch.cat([torch.zeros_like(x), torch.ones_like(x)])
    return {
        "residual": (u_tt - 4 * u_xx).square().mean(),
        "start": (first - exact(x, zero)).square().mean(),
        "speed": derivatives(first, zero).square().mean(),
        "ends": model(torch.cat([edges, torch.cat([t, t])], 1)).square().mean(),
    }


def error_of(model: nn.Module) -> float:
    """Distance from the solution on a grid, relative to its size."""
    line = torch.linspace(0, 1, 41, dtype=torch.float64)
    x, t = (axis.reshape(-1, 1) for axis in torch.meshgrid(line, line, indexing="ij"))
    with torch.no_grad():
        difference = model(torch.cat([x, t], 1)) - exact(x, t)
    return float(difference.norm() / exact(x, t).norm())


def solve(
    arm: str, *, seed: int, adam: int, lbfgs: int, points: int, width: int
) -> tuple[float, float, dict[str, float]]:
    """Trains a network; its error after Adam and after L-BFGS, and the weights that L-BFGS worked with."""
    torch.manual_seed(seed)
    model = network(width)
    balancer = Balancer(tasks=TERMS, seed=seed, **ARMS[arm])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(adam):
        x, t = torch.rand(2, points, 1, dtype=torch.float64)
        balancer(losses_of(model, x, t)).backward()
        optimizer.step()
        optimizer.zero_grad()
    after_adam = error_of(model)

    # A line search compares values of one function: the same points, and the same weights.
    x, t = torch.rand(2, points, 1, dtype=torch.float64)
    closing = torch.optim.LBFGS(
        model.parameters(), max_iter=lbfgs, history_size=50, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        closing.zero_grad()
        loss = balancer(losses_of(model, x, t))
        loss.backward()
        return loss

    with balancer.frozen():
        closing.step(closure)
    return after_adam, error_of(model), balancer.weights


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Solve the wave equation with balanced terms.")
    parser.add_argument("--arms", default=",".join(ARMS), help="the first is compared with")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--adam", type=int, default=500, help="steps of Adam")
    parser.add_argument("--lbfgs", type=int, default=200, help="iterations of L-BFGS")
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--width", type=int, default=24)
    given = parser.parse_args(arguments)

    sizes = {"adam": given.adam, "lbfgs": given.lbfgs, "points": given.points, "width": given.width}
    print(f"{'':<18} error after Adam, after L-BFGS (1 is that of u = 0)")
    plain: list[float] = []
    always = []
    for arm in given.arms.split(","):
        start = time.perf_counter()
        runs = [solve(arm, seed=seed, **sizes) for seed in range(given.seeds)]
        found = [after for _, after, _ in runs]
        shown = "   ".join(f"{before:.3f}, {after:.3f}" for before, after, _ in runs)
        plain = plain or found
        better = sum(ours < theirs for ours, theirs in zip(found, plain, strict=True))
        told = "" if found is plain else f"   closer than the first: {better} of {given.seeds}"
        always += [arm] * (better == given.seeds)
        print(f"{arm:<18} {shown}{told}   ({time.perf_counter() - start:.0f} s)")
        weights = ", ".join(f"{term} {w:.3g}" for term, w in runs[-1][2].items())
        print(f"{'':<18} weights: {weights}")
    print(f"ahead of the first with every seed: {', '.join(always) or 'none'}")


if __name__ == "__main__":
    main()
