"""The statistics of a comparison, as functions on arrays."""

from equipoise.study.statistics.calibration import multipliers
from equipoise.study.statistics.deltas import (
    Array,
    Change,
    Mask,
    change,
    delta_m,
    delta_m_flat,
    near_zero,
    relative_change,
    usual_spread,
)
from equipoise.study.statistics.estimates import (
    Estimate,
    bootstrap_iqm,
    expanded_percentiles,
    interquartile_mean,
    mean_interval,
    paired_delta_m,
    paired_deltas,
)
from equipoise.study.statistics.families import Difference, compare, holm
from equipoise.study.statistics.fronts import (
    additive_epsilon,
    dominated,
    front,
    hypervolume,
    igd_plus,
)
from equipoise.study.statistics.moderation import moderated, paired_tests
from equipoise.study.statistics.power import seeds_needed, smallest_detectable
from equipoise.study.statistics.ranks import (
    Friedman,
    friedman,
    mean_rank,
    without_each_arm,
    without_each_task,
)
from equipoise.study.statistics.runs import (
    performance_profile,
    probability_of_improvement,
    sign_flip,
)
from equipoise.study.statistics.variance import variance_shares

__all__ = [
    "Array",
    "Change",
    "Difference",
    "Estimate",
    "Friedman",
    "Mask",
    "additive_epsilon",
    "bootstrap_iqm",
    "change",
    "compare",
    "delta_m",
    "delta_m_flat",
    "dominated",
    "expanded_percentiles",
    "friedman",
    "front",
    "holm",
    "hypervolume",
    "igd_plus",
    "interquartile_mean",
    "mean_interval",
    "mean_rank",
    "moderated",
    "multipliers",
    "near_zero",
    "paired_delta_m",
    "paired_deltas",
    "paired_tests",
    "performance_profile",
    "probability_of_improvement",
    "relative_change",
    "seeds_needed",
    "sign_flip",
    "smallest_detectable",
    "usual_spread",
    "variance_shares",
    "without_each_arm",
    "without_each_task",
]
