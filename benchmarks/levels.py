"""How often a verdict claims something false, and how much it finds: procedures side by side, simulated.

    python benchmarks/levels.py [--studies N] [--seeds 5 10] [--arms 5 10] [--correlation 0 0.5 0.9]
        [--tails normal t3] [--spread equal uneven loud split] [--effect 0 1] [--pattern one several tied]
        [--candidates 0 5] [--baselines 3] [--procedures ...] [--summary]

A study has baselines (three: tuned fixed weights, equal weights, random weights), which are as random as the
methods, and one value an arm and seed. The verdict compares every arm with every baseline. Runs of a
seed share a part of their noise (--correlation). Spreads of single runs (which arm has which is drawn):

    equal    1 for every arm
    uneven   drawn for each arm from 0.5 to 3, evenly in their logarithm
    loud     1, and 6 for one arm
    split    1 for half of the arms, 3 for the others
    torn     1 for the first half of the arms, baselines among them, and 6 for the others, not drawn

--candidates R: every value is the test score of that of R candidates which looked best on validation, chosen
anew by every seed; 0 for values without tuning. Effects are in typical spreads of single runs (their
geometric mean over arms): on one method (one), on half of the methods (several), or on half of the
methods and the tuned weights, so that no method beats these (tied).

    false      studies with any false claim: a difference shown where there is none, or of the wrong sign
    found      true differences of methods that are shown, of those to any baseline
    tuned      of those to tuned fixed weights
    together   studies in which all intervals hold the true difference
    each       intervals that hold it

--summary gives a row a procedure: the largest "false" over all settings and its setting, the means of "found"
over the settings with an effect, and the smallest coverages. A share of 0.05 in N studies has a standard
error of sqrt(0.05 * 0.95 / N): 0.0034 for 4,000.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from equipoise.study.statistics.calibration import multipliers
from equipoise.study.statistics.families import gated, holm, intervals
from equipoise.study.statistics.moderation import LIMIT, PRIOR, PairedTests, paired_tests

Array = NDArray[np.float64]
Random = np.random.Generator
Baselines = Sequence[int]
LEVEL = 0.05


@dataclass(frozen=True)
class Setting:
    """One cell of the table."""

    seeds: int
    arms: int
    correlation: float
    tails: str
    spread: str
    candidates: int
    effect: float
    pattern: str
    baselines: int


@dataclass(frozen=True)
class Decided:
    """What a procedure says: shown, and intervals where it has some, each ``[N, C]``."""

    tests: PairedTests
    shown: NDArray[np.bool_]
    low: Array | None = None
    high: Array | None = None


def noise(tails: str, shape: Sequence[int], random: Random) -> Array:
    if tails == "t3":
        return random.standard_t(3, size=shape) / np.sqrt(3)
    return random.normal(size=shape)


def draw(setting: Setting, studies: int, random: Random) -> tuple[Array, Array]:
    """Values ``[N, A, S]`` and true means ``[N, A]``."""
    shape = (studies, setting.arms, setting.seeds)
    if setting.candidates:
        centre, size = moments(setting.candidates, setting.tails)
        own = (chosen(shape, setting.candidates, setting.tails, random) - centre) / size
    else:
        own = noise(setting.tails, shape, random)
    shared = noise(setting.tails, (studies, 1, setting.seeds), random)
    mixed = np.sqrt(setting.correlation) * shared + np.sqrt(1 - setting.correlation) * own
    spread = spreads(setting, studies, random)
    typical = np.exp(np.log(spread).mean(1, keepdims=True))
    truth = setting.effect * raised(setting) * typical
    return spread[..., None] * mixed + truth[..., None], truth


def spreads(setting: Setting, studies: int, random: Random) -> Array:
    """Standard deviations of single runs, ``[N, A]``."""
    found = np.ones((studies, setting.arms))
    if setting.spread == "uneven":
        return np.exp(random.uniform(np.log(0.5), np.log(3.0), size=found.shape))
    if setting.spread == "loud":
        found[:, -1] = 6.0
    elif setting.spread == "split":
        found[:, setting.arms // 2 :] = 3.0
    elif setting.spread == "torn":
        found[:, (setting.arms + 1) // 2 :] = 6.0
        return found
    return random.permuted(found, axis=1)


def raised(setting: Setting) -> Array:
    """Which arms have the effect, ``[A]``."""
    first = setting.baselines
    half = (setting.arms - first + 1) // 2
    up = np.zeros(setting.arms)
    up[first : first + (1 if setting.pattern == "one" else half)] = 1
    up[0] = setting.pattern == "tied"
    return up


def chosen(shape: Sequence[int], candidates: int, tails: str, random: Random) -> Array:
    """Test scores of the candidates that looked best on validation."""
    quality = -0.5 * np.arange(candidates)
    best = (quality + noise(tails, (*shape, candidates), random)).argmax(-1)
    return quality[best] + noise(tails, shape, random)


@cache
def moments(candidates: int, tails: str) -> tuple[float, float]:
    """Mean and spread of :func:`chosen`, so that equal procedures have equal means."""
    score = chosen((1_000_000,), candidates, tails, np.random.default_rng(1))
    return float(score.mean()), float(score.std())


# Procedures

Procedure = Callable[[Array, Baselines], Decided]


def t_tests(prior: float, limit: float = LIMIT, calibrate: bool = True) -> Procedure:
    """Holm's correction; variances as :func:`moderated` has them, and multipliers simulated or m."""

    def decide(values: Array, baselines: Baselines) -> Decided:
        tests = paired_tests(values, baselines, prior, limit)
        factors = multipliers(values, baselines, prior, limit) if calibrate else None
        adjusted = holm(tests.p, factors)
        low, high, _ = intervals(tests, adjusted, factors, level=LEVEL)
        return Decided(tests, adjusted <= LEVEL, low, high)

    return decide


