"""Keys of a study that were given and would change nothing: each is a mistake, and told by its name."""

from __future__ import annotations

from collections.abc import Iterator

from equipoise.study.questions import PROTOCOLS
from equipoise.study.spec import Spec
from equipoise.study.values import Coarse


def without_effect(spec: Spec) -> Iterator[str]:
    """A sentence for every key that was given though the study as it is has no use for it."""
    given = {key for key in spec.model_fields_set if getattr(spec, key) is not None}
    protocol = PROTOCOLS[spec.protocol]
    how = spec.how
    if "weight_step" in given and protocol.fixed == "family":
        which = " or ".join(repr(each.id) for each in PROTOCOLS.values() if each.fixed != "family")
        yield (
            f"weight_step has no effect with protocol = {spec.protocol!r}, which tries no grid of fixed "
            f"weights; take it out, or take protocol = {which}"
        )
    if "tuning_seeds" in given and spec.tuning != "once":
        yield (
            "tuning_seeds has no effect where every seed tunes for itself; take it out, or take "
            "tuning = 'once'"
        )
    if "candidates" in given and how == "grid":
        yield (
            "candidates is for search = 'random' or 'optuna'; a grid has as many as its values make: take "
            "it out"
        )
    if spec.allow_unequal_budgets and not protocol.equal_budgets:
        yield (
            f"allow_unequal_budgets has no effect with protocol = {spec.protocol!r}, which never asks for "
            "equal ones; take it out"
        )
    if spec.allow_unequal_budgets and how != "grid":
        yield (
            f"allow_unequal_budgets has no effect with search = {how!r}, where candidates is the budget of "
            "every arm; take it out"
        )
    if {"weight_decay", "weight_decays"} <= given:
        yield "weight_decay and weight_decays exclude each other; give one of them"
    for method in spec.methods:
        for name, tried in method.search.items():
            if isinstance(tried, Coarse) and how != "grid":
                yield (
                    f"the coarse values of {name!r} of {method.id!r} are not refined with search = {how!r}; "
                    "give a list, or { low = ..., high = ... }"
                )
