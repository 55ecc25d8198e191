"""Where methods lie beside the front of fixed weights.

Letters of the shapes: C candidates of fixed weights, M methods, S seeds, K objectives. Inside, lower is
better; metrics of which higher is better are negated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.study.arm_findings import ArmFindings
from equipoise.study.findings import Findings
from equipoise.study.fixed import FIXED
from equipoise.study.labels import SAMPLED
from equipoise.study.selection import Measure
from equipoise.study.spaces import Candidate
from equipoise.study.statistics import (
    Array,
    additive_epsilon,
    dominated,
    front,
    holm,
    hypervolume,
    igd_plus,
)
from equipoise.study.trial import Trial

Kind = Literal["training loss", "test loss", "test metric"]
KINDS: tuple[Kind, ...] = ("test loss", "test metric", "training loss")
# Draws of seeds with repetition, for standard errors and chances.
DRAWS = 400
# With more objectives hypervolumes take long, and draws are fewer.
QUICK, FEW_DRAWS = 3, 30


@dataclass(frozen=True)
class Point:
    """A candidate, as one point of every seed.

    Attributes:
        label: of its arm.
        candidate: its setting.
        values: ``[S, K]``, as they were measured.
        trials: ids, S long.
    """

    label: str
    candidate: Candidate
    values: Array
    trials: tuple[str, ...]

    @property
    def mean(self) -> Array:
        """Mean over the seeds, ``[K]``."""
        return np.asarray(self.values.mean(0))


@dataclass(frozen=True)
class Method:
    """A method beside the front.

    Attributes:
        label: of its arm.
        values: of the candidate that each seed chose, ``[S, K]``, as measured.
        trials: ids, S long.
        beyond: what the front lacks to reach the method's mean point, as a share of the front's extent
            (additive epsilon); negative where the point lies behind it.
        error: standard error of that, by draws of the seeds with repetition.
        distance: from the points of the front to what the method's mean point dominates, as a share of the
            front's extent, mean over these points (IGD+).
        chance: share of the draws of seeds in which the point lies beyond the front drawn with it.
        p: that some candidate of fixed weights is as good in every task, for the candidate for which that
            is most credible; corrected for the number of tasks.
        p_holm: after Holm's correction for all methods of this front; NaN for equal, frozen and sampled
            weights, of which nothing is claimed.
    """

    label: str
    values: Array
    trials: tuple[str, ...]
    beyond: float
    error: float
    distance: float
    chance: float
    p: float
    p_holm: float = float("nan")

    @property
    def mean(self) -> Array:
        """Mean over the seeds, ``[K]``."""
        return np.asarray(self.values.mean(0))

    def shown(self, level: float = 0.05) -> bool:
        """Whether it is shown to lie beyond the front."""
        return bool(self.p_holm <= level)


@dataclass(frozen=True)
class Front:
    """The front of fixed weights in one kind of numbers, with all methods beside it.

    Attributes:
        kind: of the numbers.
        objectives: their names, K long.
        higher: whether higher is better, ``[K]``.
        points: all candidates of fixed weights that finished.
        on: which of them are on the front, ``[C]``. On training numbers: of the means over seeds; on test
            numbers: those whose means on *validation* are not dominated, so that nothing is chosen by test.
        methods: the others.
        volume: hypervolume of the front, in units of the box from its best to its worst values. The best of
            many noisy points look better than they are, and so does it.
        error: standard error of that, by draws of the seeds with repetition.
        left_out: labels of methods that lost a run.
        band: for two objectives: values of the first, and 2.5 and 97.5 % quantiles over draws of seeds of
            what the front reaches in the second there, ``[3, N]``. It shows the noise of seeds and is no
            interval: of few seeds there are few draws.
    """

    kind: Kind
    objectives: tuple[str, ...]
    higher: NDArray[np.bool_]
    points: tuple[Point, ...]
    on: NDArray[np.bool_]
    methods: tuple[Method, ...]
    volume: float
    error: float
    left_out: tuple[str, ...]
    band: Array | None = None


def fronts(found: Findings) -> list[Front]:
    """The fronts of a study, kinds of numbers that it has not measured left out.

    A method lies *beyond* the front if no candidate of fixed weights is as good as it in every task. For
    one candidate that is tested task by task, one-sided, by t tests on differences paired by seed,
    with Bonferroni's correction over tasks; for all candidates the largest p value counts. Since
    every candidate tried is tested, and not those that look best, nothing is chosen by what is tested.
    """
    if found.spec.tuning != "per seed" or not any(e.arm.label == FIXED for e in found.arms):
        return []
    made = [each for kind in KINDS for each in [_front(found, kind)] if each is not None]
    # Equal weights are fixed weights too.
    still = (SAMPLED, "ew")
    claimed = [each.arm.label for each in found.arms if each.arm.label not in still]
    return [replace(each, methods=_corrected(each.methods, claimed)) for each in made]


def _corrected(methods: Sequence[Method], claimed: Sequence[str]) -> tuple[Method, ...]:
    p = holm(np.array([m.p if m.label in claimed else np.nan for m in methods]))
    return tuple(replace(m, p_holm=each) for m, each in zip(methods, p.tolist(), strict=True))


def _front(found: Findings, kind: Kind) -> Front | None:
    read, higher, names = _reader(found, kind)
    sign = np.where(higher, -1.0, 1.0)
    points = _points(found.arm(FIXED), read)
    arms = [e for e in [*found.arms, *found.frozen.values()] if e.arm.label != FIXED]
    placed = [(arm, np.array([read(trial) for trial in arm.trials])) for arm in arms]
    left = tuple(arm.arm.label for arm, values in placed if not np.isfinite(values).all())
    placed = [(arm, values) for arm, values in placed if np.isfinite(values).all()]
    if len(points) < 2:
        return None
    values = sign * np.stack([point.values for point in points])  # [C, S, K]
    chooser = _reader(found, kind, on_validation=True)[0] if kind != "training loss" else None
    judged = values if chooser is None else sign * _judged(found, points, chooser)
    on = front(judged.mean(1))
    extent = _extent(values.mean(1)[on])
    draws = _draws(values.shape[1], DRAWS if values.shape[2] <= QUICK else FEW_DRAWS)
    drawn = [(values[:, d].mean(1), front(judged[:, d].mean(1))) for d in draws]
    corner = values.mean(1)[on].max(0) + 0.1 * extent
    best = values.mean(1)[on].min(0)
    box = float(np.prod(corner - best))
    volumes = [hypervolume(means[mask], corner) / box for means, mask in drawn]
    methods = []
    for arm, seen in placed:
        own = sign * seen
        lacks = [
            additive_epsilon(means[mask] / extent, own[d].mean(0)[None] / extent)
            for d, (means, mask) in zip(draws, drawn, strict=True)
        ]
        here = additive_epsilon(values.mean(1)[on] / extent, own.mean(0)[None] / extent)
        methods.append(
            Method(
                label=arm.arm.label,
                values=seen,
                trials=tuple(trial.id for trial in arm.runs),
                beyond=here,
                error=_error(lacks, values.shape[1]),
                distance=igd_plus(own.mean(0)[None] / extent, values.mean(1)[on] / extent),
                chance=float(np.mean(np.array(lacks) > 1e-12)),
                p=dominated(own, values),
            )
        )
    return Front(
        kind=kind,
        objectives=tuple(names),
        higher=higher,
        points=tuple(points),
        on=on,
        methods=tuple(methods),
        volume=hypervolume(values.mean(1)[on], corner) / box,
        error=_error(volumes, values.shape[1]),
        left_out=left,
        band=_band(drawn, sign) if len(names) == 2 else None,
    )


Reader = Callable[[Trial | None], Array]


def _reader(
    found: Findings, kind: Kind, on_validation: bool = False
) -> tuple[Reader, NDArray[np.bool_], Sequence[str]]:
    """What reads a trial's numbers ``[K]``, their directions and names."""
    measured = found.found
    test = "validation" if on_validation else "test"
    if kind == "test metric":
        first: list[Measure] = [
            next(m for m in found.measures if m.task == task) for task in measured.tasks
        ]
        columns = [found.measures.index(measure) for measure in first]
        names = [f"{m.task}: {m.metric}" + (f" ({m.unit})" if m.unit else "") for m in first]
        higher = np.array([m.higher_is_better for m in first])
        return lambda trial: measured.last(trial, test)[columns], higher, names
    split = "train" if kind == "training loss" else test
    names = [f"{task}: {kind}" for task in measured.tasks]
    return lambda trial: measured.losses(trial, split), np.zeros(len(names), dtype=bool), names


