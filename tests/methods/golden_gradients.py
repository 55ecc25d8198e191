"""Adapters of the golden files of gradient methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import torch
from golden_adapter import Adapter, Case, Comparison, Inputs, by_kind, jacobian, sequence, tensor

import equipoise
from equipoise.methods.excess_mtl import ExcessMTL
from equipoise.methods.graddrop import GradDrop
from equipoise.methods.gradnorm import GradNorm
from equipoise.methods.gradvac import vaccinate
from equipoise.methods.moco import MoCo
from equipoise.methods.modo import MoDo
from equipoise.methods.pcgrad import project
from equipoise.methods.pivrg import PIVRG
from equipoise.methods.sdmgrad import SDMGrad


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


def steps(case: Case, inputs: Inputs) -> Iterator[tuple[str, Any, Any]]:
    """Prefix of the field names, inputs and case record of each step."""
    for t, (record, step) in enumerate(
        zip(inputs[case["input"]]["steps"], case["steps"], strict=False)
    ):
        yield f"steps[{t}].", record, step


def aligned_mtl(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """Also with preference 1 / K; where the rank is a matter of rounding, both ranks are right."""
    J, losses = given(case, inputs)
    expected, mode = case["expected"], case["hyper"]["scale_mode"]
    other = expected.get("alternative_full_rank") or {}
    for suffix, preference in (("", 1.0), ("_mean_pref", 1 / len(J))):
        method = equipoise.method("aligned_mtl", scale_mode=mode, preference=preference)
        weights = method.weights(J @ J.mT, losses)
        for name, got in (("grad", weights @ J), ("weights", weights)):
            key = name + suffix
            also = (other[name],) if not suffix and name in other else ()
            if suffix and other:
                also = ((torch.tensor(other[name], dtype=J.dtype) / len(J)).tolist(),)
            yield Comparison(key, got, expected[key], J, also)


def pivrg(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    J, losses = given(case, inputs)
    hyper, expected = case["hyper"], case["expected"]
    method = PIVRG(bound=hyper["bound"], min_temperature=hyper["mintemp"])
    method.update_scores(hyper["scores"])
    weights = method.weights(J @ J.mT, losses)
    yield Comparison("grad", weights @ J, expected["grad"], J)
    yield Comparison("weights", weights, expected["weights"], J)


def nash_mtl(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """The paper's weights, and the public code's clipped gradient."""
    J, losses = given(case, inputs)
    expected = case["expected"]
    weights = equipoise.method("nash_mtl").weights(J @ J.mT, losses)
    yield Comparison("grad", weights @ J, expected["grad"], J)
    yield Comparison("weights", weights, expected["weights"], J)
    clipped = equipoise.method("nash_mtl", max_norm=case["hyper"]["max_norm"])
    yield Comparison("grad", clipped.direction(J, losses), expected["grad_clip1"], J)


def nash_mtl_sequence(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """The balancer reuses weights between updates; here that is one line."""
    method, every = equipoise.method("nash_mtl"), case["hyper"]["update_weights_every"]
    weights = torch.empty(0)
    for t, (prefix, record, step) in enumerate(steps(case, inputs)):
        J, losses = tensor(record["J"]), tensor(record["losses"])
        if t % every == 0:
            weights = method.weights(J @ J.mT, losses)
        yield Comparison(prefix + "weights", weights, step["expected"]["weights"], J)
        yield Comparison(prefix + "grad", weights @ J, step["expected"]["grad"], J)


def preference(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """UPGrad and DualProj: ``"mean"`` is their default."""
    J, losses = given(case, inputs)
    pref, expected = case["hyper"]["pref"], case["expected"]
    method = equipoise.method(case["method"], preference=None if pref == "mean" else pref)
    weights = method.weights(J @ J.mT, losses)
    yield Comparison("grad", weights @ J, expected["grad"], J)
    yield Comparison("weights", weights, expected["weights"], J)
    conflict = (J @ (weights @ J) + 1e-9 * J.abs().max() ** 2).clamp_max(0)
    yield Comparison("grad", conflict, [0.0] * len(J), J)


def gradvac(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """With groups of parameters, one Gramian and one set of targets a group."""
    hyper = case["hyper"]
    phis: dict[int, torch.Tensor] = {}
    for prefix, record, step in steps(case, inputs):
        J, expected = tensor(record["J"]), step["expected"]
        whole = hyper["groups"] == "whole_model"
        blocks = [J] if whole else list(J.split(hyper["groups"], 1))
        orders = torch.tensor(step["orders"])
        grads, weights = [], J.new_zeros(len(J))
        for g, block in enumerate(blocks):
            gramian = block @ block.mT
            phi = phis.get(g, torch.zeros_like(gramian))
            rows, phis[g] = vaccinate(gramian, orders, phi, hyper["beta"])
            weights = rows.sum(0)
            grads.append(weights @ block)
        yield Comparison(prefix + "grad", torch.cat(grads), expected["grad"], J)
        phi_after = phis[0] if whole else torch.stack([phis[g] for g in range(len(blocks))])
        yield Comparison(prefix + "phi_after", phi_after, expected["phi_after"], J)
        if whole:
            yield Comparison(prefix + "weights", weights, expected["weights"], J)


def gradnorm(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    hyper = case["hyper"]
    optimizer, _, lr = hyper["optimizer"].partition("_")
    softmax = "softmax" in hyper["parametrisation"]
    method = GradNorm(
        alpha=hyper["alpha"],
        lr=float(lr),
        optimizer=optimizer,
        form="softmax" if softmax else "paper",
        initial_losses=hyper.get("initial_losses"),
    )
    for prefix, record, step in steps(case, inputs):
        J, losses, expected = tensor(record["J"]), tensor(record["losses"]), step["expected"]
        weights = method.weights(J @ J.mT, losses)
        yield Comparison(prefix + "weights", weights, expected["weights"], J)
        after = "s_after" if softmax else "weights_after"
        yield Comparison(prefix + after, method.moved, expected[after], J)
        if softmax:
            yield Comparison(prefix + "grad", weights @ J, expected["grad"], J)


def db_mtl_options(hyper: Mapping[str, Any]) -> dict[str, Any]:
    return {"beta": hyper["beta"], "beta_sigma": hyper["beta_sigma"]}


def excess_mtl(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    method = ExcessMTL(case["hyper"]["robust_step_size"])
    for prefix, record, step in steps(case, inputs):
        J, losses, expected = tensor(record["J"]), tensor(record["losses"]), step["expected"]
        yield Comparison(prefix + "grad", method.direction(J, losses), expected["grad"], J)
        yield Comparison(prefix + "weights", method.kept, expected["weights"], J)


def moco(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """The file holds LibMTL's form."""
    names = ("beta", "beta_sigma", "gamma", "gamma_sigma", "rho")
    method = MoCo(
        **{name: case["hyper"][name] for name in names}, onto_simplex="softmax", normalized=True
    )
    for prefix, record, step in steps(case, inputs):
        J, losses, expected = tensor(record["J"]), tensor(record["losses"]), step["expected"]
        yield Comparison(prefix + "grad", method.direction(J, losses), expected["grad"], J)
        yield Comparison(prefix + "lambda", method.kept, expected["lambda"], J)


