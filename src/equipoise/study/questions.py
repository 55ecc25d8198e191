"""Protocols: what is compared with what, and why, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from equipoise.study.fixed import FIXED

Search = Literal["grid", "random", "optuna"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way to compare.

    Attributes:
        id: as a study names it.
        question: what it answers.
        source: where it is from.
        controls: methods that are in every study of this protocol, next to the single-task networks.
        baselines: labels of the arms that every other is compared with, the most important one first. All
            these comparisons are one family.
        fixed: how fixed weights are sought: ``"family"``, with the budget of the other arms; by brute force
            over a grid of the weights (``"simplex"``), or of the tasks' shares in the first loss
            (``"shares"``).
        equal_budgets: whether all arms must have as many candidates.
        sampled: whether fixed weights are also tried as chances of sampling tasks.
        frozen: whether the mean weights of every dynamic method are tried as fixed ones.
        refined: options that are searched coarsely, then finely, by method: multiples of the largest
            1 / (loss before training).
        search: how candidates are found, unless the study says otherwise.
    """

    id: str
    question: str
    source: str
    controls: tuple[tuple[str, Mapping[str, Any]], ...] = (("ew", {}), ("rlw", {}), ("rgw", {}))
    baselines: tuple[str, ...] = (FIXED, "ew", "rlw")
    fixed: Literal["family", "simplex", "shares"] = "family"
    equal_budgets: bool = True
    sampled: bool = False
    frozen: bool = False
    refined: Mapping[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)
    search: Search = "grid"


_RANDOM_WEIGHTING = (
    "Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task "
    "Learning, TMLR 2022, arXiv:2111.10603"
)
_UNCERTAINTY = (
    "Kirchdorfer et al., Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning, GCPR 2024, "
    "arXiv:2408.07985"
)
_EVEN_HELP = (
    "Xin et al., Do Current Multi-Task Optimization Methods in Deep Learning Even Help?, NeurIPS 2022, "
    "arXiv:2209.11379"
)
_DISTRIBUTIONS = ("normal", "uniform", "dirichlet", "bernoulli", "constrained_bernoulli")

PROTOCOLS: Mapping[str, Protocol] = {
    each.id: each
    for each in (
        Protocol(
            id="litmus",
            question=(
                "Does a method do better than tuned fixed weights, than equal weights, and than random ones?"
            ),
            source=_RANDOM_WEIGHTING,
        ),
        Protocol(
            id="litmus_distributions",
            question="As litmus, with every distribution of random weights.",
            source=_RANDOM_WEIGHTING,
            controls=(
                ("ew", {}),
                *(("rlw", {"distribution": each}) for each in _DISTRIBUTIONS),
                *(("rgw", {"distribution": each}) for each in _DISTRIBUTIONS),
            ),
            baselines=(FIXED, "ew", "rlw (distribution=normal)"),
        ),
        Protocol(
            id="weighting",
            question=(
                "How close do methods that weight losses come to fixed weights found by brute force, and "
                "what do learning rate, weight decay and the size of the network change?"
            ),
            source=_UNCERTAINTY,
            fixed="simplex",
            equal_budgets=False,
            refined={"uw_so": ("temperature", (0.25, 1.0, 4.0, 16.0))},
        ),
        Protocol(
            id="frontier",
            question=(
                "Does any method reach a trade-off between the tasks beyond those of fixed weights, which "
                "are tried all along the front?"
            ),
            source=_EVEN_HELP,
            controls=(("ew", {}), ("rlw", {}), ("rlw", {"distribution": "dirichlet"}), ("rgw", {})),
            fixed="shares",
            equal_budgets=False,
            sampled=True,
            frozen=True,
        ),
        Protocol(
            id="tune",
            question=(
                "What are the best settings of each method within a budget, and is it then better than "
                "fixed, equal and random weights?"
            ),
            source="Akiba et al., Optuna, KDD 2019, arXiv:1907.10902",
            search="optuna",
        ),
    )
}