def _points(entry: ArmFindings, read: Reader) -> list[Point]:
    found = []
    for candidate in entry.plan.tried[0]:
        trials = [own[candidate][0] for own in entry.plan.tried if candidate in own]
        values = np.array([read(trial) for trial in trials])
        if len(trials) == len(entry.plan.tried) and np.isfinite(values).all():
            ids = tuple(trial.id for trial in trials)
            found.append(Point(entry.arm.label, candidate, values, ids))
    return found


def _judged(found: Findings, points: Sequence[Point], read: Reader) -> Array:
    stored: Mapping[str, Trial] = {id_: each.trial for id_, each in found.stored.items()}
    return np.array([[read(stored[id_]) for id_ in point.trials] for point in points])


def _extent(points: Array) -> Array:
    """From the best to the worst value of each objective on the front; where it has one value, that."""
    extent = np.ptp(points, axis=0)
    return np.asarray(np.where(extent > 0, extent, np.maximum(np.abs(points).max(0), 1e-12)))


def _draws(seeds: int, count: int) -> list[NDArray[np.int64]]:
    random = np.random.default_rng(2209)
    return [random.integers(0, seeds, seeds) for _ in range(count)]


def _error(draws: Sequence[float], seeds: int) -> float:
    """Standard error from draws with repetition, which lack the part 1 / S of the variance."""
    if seeds < 2:
        return float("nan")
    return float(np.std(draws) * np.sqrt(seeds / (seeds - 1)))


def _band(drawn: Sequence[tuple[Array, NDArray[np.bool_]]], sign: Array, count: int = 80) -> Array:
    low = min(float(means[mask][:, 0].min()) for means, mask in drawn)
    high = max(float(means[mask][:, 0].max()) for means, mask in drawn)
    grid = np.linspace(low, high, count)
    reached = np.full((len(drawn), count), np.inf)
    for number, (means, mask) in enumerate(drawn):
        points = means[mask]
        inside = points[:, :1] <= grid[None]
        reached[number] = np.where(inside, points[:, 1:], np.inf).min(0)
    # Where some draw of seeds has no point so far to the left, the band is open.
    known = np.isfinite(reached).all(0)
    ends = np.percentile(reached[:, known], [2.5, 97.5], axis=0)
    return np.vstack([sign[0] * grid[known], sign[1] * ends])