def modo(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    method = MoDo(gamma=case["hyper"]["gamma"], rho=case["hyper"]["rho"])
    for prefix, record, step in steps(case, inputs):
        batches = [tensor(J) for J in record["J"]]
        grad = method.direction(batches, torch.ones(len(batches[0])))
        yield Comparison(prefix + "grad", grad, step["expected"]["grad"], batches[2])
        yield Comparison(prefix + "lambda", method.kept, step["expected"]["lambda"], batches[2])


def sdmgrad(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """The file puts the batch of the update first."""
    hyper = case["hyper"]
    method = SDMGrad(
        pull=hyper["lambda"],
        lr=hyper["lr"],
        n_iter=hyper["n_iter"],
        momentum=hyper["momentum"],
        norms="smoothed" if hyper["form"] == "official" else "clamped",
    )
    for prefix, record, step in steps(case, inputs):
        update, first, second = (tensor(J) for J in record["J"])
        grad = method.direction([first, second, update], torch.ones(len(update)))
        yield Comparison(prefix + "grad", grad, step["expected"]["grad"], update)
        yield Comparison(prefix + "w", method.kept, step["expected"]["w"], update)


ADAPTERS: dict[str, Adapter] = {
    "aligned_mtl": aligned_mtl,
    "cagrad": cagrad,
    "db_mtl": sequence(db_mtl_options),
    "dualproj": preference,
    "excess_mtl": excess_mtl,
    "graddrop": by_kind(jacobian=graddrop, representation=graddrop_features),
    "gradnorm": gradnorm,
    "gradvac": gradvac,
    "mgda": mgda,
    "moco": moco,
    "modo": modo,
    "nash_mtl": by_kind(jacobian=nash_mtl, jacobian_sequence=nash_mtl_sequence),
    "pcgrad": pcgrad,
    "pivrg": pivrg,
    "sdmgrad": sdmgrad,
    "upgrad": preference,
}