def one_step(values: Array, baselines: Baselines) -> Decided:
    """As the default, without going on where something is shown."""
    tests = paired_tests(values, baselines)
    return Decided(tests, tests.p * multipliers(values, baselines)[-1] <= LEVEL)


def gates(values: Array, baselines: Baselines) -> Decided:
    """As the default, but later baselines wait for earlier ones: no intervals."""
    tests = paired_tests(values, baselines)
    return Decided(tests, gated(tests, multipliers(values, baselines)) <= LEVEL)


def three_families(values: Array, baselines: Baselines) -> Decided:
    """Plain t tests, Holm's correction for each baseline apart, intervals not corrected at all."""
    tests = paired_tests(values, baselines, 0.0)
    shown = np.zeros(tests.p.shape, dtype=bool)
    for baseline in baselines:
        own = tests.baseline == baseline
        shown[:, own] = holm(tests.p[:, own]) <= LEVEL
    half = stats.t.isf(LEVEL / 2, tests.df) * tests.error
    return Decided(tests, shown, tests.mean - half, tests.mean + half)


def pooled(values: Array, baselines: Baselines) -> Decided:
    """Many-to-one in randomised blocks: one pooled variance, critical value of the largest t."""
    tests = paired_tests(values, baselines, 0.0)
    _, arms, seeds = values.shape
    half = pooled_critical(arms, seeds, len(baselines)) * pooled_error(values)[:, None]
    return Decided(tests, np.abs(tests.mean) > half, tests.mean - half, tests.mean + half)


def pooled_error(values: Array) -> Array:
    """Standard error of every difference, ``[N]``."""
    _, arms, seeds = values.shape
    rest = values - values.mean(1, keepdims=True) - values.mean(2, keepdims=True)
    rest = rest + values.mean((1, 2), keepdims=True)
    return np.sqrt((rest**2).sum((1, 2)) / ((arms - 1) * (seeds - 1)) * 2 / seeds)


@cache
def pooled_critical(arms: int, seeds: int, baselines: int) -> float:
    values = np.random.default_rng(2).normal(size=(40_000, arms, seeds))
    mean = paired_tests(values, range(baselines), 0.0).mean
    return float(np.quantile(np.abs(mean).max(-1) / pooled_error(values), 1 - LEVEL))


def sign_flip(values: Array, baselines: Baselines) -> Decided:
    """Step-down sign flips of whole seeds, with the largest t (Westfall and Young)."""
    tests = paired_tests(values, baselines, 0.0)
    seeds = values.shape[-1]
    signs = 1.0 - 2.0 * (np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds) & 1)
    gaps = values[:, tests.arm] - values[:, tests.baseline]
    gaps = gaps / np.sqrt((gaps**2).sum(-1, keepdims=True))  # t grows with this mean
    p = np.empty(tests.p.shape)
    for start in range(0, len(values), 200):
        part = slice(start, start + 200)
        flipped = np.abs(gaps[part] @ signs.T)
        order = np.argsort(flipped[..., 0], axis=1)  # the first pattern flips nothing
        flipped = np.take_along_axis(flipped, order[..., None], axis=1)
        largest = np.maximum.accumulate(flipped, axis=1)
        own = (largest >= flipped[..., :1] - 1e-12).mean(-1)
        stepped = np.maximum.accumulate(own[:, ::-1], axis=1)[:, ::-1]
        np.put_along_axis(p[part], order, stepped, axis=1)
    return Decided(tests, p <= LEVEL)


