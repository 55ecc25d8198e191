"""The solvers alone: time of a call and distance to the optimum, beside other libraries.

    python benchmarks/solvers.py [--rounds N] [--tasks 2 3 8 40] [--methods mgda cagrad ...] [--plain]

One process, one thread; the engines take turns, so that what else the machine does hits all of them.
Every engine gets the same Gramians: ours and the peers' weights are functions of a K x K tensor on the
CPU (ours in float64, the peers' in float32 and float64, the better error counts). Times are medians over
rounds and Gramians. The error is that of the combined gradient, relative to a reference: a conic solver
at its tightest (MGDA, CAGrad: good for about 1e-7), quadprog (UPGrad, DualProj), or Newton's method in 50
digits where mpmath is installed (Nash-MTL, FairGrad). The residual is the one our solver reports.
Peers are optional: pip install torchjd cvxpy-base
clarabel quadprog qpsolvers ecos. LibMTL's solvers are methods of its trainer and cannot be called alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

import equipoise
import plain
from equipoise import solvers
from equipoise.methods.base import GramianMethod

OPTIONS: dict[str, dict[str, float]] = {"cagrad": {"c": 0.4}, "fairgrad": {"alpha": 2.0}}
METHODS = (
    "mgda",
    "cagrad",
    "nash_mtl",
    "fairgrad",
    "upgrad",
    "dualproj",
    "imtl_g",
    "aligned_mtl",
    "config",
    "pcgrad",
    "gradvac",
    "krum",
)
Weigh = Callable[[Tensor], Tensor]
RESIDUALS: dict[str, Callable[[Tensor], solvers.Solution]] = {
    "mgda": solvers.min_norm,
    "cagrad": lambda G: solvers.cagrad_dual(G, OPTIONS["cagrad"]["c"]),
    "nash_mtl": solvers.bargaining,
    "fairgrad": lambda G: solvers.bargaining(G, 1 / OPTIONS["fairgrad"]["alpha"]),
    "upgrad": solvers.dual_cone,
    "dualproj": lambda G: solvers.nonnegative_qp(G, G.mean(0, keepdim=True)),
    "imtl_g": solvers.equal_projections,
    "config": solvers.equal_cosines,
}


def random(tasks: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tasks, max(100, 2 * tasks), generator=generator, dtype=torch.float64)


def skewed(tasks: int, seed: int) -> Tensor:
    """Nearly parallel or opposite gradients, norms over two decades."""
    generator = torch.Generator().manual_seed(seed)
    J = random(tasks, seed + 1000)
    signs = torch.randint(0, 2, (tasks, 1), generator=generator) * 2 - 1
    exponents = 2 * torch.rand(tasks, 1, generator=generator, dtype=J.dtype) - 1
    return (0.1 * J + signs * J[:1]) * 10**exponents


def ours(name: str) -> Weigh:
    method = equipoise.method(name, **OPTIONS.get(name, {}))
    assert isinstance(method, GramianMethod)
    return lambda G: method.weights(G, torch.ones(len(G), dtype=G.dtype))


def torchjd(name: str, tasks: int) -> Weigh | None:
    """TorchJD's weighting of a Gramian with its defaults, where it has one."""
    if importlib.util.find_spec("torchjd") is None:
        return None
    import torchjd.aggregation as jd

    builders: dict[str, Callable[[], object]] = {
        "mgda": lambda: jd.MGDAWeighting(),
        "cagrad": lambda: jd.CAGradWeighting(c=OPTIONS["cagrad"]["c"]),
        "fairgrad": lambda: jd.FairGradWeighting(alpha=OPTIONS["fairgrad"]["alpha"]),
        "upgrad": lambda: jd.UPGradWeighting(),
        "dualproj": lambda: jd.DualProjWeighting(),
        "imtl_g": lambda: jd.IMTLGWeighting(),
        "aligned_mtl": lambda: jd.AlignedMTLWeighting(),
        "pcgrad": lambda: jd.PCGradWeighting(),
        "gradvac": lambda: jd.GradVacWeighting(),
        "krum": lambda: jd.KrumWeighting(n_byzantine=0),
    }
    if name == "nash_mtl":
        # It takes the Jacobian: a root of the Gramian has the same weights. A fresh state every time.
        def nash(G: Tensor) -> Tensor:
            aggregator = jd.NashMTL(n_tasks=tasks, max_norm=0.0)
            values, vectors = torch.linalg.eigh(G.double())
            root = (vectors * values.clamp_min(0).sqrt()).to(G)
            return torch.linalg.lstsq(root.mT.double(), aggregator(root).double()).solution

        return nash
    try:
        return builders[name]() if name in builders else None  # type: ignore[return-value]
    except (AttributeError, ImportError):
        return None


