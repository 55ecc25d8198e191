"""The result of a study as one object, for the terminal and for machines."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from equipoise.study import (
    ArmFindings,
    Findings,
    Store,
    advice,
    findings,
    headline,
    sentence,
    warnings,
)
from equipoise.study.across import Across, careful, verdict
from equipoise.study.analyses import robust_of, stability_of
from equipoise.study.statistics.moderation import FEWEST_PAIRS
from equipoise.study.verdict import outcome
from equipoise.study.words import counted


def summary(found: Findings) -> dict[str, Any]:
    """The result of a study; the keys are documented and stay."""
    return {
        "study": found.spec.title(),
        "problem": found.spec.problem,
        "protocol": found.spec.protocol,
        "seeds": list(found.spec.seeds),
        "reference": found.reference,
        "baselines": found.baselines,
        "gate": found.gate,
        "verdict": [each.text for each in headline(found)],
        "advice": advice(found),
        "warnings": [asdict(warning) for warning in warnings(found)],
        "arms": [_arm(found, each) for each in found.arms],
        "single_task": [
            {"task": task, **_tuned(found, each), "metrics": _metrics(found, each)}
            for task, each in found.single.items()
        ],
        "comparisons": [
            {
                "arm": each.arm.label,
                "baseline": baseline,
                "outcome": outcome(each, baseline),
                "text": sentence(each, baseline).text,
                **asdict(each.against[baseline]),
            }
            for baseline in found.baselines
            for each in found.arms
            if baseline in each.against
        ],
        "robust": [
            {"baseline": next(iter(found.baselines), None), **asdict(r)} for r in robust_of(found)
        ],
        "stability": [asdict(each) for each in stability_of(found)],
    }


def summary_across(found: Across) -> dict[str, Any]:
    """The result across problems; the keys are documented and stay."""
    test = found.test
    ranks = dict(zip(found.labels, [] if test is None else test.ranks.tolist(), strict=False))
    best = min(ranks, key=lambda label: ranks[label], default=None)
    robust = {each.label: each for each in found.robust}
    names = [problem.name for problem in found.problems]
    return {
        "problems": [
            {
                "name": each.name,
                "problem": each.found.spec.problem,
                "store": str(each.path),
                "seeds": list(each.found.spec.seeds),
                "verdict": each.line.text,
            }
            for each in found.problems
        ],
        "verdict": verdict(found),
        "warnings": careful(found),
        "friedman": None if test is None else {"p": test.p, "problems": test.problems},
        "nemenyi": None
        if test is None
        else {
            "critical_difference": test.critical,
            "level": 0.05,
            "best": best,
            "behind": found.behind,
        },
        "arms": [
            {
                "arm": label,
                "rank": ranks.get(label),
                "delta_m": dict(zip(names, own, strict=True)),
                "iqm": asdict(robust[label].iqm) if label in robust else None,
                "chance": asdict(chance)
                if label in robust and (chance := robust[label].chance) is not None
                else None,
                "sign_flip_p": robust[label].flips if label in robust else None,
            }
            for label, own in zip(found.labels, found.deltas.tolist(), strict=True)
        ],
        "baseline": found.baseline or None,
        "left_out": found.left_out,
        "stability": [asdict(each) for each in found.stability],
    }


def _tuned(found: Findings, each: ArmFindings) -> dict[str, Any]:
    """The setting that most seeds chose, and what each of them did."""
    settings = [
        {
            "learning_rate": candidate.learning_rate,
            "weight_decay": candidate.weight_decay,
            "options": json.loads(candidate.options),
            "seeds": [found.spec.seeds[place] for place in places],
        }
        for candidate, places in each.choice.chosen.items()
    ]
    most = dict(settings[0]) if settings else dict.fromkeys(_SETTING)
    return {**{key: most[key] for key in _SETTING}, "chosen": settings}


_SETTING = ("learning_rate", "weight_decay", "options")


def _metrics(found: Findings, each: ArmFindings) -> list[dict[str, Any]]:
    return [
        {"task": measure.task, "metric": measure.metric, **(asdict(mean) if mean else {})}
        for measure, mean in zip(found.measures, each.metrics, strict=True)
        if each.arm.task in (None, measure.task)
    ]


def _arm(found: Findings, each: ArmFindings) -> dict[str, Any]:
    return {
        "arm": each.arm.label,
        "method": each.arm.method,
        "control": each.arm.control,
        "outcomes": {label: outcome(each, label) for label in found.baselines},
        "delta_m": asdict(each.delta),
        "rank": each.rank,
        "step_ratio": each.spent.ratio if each.spent else None,
        **_tuned(found, each),
        "metrics": _metrics(found, each),
        "diverged": each.diverged,
        "failed": list(each.failed),
        "missing": each.missing,
    }


def nothing_compared(store: Store, found: Findings) -> str:
    """Why no method could be compared with any baseline, and what to do; empty where one could.

    Args:
        store: trials of the study.
        found: what it says at the main setting.
    """
    # At the main setting the numbers are there; the others are asked only if these say nothing.
    others = (findings(store, setting=name) for name in found.settings[1:])
    if any(_says_something(each) for each in (found, *others)):
        return ""
    trials = store.trials().values()
    failed = [each for each in trials if each.status == "failed"]
    diverged = [each for each in trials if each.status == "diverged"]
    noted = [each.note.splitlines()[-1] for each in (*failed, *diverged) if each.note]
    first = f", the first with: {noted[0]}" if noted else ""
    ended = (
        f"{len(diverged)} trials diverged, {len(failed)} failed{first}; 'equipoise show {store.path}' "
        "lists them"
    )
    if not any(
        t.status == "done" and t.trial.stage == "final" and not t.trial.task for t in trials
    ):
        return f"no final trial of a method finished: {ended}"
    seeds = len(found.spec.seeds)
    if seeds < FEWEST_PAIRS:
        return (
            f"{counted(seeds, 'seed')} cannot tell a difference from chance; take {FEWEST_PAIRS} or more, "
            "5 if you can (seeds = 5 in the study, or --seeds 5): what has run is kept"
        )
    if failed or diverged:
        return f"no method has {FEWEST_PAIRS} finished runs paired with a baseline's: {ended}"
    return (
        "differences are the same in every seed, so that they have no spread; does the seed reach network "
        "and data?"
    )


def _says_something(found: Findings) -> bool:
    return any(each.outcome != "untested" for each in headline(found))


def to_json(result: dict[str, Any]) -> str:
    """As JSON that every parser reads: what is not a finite number is null."""
    return json.dumps(_finite(result), indent=2, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
