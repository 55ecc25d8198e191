"""One method of a study, as a TOML file names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator, model_validator

from equipoise.methods.catalogue import find
from equipoise.study.labels import refuse_taken
from equipoise.study.trial import SINGLE_TASK
from equipoise.study.values import STRICT, Plain, Rates, Tried

# What is tuned for every method, and what the study itself gives to every balancer.
TUNED = {
    "learning_rate": "learning_rates",
    "learning_rates": "learning_rates",
    "weight_decay": "weight_decays",
    "weight_decays": "weight_decays",
}
GIVEN = ("method", "tasks", "seed")


class MethodSpec(BaseModel):
    """One method of a study.

    Attributes:
        id: as ``equipoise methods`` lists it, or a class of yours, ``"my_method.py:Class"``.
        options: fixed options.
        arguments: of the balancer around it, such as ``heads``, ``weight_sum`` or ``update_every``.
        search: options to be tuned, each with the values to try; with ``{ coarse = [...], fine = 4 }``, which
            tries finer values around the best one afterwards; or with ``{ low = ..., high = ... }`` where
            candidates are drawn.
        learning_rates: to try with this method, instead of those of the study.
        label: how tables call it.
    """

    model_config = STRICT

    id: str
    options: dict[str, Plain] = {}
    arguments: dict[str, Plain] = {}
    search: dict[str, Tried] = {}
    learning_rates: Rates | None = None
    label: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("learning_rates", "search")
    @classmethod
    def _once(cls, value: Any) -> Any:
        for tried in value.values() if isinstance(value, dict) else [value]:
            if isinstance(tried, list) and any(each in tried[:k] for k, each in enumerate(tried)):
                raise ValueError(f"{tried} repeats an entry; each is tried once")
        return value

    @field_validator("id")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != SINGLE_TASK and ":" not in value:
            find(value)
        return value

    @model_validator(mode="after")
    def _each_once(self) -> MethodSpec:
        places: Mapping[str, Mapping[str, Any]] = {
            "options": self.options,
            "arguments": self.arguments,
            "search": self.search,
        }
        seen: dict[str, str] = {}
        for place, names in places.items():
            for name in names:
                if name in seen:
                    raise ValueError(
                        f"{name!r} of {self.id!r} is in {seen[name]} and in {place}; give it in one of them"
                    )
                seen[name] = place
        for name in self.search:
            if name in TUNED:
                raise ValueError(
                    f"{name!r} of {self.id!r} is no option to search; {TUNED[name]} has the values to try"
                )
        for name in GIVEN:
            # A class of the user's may have an option of that name.
            if name in seen and not (seen[name] != "arguments" and ":" in self.id):
                raise ValueError(
                    f"{name!r} in {seen[name]} of {self.id!r} has no effect: the study gives it; take it out"
                )
        if self.label is not None:
            refuse_taken(self.label, self.id)
        return self
