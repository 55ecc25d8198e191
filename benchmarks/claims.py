"""How often a verdict claims something false, through the whole pipeline, and how much it finds.

    python benchmarks/claims.py [--studies N] [--seeds 5 10] [--correlation 0 0.5 0.9] [--tails normal t3]
        [--spread equal split] [--rates alike differ] [--effect 0 0.5 1 2] [--diverged none method any]
        [--tuning "per seed" once] [--single paired apart] [--methods 4] [--size 1]

Every study runs: its trials are given their numbers (``worlds.py`` says how, and what is true), recorded,
chosen among, compared, and put into sentences. A row is a setting:

    false      studies with any false claim: a sentence on an arm against a baseline, or on one network for
               all tasks, that calls something better or worse where nothing differs, or the wrong way round
    of those   studies where that is the sentence on one network for all tasks
    t false    as false, of plain paired t tests on the same Delta_m values with Holm's correction
    found      comparisons of the better method with the baselines that are called better
    t found    of those, what the plain tests find
    together   studies in which all intervals of paired differences hold the truth, that of joint among them
    paired     intervals of paired differences that hold it
    delta      intervals of Delta_m
    metric     intervals of the mean of a metric
    joint      the interval of the sentence on one network for all tasks

A share p in N studies has a standard error of sqrt(p * (1 - p) / N). Intervals of one study go together: the
standard error of a mean over them is below that, and not by much.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats

from equipoise.study import Findings, Inline, Store, findings, headline, run, sentence
from equipoise.study.statistics import Estimate, holm
from worlds import PLANTED, SIGNS, TASKS, Study, World, score

LEVEL = 0.05
CLAIMS = {"better": 1, "worse": -1}
JOINT = "One network for all tasks"
# Where files are in memory, if there is such a place.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True)
class Counted:
    """What became of one study; shares of what it has several of."""

    false: float
    last: float
    t_false: float
    found: float
    t_found: float
    together: float
    paired: float
    delta: float
    metric: float
    joint: float


def count(world: World, number: int) -> Counted:
    """Runs one study and reads its verdict."""
    study = Study(world, number)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        run(world.spec(), Path(folder) / "study.db", Inline(study.result))
        with Store(Path(folder) / "study.db") as store:
            found = findings(store)
    arms, alone = study.truths(found)
    gaps = {
        (entry.arm.label, baseline): arms[entry.arm.label] - arms[baseline]
        for entry in found.arms
        for baseline in entry.against
    }
    said = {(a, b): CLAIMS.get(sentence(found.arm(a), b).outcome, 0) for a, b in gaps}
    agree(found, said)
    plain = t_tests(found, list(gaps))
    sharing = arms["ew"] - float(np.mean(list(alone.values())))
    last = wrong(shared(found), sharing)
    planted = [pair for pair in gaps if pair[0] == PLANTED and world.effect]
    held = [holds(found.arm(a).against[b], gap * world.size) for (a, b), gap in gaps.items()]
    joint = holds(found.joint, delta_m(world, arms["ew"], alone))
    return Counted(
        false=float(last or any(wrong(said[pair], gap) for pair, gap in gaps.items())),
        last=float(last),
        t_false=float(any(wrong(plain[pair], gap) for pair, gap in gaps.items())),
        found=mean(said[pair] == 1 for pair in planted),
        t_found=mean(plain[pair] == 1 for pair in planted),
        together=float(all(held) and joint),
        paired=mean(held),
        delta=mean(holds(e.delta, delta_m(world, arms[e.arm.label], alone)) for e in found.arms),
        metric=mean(metrics(world, found, arms, alone)),
        joint=float(joint),
    )


def wrong(claim: int, gap: float) -> bool:
    """Whether a claim is false; true differences are 0 but for rounding, or large."""
    return claim != 0 and (abs(gap) < 1e-6 or np.sign(gap) != claim)


def holds(estimate: Estimate | None, truth: float) -> bool:
    return estimate is not None and bool(estimate.low <= truth <= estimate.high)


def mean(values: Iterable[bool]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def agree(found: Findings, said: Mapping[tuple[str, str], int]) -> None:
    """The verdict names every arm that was said to differ, and claims nothing else."""
    sentences = [each for each in headline(found) if not each.text.startswith(JOINT)]
    text = " ".join(each.text for each in sentences)
    for (label, baseline), claim in said.items():
        # Random gradient weights against random weights are in the tables only.
        if claim and (label, baseline) != ("rgw", "rlw"):
            assert f"{label} +" in text or f"{label} −" in text, (label, baseline, text)
    if not any(said.values()):
        assert not any(each.outcome in CLAIMS for each in sentences), text


def shared(found: Findings) -> int:
    """What the verdict claims of one network for all tasks."""
    own = [each.outcome for each in headline(found) if each.text.startswith(JOINT)]
    return CLAIMS.get(own[0], 0) if own else 0


def t_tests(found: Findings, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """What paired t tests on the values of Delta_m claim, with Holm's correction over these pairs."""
    p, sign = [], []
    for label, baseline in pairs:
        gap = found.arm(label).deltas - found.arm(baseline).deltas
        p.append(stats.ttest_1samp(gap[np.isfinite(gap)], 0).pvalue)
        sign.append(int(np.sign(np.nanmean(gap))))
    shown = holm(np.array(p)) <= LEVEL
    return {pair: s if yes else 0 for pair, s, yes in zip(pairs, sign, shown, strict=True)}


def delta_m(world: World, arm: float, alone: Mapping[str, float]) -> float:
    """Delta_m, in percent, of expected scores."""
    own = score(arm, world.size)
    base = np.array([score(alone[task], world.size)[place] for place, task in enumerate(TASKS)])
    return float(np.mean(100 * np.array(SIGNS) * (own - base) / base))


def metrics(
    world: World, found: Findings, arms: Mapping[str, float], alone: Mapping[str, float]
) -> Iterator[bool]:
    """Whether each interval of the mean of a metric holds."""
    every = [(e, arms[e.arm.label]) for e in found.arms]
    every += [(e, alone[task]) for task, e in found.single.items()]
    for entry, u in every:
        for estimate, truth in zip(entry.metrics, score(u, world.size), strict=True):
            if estimate is not None:
                yield holds(estimate, float(truth))


def simulate(world: World, studies: int, first: int = 0) -> Counted:
    """Shares over studies; those of which a study has several are means of its shares."""
    counted = np.array([astuple(count(world, first + number)) for number in range(studies)])
    return Counted(*map(float, counted.mean(0)))


def worlds(args: argparse.Namespace) -> Iterator[World]:
    names = [each.name for each in fields(World)]
    for values in product(*(getattr(args, name) for name in names)):
        yield World(**dict(zip(names, values, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=400)
    for each in fields(World):
        parser.add_argument(
            f"--{each.name}", nargs="+", type=type(each.default), default=[each.default]
        )
    args = parser.parse_args()
    heads = (
        "false",
        "of those",
        "t false",
        "found",
        "t found",
        "together",
        "paired",
        "delta",
        "metric",
        "joint",
    )
    print(f"{' '.join(each.name for each in fields(World)):70s}  {'  '.join(heads)}")
    for world in worlds(args):
        counted = astuple(simulate(world, args.studies))
        cells = [
            f"{'-' if np.isnan(value) else f'{value:.3f}':>{len(head)}s}"
            for head, value in zip(heads, counted, strict=True)
        ]
        print(f"{' '.join(map(str, astuple(world))):70s}  {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
