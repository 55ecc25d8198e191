"""How a golden file's cases reach our methods.

A golden file holds cases of one method; an *adapter* runs one case and says what to compare:

    def adapter(case: Case, inputs: Inputs) -> Iterator[Comparison]

* ``case`` is the case as the file has it, plus ``case["method"]``, the file's method name.
* ``inputs`` is the file's ``inputs``; ``case["input"]`` names the one to use.
* It yields one ``Comparison`` a field: what was got and what the file expects. The harness applies
  the tolerance rule, demands finite numbers everywhere, compares nothing but ``grad`` in degenerate
  cases and leaves out ``weights`` where the file says that they are not unique. So an adapter never
  looks at tolerances, difficulties or ids.
* ``Skip("reason")`` skips a case; any other exception fails it (a ``SolverError`` too).

``golden_losses.ADAPTERS`` and ``golden_gradients.ADAPTERS`` map a file's method name to its
adapter. A method without one is tried with ``jacobian()`` and ``sequence()`` below, which build
``equipoise.method(name, **hyper)`` and compare the combined gradient and the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod, Method

Case = Mapping[str, Any]
Inputs = Mapping[str, Any]


class Skip(Exception):  # noqa: N818 - it is a verdict, not an error
    """A case that says nothing about our method, and why."""


@dataclass(frozen=True)
class Comparison:
    """One field of a case.

    Attributes:
        name: the file's field name; ``steps[3].weights`` in a sequence.
        got: our answer.
        want: the file's number(s); None demands finite numbers only.
        jacobian: the Jacobian of the step in gradient families (their ``atol`` is relative to it).
        alternatives: further answers that the file or its README calls legitimate.
    """

    name: str
    got: Tensor
    want: Any
    jacobian: Tensor | None = None
    alternatives: tuple[Any, ...] = field(default=())

    @property
    def leaf(self) -> str:
        """The field's name without its step."""
        return self.name.rpartition(".")[2]


Adapter = Callable[[Case, Inputs], Iterator[Comparison]]
Options = Callable[[Mapping[str, Any]], dict[str, Any]]


def tensor(numbers: Any) -> Tensor:
    """The file's numbers in float64."""
    return torch.tensor(numbers, dtype=torch.float64)


def _as_they_are(hyper: Mapping[str, Any]) -> dict[str, Any]:
    return dict(hyper)


def compare_direction(
    method: Method, J: Tensor, losses: Tensor, expected: Mapping[str, Any], prefix: str = ""
) -> Iterator[Comparison]:
    """Compares ``grad`` and, of a method that has weights, ``weights``; the state advances once."""
    weights: Tensor | None = None
    if isinstance(method, GramianMethod):
        weights = method.weights(J @ J.mT, losses).detach()
        grad = weights @ J
    else:
        grad = method.direction(J, losses)
    yield Comparison(prefix + "grad", grad, expected.get("grad"), J)
    if weights is not None:
        yield Comparison(prefix + "weights", weights, expected.get("weights"), J)


def jacobian(options: Options = _as_they_are) -> Adapter:
    """An adapter for one-shot cases: ``options`` turns the case's ``hyper`` into our options."""

    def adapter(case: Case, inputs: Inputs) -> Iterator[Comparison]:
        given = inputs[case["input"]]
        method = equipoise.method(case["method"], **options(case["hyper"]))
        yield from compare_direction(
            method, tensor(given["J"]), tensor(given["losses"]), case["expected"]
        )

    return adapter


def sequence(options: Options = _as_they_are) -> Adapter:
    """An adapter for sequences with one Jacobian a step; the method keeps its state."""

    def adapter(case: Case, inputs: Inputs) -> Iterator[Comparison]:
        method = equipoise.method(case["method"], **options(case["hyper"]))
        given = inputs[case["input"]]["steps"]
        for t, step in enumerate(case["steps"]):
            yield from compare_direction(
                method,
                tensor(given[t]["J"]),
                tensor(given[t]["losses"]),
                step["expected"],
                f"steps[{t}].",
            )

    return adapter


def by_kind(**adapters: Adapter) -> Adapter:
    """Joins adapters of a file that holds several kinds of cases."""

    def adapter(case: Case, inputs: Inputs) -> Iterator[Comparison]:
        yield from adapters[case["kind"]](case, inputs)

    return adapter


GENERIC: Adapter = by_kind(jacobian=jacobian(), jacobian_sequence=sequence())
