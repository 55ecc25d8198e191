"""How much of what differs is due to tuning: sparse grids of learning rates, and shares of the variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.study.arm_findings import ArmFindings
from equipoise.study.findings import Findings
from equipoise.study.spaces import Candidate, Refined
from equipoise.study.statistics import Array, change, delta_m, variance_shares

# From so many learning rates on every third is a grid of its own; below, every second.
MANY = 6


@dataclass(frozen=True)
class Sparse:
    """What the choice of a sparse grid of learning rates does to an arm.

    Attributes:
        label: of the arm.
        grids: the learning rates of each sparse grid.
        deltas: Delta_m on test of what each grid's tuning chose, mean over seeds.
        between_grids: their standard deviation.
        between_seeds: standard deviation over seeds, the mean over grids.
    """

    label: str
    grids: tuple[tuple[float, ...], ...]
    deltas: tuple[float, ...]
    between_grids: float
    between_seeds: float

    @property
    def ratio(self) -> float:
        """How many times larger the spread between grids is than that between seeds."""
        return self.between_grids / self.between_seeds if self.between_seeds else float("nan")


def sparse_grids(found: Findings) -> list[Sparse]:
    """Every arm with four learning rates or more, tuned on a part of them only.

    Sparse grids are every second learning rate (every third of six or more), from each start. Each seed tunes
    on validation within the grid; finer values of a refined option are left out.

    References:
        Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*, NeurIPS 2022,
        arXiv:2209.11379, section 5.
    """
    told = [_sparse(found, entry) for entry in found.arms]
    return [each for each in told if each is not None]


def _sparse(found: Findings, entry: ArmFindings) -> Sparse | None:
    if found.spec.how != "grid" or found.spec.tuning != "per seed" or not entry.choice.complete:
        return None
    # Finer values stand at the best rate of the whole grid, which a part of it may not have.
    space = entry.arm.space
    kept = set(space.axes.listed()) if isinstance(space, Refined) else set(entry.choice.scores)
    rates = sorted({each.learning_rate for each in kept})
    if len(rates) < 4 or len(rates) > 64:
        return None
    stride = 3 if len(rates) >= MANY else 2
    grids = [tuple(rates[start::stride]) for start in range(stride)]
    table = candidate_deltas(found, entry)
    chosen = np.full((len(grids), len(entry.plan.tried)), np.nan)
    for number, grid in enumerate(grids):
        for seed in range(len(entry.plan.tried)):
            scores = {
                candidate: score
                for candidate, own in entry.choice.scores_by_seed.items()
                if candidate in kept
                and candidate.learning_rate in grid
                and (score := own[seed]) is not None
                and np.isfinite(score)
            }
            if scores:
                chosen[number, seed] = table[max(scores, key=lambda c: scores[c])][seed]
    if not np.isfinite(chosen).all() or chosen.shape[1] < 2:
        return None
    means = chosen.mean(1)
    return Sparse(
        label=entry.arm.label,
        grids=tuple(grids),
        deltas=tuple(map(float, means)),
        between_grids=float(means.std(ddof=1)),
        between_seeds=float(chosen.std(axis=1, ddof=1).mean()),
    )


def candidate_deltas(found: Findings, entry: ArmFindings) -> dict[Candidate, Array]:
    """Delta_m on test of every candidate and seed, ``[S]``; NaN where a run did not finish."""
    table: dict[Candidate, Array] = {}
    if not len(found.whole):
        return {c: np.full(len(entry.plan.tried), np.nan) for c in entry.choice.scores}
    for candidate in entry.choice.scores:
        rows = np.stack(
            [
                found.found.last(own[candidate][0] if candidate in own else None, "test")
                for own in entry.plan.tried
            ]
        )
        against = change(rows, found.whole, found.found.higher, found.plain)
        table[candidate] = delta_m(against.values, found.found.task_of)
    return table


def variance_of(found: Findings) -> tuple[dict[tuple[str, ...], float], list[str]]:
    """Shares of the variance of Delta_m on test due to learning rate, weight decay, method and seed.

    Over all arms that are tuned over learning rates and decays alone and finished every trial.

    Returns:
        Shares by the factors that take part, empty where nothing can be shared out; and the labels of the
        arms.
    """
    usual: list[tuple[float, float]] = []
    tables, labels = [], []
    for entry in found.arms:
        axes = [(each.learning_rate, each.weight_decay) for each in entry.choice.scores]
        if entry.arm.search or found.spec.tuning != "per seed" or len(set(axes)) < 2:
            continue
        usual = usual or sorted(axes)
        table = {
            (c.learning_rate, c.weight_decay): row
            for c, row in candidate_deltas(found, entry).items()
        }
        if sorted(table) == usual and np.isfinite(np.stack(list(table.values()))).all():
            tables.append(np.stack([table[axis] for axis in usual]))
            labels.append(entry.arm.label)
    if len(tables) < 2:
        return {}, labels
    rates, decays = (sorted({axis[place] for axis in usual}) for place in (0, 1))
    seeds = tables[0].shape[1]
    if len(rates) * len(decays) != len(usual):
        return {}, labels
    # [M, R, D, S]; a factor with one level explains nothing and is left out.
    values = np.stack(tables).reshape(len(tables), len(rates), len(decays), seeds)
    named = {"method": 0, "learning rate": 1, "weight decay": 2, "seed": 3}
    kept = [name for name, axis in named.items() if values.shape[axis] > 1]
    gone = tuple(axis for axis in named.values() if values.shape[axis] == 1)
    if np.ptp(values) == 0:
        return {}, labels
    return variance_shares(values.squeeze(gone), kept), labels
