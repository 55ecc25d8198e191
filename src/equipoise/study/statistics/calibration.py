"""What moderated p values are multiplied by, simulated for arms that do not differ.

Letters of the shapes: A arms, S seeds, C comparisons; ``...`` are studies side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from equipoise.study.statistics.deltas import Array
from equipoise.study.statistics.moderation import LIMIT, PRIOR, paired_tests

STUDIES = 20_000
# Where some arms are noisier, a family errs up to (1 + ROOM / df) times as often as where all are alike.
ROOM = 2.5
# Rarer events are extrapolated: 20,000 studies tell little of them.
RAREST = 0.002


def multipliers(
    values: Array,
    baselines: Sequence[int],
    prior: float = PRIOR,
    limit: float = LIMIT,
    further: Sequence[tuple[int, int]] = (),
    level: float = 0.05,
    families: int = 1,
) -> Array:
    r"""By what a p value is multiplied where m comparisons are left, for m = 1 to C.

    Bonferroni's and Holm's corrections multiply by m. Moderated tests need more where there are few arms,
    since weight and typical variance are estimated from them, and less where there are many, since
    differences to one baseline go together. So it is simulated: with it, the smallest p value of m random
    comparisons errs in ``level * df / (df + 2.5)`` of 20,000 studies with this number of arms, seeds and
    baselines, these missing runs and equal Gaussian noise. The 2.5 leave room for arms of unequal noise.

    Args:
        values: ``[..., A, S]``; only their shape counts, which are NaN, and which arms are 0 everywhere.
        baselines: as for :func:`paired_tests`.
        prior: as for :func:`paired_tests`; 0 for tests that are exact, which are multiplied by m.
        limit: as for :func:`paired_tests`.
        further: as for :func:`paired_tests`.
        level: of the family.
        families: how many such sets of comparisons, tested apart, share the level.

    Returns:
        ``[C * families]``, growing.
    """
    runs = np.isfinite(values).reshape(-1, *values.shape[-2:]).all(0)
    silent = (values == 0).reshape(-1, *values.shape[-2:]).all((0, 2))
    own = _simulated(
        runs.shape,
        runs.tobytes(),
        silent.tobytes(),
        tuple(int(each) for each in baselines),
        tuple((int(arm), int(other)) for arm, other in further),
        (float(prior), float(limit)),
        level / families,
    )
    if families == 1:
        return own
    left = np.arange(1.0, families * len(own) + 1)
    inflation: float = (own / left[: len(own)]).max()
    return left * inflation


@lru_cache(maxsize=256)
def _simulated(
    shape: tuple[int, int],
    runs: bytes,
    silent: bytes,
    baselines: tuple[int, ...],
    further: tuple[tuple[int, int], ...],
    moderation: tuple[float, float],
    level: float,
) -> Array:
    """The level over the share ``level * df / (df + ROOM)`` of the smallest of m p values, ``[C]``."""
    present = np.frombuffer(runs, dtype=bool).reshape(shape)
    random = np.random.default_rng(0)
    noise = random.normal(size=(STUDIES, *shape))
    noise[:, np.frombuffer(silent, dtype=bool)] = 0.0
    null = paired_tests(np.where(present, noise, np.nan), baselines, *moderation, further)
    left = np.arange(1, null.p.shape[-1] + 1)
    tested = null.p[:, np.isfinite(null.p).all(0) & (null.p < 1).any(0)]
    if not null.borrows.any() or not tested.shape[-1]:
        return left.astype(np.float64)
    df = float(np.median(null.pairs[0])) - 1
    share = level * df / (df + ROOM)
    resolved = max(share, RAREST)
    smallest = np.minimum.accumulate(random.permuted(tested, axis=1), axis=1)
    thresholds = np.quantile(smallest, resolved, axis=0) * share / resolved
    found = np.maximum.accumulate(level / thresholds)
    return np.concatenate([found, np.full(len(left) - len(found), found[-1])])