PROCEDURES: dict[str, Procedure] = {
    "t, a family each": three_families,
    "t": t_tests(0.0),
    "pooled variance": pooled,
    "sign flips": sign_flip,
    "moderated": t_tests(1000.0, np.inf, calibrate=False),
    "moderated, calibrated": t_tests(1000.0, np.inf),
    "limited": t_tests(PRIOR, calibrate=False),
    "used": t_tests(PRIOR),
    "used, one step": one_step,
    "used, gates": gates,
}


# Counting


@dataclass(frozen=True)
class Counted:
    """The shares that are printed."""

    false: float
    found: float
    tuned: float
    together: float
    each: float


def count(decided: Decided, truth: Array, baselines: int) -> Counted:
    tests, shown = decided.tests, decided.shown
    gap = truth[:, tests.arm] - truth[:, tests.baseline]
    real = np.abs(gap) > 1e-9
    false = shown & ~(real & (np.sign(tests.mean) == np.sign(gap)))
    asked = real & (tests.arm >= baselines)
    tuned = asked & (tests.baseline == 0)

    def share(which: NDArray[np.bool_]) -> float:
        return float(shown[which].mean()) if which.any() else float("nan")

    together = each = float("nan")
    if decided.low is not None and decided.high is not None:
        held = (decided.low <= gap) & (gap <= decided.high)
        together, each = float(held.all(-1).mean()), float(held.mean())
    return Counted(float(false.any(-1).mean()), share(asked), share(tuned), together, each)


def settings(args: argparse.Namespace) -> Iterator[Setting]:
    for axes in product(
        args.seeds, args.arms, args.correlation, args.tails, args.spread, args.candidates
    ):
        for effect in args.effect:
            for pattern in args.pattern if effect else ["none"]:
                yield Setting(*axes, effect, pattern, args.baselines)


def number(value: float) -> str:
    return "    -" if np.isnan(value) else f"{value:5.3f}"


def summary(rows: list[tuple[Setting, str, Counted]], names: list[str]) -> None:
    patterns = list(dict.fromkeys(s.pattern for s, _, _ in rows if s.effect))
    seeds = list(dict.fromkeys(s.seeds for s, _, _ in rows))
    found = [f"{pattern} {size}" for size in seeds for pattern in patterns]
    print(
        f"{'':26s} false  {'  '.join(f'{each:>10s}' for each in found)}  together  each   worst at"
    )
    for name in names:
        own = [(setting, counted) for setting, each, counted in rows if each == name]
        worst = max(own, key=lambda each: each[1].false)
        shares = [
            np.mean([c.found for s, c in own if (s.pattern, s.seeds) == (pattern, size)])
            for size in seeds
            for pattern in patterns
        ]
        print(
            f"{name:26s} {number(worst[1].false)}  {'  '.join(f'{each:10.2f}' for each in shares)}  "
            f"{number(min(c.together for _, c in own)):>8s}  {number(min(c.each for _, c in own))}  "
            f"{' '.join(map(str, astuple(worst[0])))}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--arms", type=int, nargs="+", default=[10], help="baselines among them")
    parser.add_argument("--correlation", type=float, nargs="+", default=[0.5])
    parser.add_argument("--tails", nargs="+", default=["normal"], choices=["normal", "t3"])
    parser.add_argument(
        "--spread",
        nargs="+",
        default=["equal"],
        choices=["equal", "uneven", "loud", "split", "torn"],
    )
    parser.add_argument("--candidates", type=int, nargs="+", default=[0])
    parser.add_argument("--baselines", type=int, default=3)
    parser.add_argument("--effect", type=float, nargs="+", default=[0.0, 2.0])
    parser.add_argument("--pattern", nargs="+", default=["one"], choices=["one", "several", "tied"])
    parser.add_argument("--procedures", nargs="+", default=list(PROCEDURES), choices=PROCEDURES)
    parser.add_argument("--summary", action="store_true")
    args = parser.parse_args()
    rows = []
    if not args.summary:
        print("seeds arms correlation tails spread candidates effect pattern baselines")
        print(f"    {'':26s} false  found  tuned  together  each")
    for place, setting in enumerate(settings(args)):
        random = np.random.default_rng(place)
        values, truth = draw(setting, args.studies, random)
        if not args.summary:
            print(*astuple(setting))
        for name in args.procedures:
            counted = count(
                PROCEDURES[name](values, range(setting.baselines)), truth, setting.baselines
            )
            rows.append((setting, name, counted))
            if not args.summary:
                print(f"    {name:26s} {'  '.join(map(number, astuple(counted)))}", flush=True)
    if args.summary:
        summary(rows, args.procedures)


if __name__ == "__main__":
    main()
