"""Studies that come with a problem: its presets, with changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.problems.catalogue import presets
from equipoise.study.loading import parse
from equipoise.study.spec import Spec

# The name of the settings that are through in minutes.
QUICK = "quick"


def preset(problem: str, name: str | None = None) -> dict[str, Any]:
    """The study that a problem comes with.

    Args:
        problem: as :func:`equipoise.problems.problem` takes it.
        name: of the preset; None for the first.

    Raises:
        ValueError: there is no such problem or preset.
    """
    known = presets(problem)
    if not known:
        raise ValueError(
            f"problem {problem!r} comes with no settings; write a study that names it, a file NAME.toml"
        )
    if name is None:
        name = next(iter(known))
    if name not in known:
        raise ValueError(f"problem {problem!r} has no preset {name!r}; it has: {', '.join(known)}")
    return {"problem": problem, **known[name]}


def study(problem: str, preset_name: str | None = None, **changes: Any) -> Spec:
    """The study that a problem comes with.

    Args:
        problem: as :func:`equipoise.problems.problem` takes it.
        preset_name: of its settings; None for the first.
        changes: keys to replace; None leaves a key as it is.

    Raises:
        ValueError: there is no such problem or preset, or a change makes no sense.
    """
    return parse(changed(preset(problem, preset_name), changes), problem)


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A study with some of its keys replaced.

    Options of the problem join those that are there. Naming other methods keeps what the study says about
    those it knows. A method that carries learning rates of its own gives them up when those of the study are
    replaced.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    told = {each["id"]: each for each in content.get("methods", ()) if not isinstance(each, str)}
    if "methods" in given:
        given["methods"] = [told.get(each, each) for each in given["methods"]]
    if "learning_rates" in given:
        methods = given.get("methods", content.get("methods", ()))
        given["methods"] = [each if isinstance(each, str) else _own(each) for each in methods]
    if "problem_options" in given:
        given["problem_options"] = {
            **content.get("problem_options", {}),
            **given["problem_options"],
        }
    return {**content, **given}


def _own(method: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in method.items() if key not in ("search", "learning_rates")}