def reference(name: str, J: Tensor) -> Tensor | None:
    """The combined gradient to 1e-8 or better, by other people's solvers; None where there is none."""
    scale = J.norm(dim=1).max()
    rows = J / scale
    if name in ("nash_mtl", "fairgrad"):
        return _equilibrium(J, 1.0 if name == "nash_mtl" else 1 / OPTIONS["fairgrad"]["alpha"])
    if name in ("upgrad", "dualproj"):
        # Rows of unit length: to a solver with an absolute tolerance, all constraints look alike.
        unit = J / J.norm(dim=1, keepdim=True)
        if name == "dualproj":
            return _projection(unit, J.mean(0))
        return torch.stack(
            [_projection(unit, g) * n for g, n in zip(unit, J.norm(dim=1), strict=True)]
        ).mean(0)
    if importlib.util.find_spec("cvxpy") is None or name not in ("mgda", "cagrad"):
        return None
    import cvxpy

    tight = {"tol_gap_abs": 1e-14, "tol_gap_rel": 1e-14, "tol_feas": 1e-14}
    mean = rows.mean(0)
    # The primal problems: their solution, the direction, is unique.
    d, level = cvxpy.Variable(len(J)), cvxpy.Variable()
    basis, _ = torch.linalg.qr(rows.mT)
    inner = (rows @ basis).numpy()
    if name == "mgda":
        goal = cvxpy.Maximize(level - cvxpy.sum_squares(d) / 2)
        limits = [inner @ d >= level]
    else:
        goal = cvxpy.Maximize(level)
        at = (mean @ basis).numpy()
        limits = [
            inner @ d >= level,
            cvxpy.norm(d - at) <= OPTIONS["cagrad"]["c"] * float(mean.norm()),
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cvxpy.Problem(goal, limits).solve(solver=cvxpy.CLARABEL, **tight)
    return scale * (basis @ torch.tensor(d.value, dtype=J.dtype))


def _projection(unit: Tensor, point: Tensor) -> Tensor:
    if importlib.util.find_spec("quadprog") is None:
        raise SystemExit(
            "the reference of UPGrad and DualProj needs quadprog: pip install quadprog"
        )
    import quadprog

    basis, _ = torch.linalg.qr(unit.mT)
    inner = unit @ basis
    eye = torch.eye(inner.shape[1], dtype=unit.dtype)
    length = point.norm()
    none = torch.zeros(len(unit), dtype=unit.dtype)
    found = quadprog.solve_qp(
        eye.numpy(), (point / length @ basis).numpy(), inner.mT.numpy(), none.numpy()
    )[0]
    return length * (basis @ torch.tensor(found, dtype=unit.dtype))


def _equilibrium(J: Tensor, power: float) -> Tensor | None:
    """(G w)_k = w_k ** -power, in 50 digits from our answer: it is checked, not assumed."""
    if importlib.util.find_spec("mpmath") is None:
        return None
    import mpmath

    name = "nash_mtl" if power == 1.0 else "fairgrad"
    start = ours(name)(J @ J.mT)
    with mpmath.workdps(50):
        rows = mpmath.matrix(J.tolist())
        G = rows * rows.T
        w = mpmath.matrix(start.tolist())
        p = mpmath.mpf(power)
        for _ in range(8):
            gains = G * w
            off = mpmath.matrix([gains[k] - w[k] ** -p for k in range(len(w))])
            slope = G.copy()
            for k in range(len(w)):
                slope[k, k] += p * w[k] ** (-p - 1)
            w -= mpmath.lu_solve(slope, off)
        wrong = max(abs((G * w)[k] * w[k] ** p - 1) for k in range(len(w)))
        if min(w) <= 0 or wrong > mpmath.mpf(10) ** -30:
            raise RuntimeError(f"the reference of {name} did not converge: {wrong}")
        return torch.tensor([float(x) for x in w.T * rows], dtype=J.dtype)


def error(got: Tensor, J: Tensor, want: Tensor) -> float:
    return float((got.to(J) @ J - want).norm() / want.norm())


def measure(
    name: str, jacobians: list[Tensor], rounds: int
) -> dict[str, tuple[float, float | None]]:
    """Median microseconds and worst error of every engine."""
    tasks = len(jacobians[0])
    engines: dict[str, Weigh] = {"equipoise": ours(name)}
    peer = torchjd(name, tasks)
    if peer is not None:
        engines["torchjd"] = peer
    gramians = {
        "equipoise": [J @ J.mT for J in jacobians],
        "torchjd": [(J @ J.mT).float() for J in jacobians],
    }
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(rounds + 1):
            for i in range(len(jacobians)):
                for engine, weigh in engines.items():
                    G = gramians[engine][i]
                    begin = time.perf_counter()
                    try:
                        weigh(G)
                    except ValueError:
                        continue
                    if turn:
                        times[engine].append((time.perf_counter() - begin) * 1e6)
        wanted = [reference(name, J) for J in jacobians]
        results: dict[str, tuple[float, float | None]] = {}
        for engine, weigh in engines.items():
            if not times[engine]:
                continue
            errors = []
            for J, want in zip(jacobians, wanted, strict=True):
                if want is not None:
                    G = J @ J.mT
                    tries = (G,) if engine == "equipoise" else (G, G.float())
                    errors.append(min(error(weigh(g), J, want) for g in tries))
            results[engine] = (
                statistics.median(times[engine]),
                max(errors) if errors else None,
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--gramians", type=int, default=5)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 3, 8, 40])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--plain", action="store_true", help="whole steps, plain against batched")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.plain:
        plain.compare(arguments.methods or plain.SOLVED, arguments.tasks, arguments.rounds)
        return
    for peer in ("torchjd", "LibMTL", "cvxpy", "quadprog", "mpmath"):
        if importlib.util.find_spec(peer) is None:
            print(f"{peer} is absent")
    head = f"{'gramians':<9}{'method':<13}{'K':>3}{'ours us':>9}{'torchjd us':>12}{'ratio':>7}"
    print(head + f"{'residual':>10}{'our error':>11}{'torchjd error':>15}")
    for kind, make in (("random", random), ("skewed", skewed)):
        for name in arguments.methods or METHODS:
            for tasks in arguments.tasks:
                if name == "krum" and tasks < 3:
                    continue
                jacobians = [make(tasks, seed) for seed in range(arguments.gramians)]
                slow = name == "nash_mtl" or tasks >= 40
                rounds = max(2, arguments.rounds // 5) if slow else arguments.rounds
                got = measure(name, jacobians, rounds)
                print(f"{kind:<9}{name:<13}{tasks:>3}{line(name, got, jacobians)}", flush=True)


def line(name: str, got: dict[str, tuple[float, float | None]], jacobians: list[Tensor]) -> str:
    time_of_ours, our_error = got["equipoise"]
    peer_time, peer_error = got.get("torchjd", (None, None))
    ratio = None if peer_time is None else peer_time / time_of_ours
    residual = None
    if name in RESIDUALS:
        residual = max(float(RESIDUALS[name](J @ J.mT).residual.max()) for J in jacobians)

    def cell(value: float | None, form: str, width: int) -> str:
        return f"{'-' if value is None else format(value, form):>{width}}"

    return (
        cell(time_of_ours, ".0f", 9)
        + cell(peer_time, ".0f", 12)
        + cell(ratio, ".1f", 7)
        + cell(residual, ".0e", 10)
        + cell(our_error, ".0e", 11)
        + cell(peer_error, ".0e", 15)
    )


if __name__ == "__main__":
    main()
