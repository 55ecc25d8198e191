"""Protocols: what is compared with what, and why, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.study.fixed import FIXED


@dataclass(frozen=True)
class Protocol:
    """A way to compare.

    Attributes:
        id: as a study names it.
        question: what it answers.
        source: where it is from.
        controls: methods that are in every study of this protocol, next to the single-task networks.
        baselines: labels of the arms that every other is compared with, the most important one first. All
            these comparisons are one family.
    """

    id: str
    question: str
    source: str
    controls: tuple[tuple[str, Mapping[str, Any]], ...]
    baselines: tuple[str, ...] = (FIXED, "ew", "rlw")


_RANDOM_WEIGHTING = (
    "Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task "
    "Learning, TMLR 2022, arXiv:2111.10603"
)
_DISTRIBUTIONS = ("normal", "uniform", "dirichlet", "bernoulli", "constrained_bernoulli")

PROTOCOLS: Mapping[str, Protocol] = {
    "litmus": Protocol(
        "litmus",
        "Does a method do better than tuned fixed weights, than equal weights, and than random ones?",
        _RANDOM_WEIGHTING,
        (("ew", {}), ("rlw", {}), ("rgw", {})),
    ),
    "litmus_distributions": Protocol(
        "litmus_distributions",
        "As litmus, with every distribution of random weights.",
        _RANDOM_WEIGHTING,
        (
            ("ew", {}),
            *(("rlw", {"distribution": each}) for each in _DISTRIBUTIONS),
            *(("rgw", {"distribution": each}) for each in _DISTRIBUTIONS),
        ),
        baselines=(FIXED, "ew", "rlw (distribution=normal)"),
    ),
}
