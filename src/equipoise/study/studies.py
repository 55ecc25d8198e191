"""Studies that ship with the package, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.study.loading import parse
from equipoise.study.spec import Spec

STUDIES: Mapping[str, Mapping[str, Any]] = {
    "digits": {
        "problem": "digits",
        "protocol": "litmus",
        "methods": [
            "ew",
            "rlw",
            "rgw",
            "uw",
            "uw_o",
            # Its paper tunes the temperature; it spends on it the trials that others spend on the
            # learning rate. The values bracket 1 / loss of the three tasks, which is where it acts.
            {
                "id": "uw_so",
                "label": "uw_so",
                "search": {"temperature": [5.0, 30.0, 180.0]},
                "learning_rates": [0.012],
            },
            "imtl_l",
            "mgda",
            "pcgrad",
            "cagrad",
        ],
        "learning_rates": [0.005, 0.012, 0.03],
        "seeds": 5,
        "epochs": 6,
        "batch_size": 64,
        "weight_decay": 0.0001,
    },
}


def study(name: str, **changes: Any) -> Spec:
    """A study that ships with the package.

    Args:
        name: of :data:`STUDIES`.
        changes: keys to replace; None leaves a key as it is.

    Raises:
        ValueError: there is no such study, or a change makes no sense.
    """
    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}; known: {', '.join(STUDIES)}, or a TOML file")
    return parse(changed(STUDIES[name], changes), name)


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A study with some of its keys replaced.

    Naming other methods keeps what the study says about those it knows. A method that carries learning
    rates of its own gives them up when those of the study are replaced.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    told = {each["id"]: each for each in content.get("methods", ()) if not isinstance(each, str)}
    if "methods" in given:
        given["methods"] = [told.get(each, each) for each in given["methods"]]
    if "learning_rates" in given:
        methods = given.get("methods", content.get("methods", ()))
        given["methods"] = [each if isinstance(each, str) else _own(each) for each in methods]
    return {**content, **given}


def _own(method: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in method.items() if key not in ("search", "learning_rates")}
