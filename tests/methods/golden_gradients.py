"""Adapters of the golden files of gradient methods."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import torch
from golden_adapter import Adapter, Case, Comparison, Inputs, by_kind, jacobian, tensor

import equipoise
from equipoise.methods.graddrop import GradDrop
from equipoise.methods.pcgrad import project


def given(case: Case, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    record = inputs[case["input"]]
    return tensor(record["J"]), tensor(record["losses"])


def mgda(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """Where several weights are minimisers, what they share is the shortest *normalised* point."""
    spelt = {"loss+": "loss_plus"}
    name = case["hyper"]["normalization"]
    adapter = jacobian(lambda hyper: {"normalization": spelt.get(name, name)})
    if case["weights_unique"] is not False or name == "none":
        yield from adapter(case, inputs)
        return
    J, losses = given(case, inputs)
    norms = J.norm(dim=1) if name != "loss" else torch.ones(len(J), dtype=J.dtype)
    norms = norms.masked_fill(norms == 0, 1.0) * (losses if name != "l2" else 1.0)
    for got in adapter(case, inputs):
        if got.leaf == "weights":
            normalised = (got.got / norms) @ J
            yield Comparison("grad", normalised, case["expected"]["grad_normalized"], J)


def cagrad(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """Also the two rescaled updates, and what holds where the paper's direction is not unique."""
    J, losses = given(case, inputs)
    c, expected = case["hyper"]["c"], case["expected"]
    for rescale, key in enumerate(("grad", "grad_rescale_1", "grad_rescale_2")):
        weights = equipoise.method("cagrad", c=c, rescale=rescale).weights(J @ J.mT, losses)
        yield Comparison(key, weights @ J, expected[key], J)
        if rescale:
            continue
        yield Comparison("weights", weights, expected["weights"], J)
        if expected["grad"] is None:
            mean = J.mean(0)
            slack = 1e-9 * J.abs().max() ** 2
            improvements = J @ (weights @ J)
            radius = (weights @ J - mean).norm() - c * mean.norm()
            yield Comparison("grad", (improvements + slack).clamp_max(0), [0.0] * len(J), J)
            yield Comparison("grad", (radius - slack).clamp_min(0), 0.0, J)


def pcgrad(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """Puts the recorded orders, or every order there is, in place of the generator's."""
    J, _ = given(case, inputs)
    gramian, tasks = J @ J.mT, len(J)
    if isinstance(case["hyper"]["orders"], str):
        every = permutations(range(tasks - 1))
        orders = torch.tensor([[_others(i, tasks, order) for i in range(tasks)] for order in every])
    else:
        orders = torch.tensor(
            [[[j for j in row if j != i] for i, row in enumerate(case["hyper"]["orders"])]]
        )
    weights = project(gramian.expand(len(orders), tasks, tasks), orders).sum(-2).mean(0)
    yield Comparison("grad", weights @ J, case["expected"]["grad"], J)
    yield Comparison("weights", weights, case["expected"]["weights"], J)


def _others(i: int, tasks: int, order: tuple[int, ...]) -> list[int]:
    others = [j for j in range(tasks) if j != i]
    return [others[k] for k in order]


def drawn(leak: Any, draws: Any) -> GradDrop:
    """GradDrop with the recorded draws."""
    method = GradDrop(leak=leak)
    method.draw = lambda shape, device: tensor(draws)  # type: ignore[method-assign]
    return method


def graddrop(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    J, losses = given(case, inputs)
    method = drawn(case["hyper"]["leak"], case["hyper"]["uniform_draws"])
    yield Comparison("grad", method.direction(J, losses), case["expected"]["grad"], J)


def graddrop_features(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    features, gradients = tensor(case["representation"]), tensor(case["rep_grads"])
    method = drawn(case["hyper"]["leak"], case["hyper"]["uniform_draws"])
    losses = torch.ones(len(gradients), dtype=torch.float64)
    (combined,) = method.combine_features([gradients], [features], losses)
    yield Comparison("grad", combined, case["expected"]["grad"], gradients)


ADAPTERS: dict[str, Adapter] = {
    "mgda": mgda,
    "cagrad": cagrad,
    "pcgrad": pcgrad,
    "graddrop": by_kind(jacobian=graddrop, representation=graddrop_features),
}
