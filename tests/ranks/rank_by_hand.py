"""What ranks do that do not see each other's gradients, computed step by step in one process."""

from __future__ import annotations

from typing import Any

import torch
from rank_cases import Case, Outcome
from rank_network import EXAMPLES, TASKS, alone, batch, losses_of, new_network
from torch import Tensor

import equipoise


def run_by_hand(case: Case, ranks: int, common_gramian: bool) -> list[Outcome]:
    """The outcome of every rank.

    Args:
        case: a method that looks at losses or at Gramians, at the parameters.
        ranks: their number.
        common_gramian: whether Gramians and losses are averaged before weights are sought; else every
            rank seeks its own weights.
    """
    network = new_network()
    methods = []
    for rank in range(ranks):
        torch.manual_seed(5 + rank)
        methods.append(equipoise.method(case.method))
        methods[-1].begin(len(TASKS))
    trunk = list(network.trunk.parameters())
    outcomes = [Outcome() for _ in range(ranks)]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for step in range(case.steps):
        rows, values, heads = [], [], []
        for rank in range(ranks):
            data = batch(step).part((EXAMPLES // ranks,) * ranks, rank)
            losses: Any = network(data, alone, losses_of)
            own = [list(network.heads[task].parameters()) for task in TASKS]
            got = [
                torch.autograd.grad(loss, [*trunk, *of_task], retain_graph=True)
                for loss, of_task in zip(losses.values(), own, strict=True)
            ]
            rows.append(torch.stack([_flat(g[: len(trunk)]) for g in got]))
            heads.append([g[len(trunk) :] for g in got])
            values.append(torch.stack([loss.detach() for loss in losses.values()]))
        gramians = [j @ j.T for j in rows]
        if common_gramian:
            gramians = [sum(gramians) / ranks] * ranks
            values = [sum(values) / ranks] * ranks
        if common_gramian:
            # What is drawn comes from the first rank's seed.
            weights = [_weights(methods[0], gramians[0], values[0])] * ranks
        else:
            weights = [_weights(*each) for each in zip(methods, gramians, values, strict=True)]
        flat = sum(w @ j for w, j in zip(weights, rows, strict=True)) / ranks
        gradients = {f"trunk.{n}": p for n, p in network.trunk.named_parameters()}
        pieces = flat.split([p.numel() for p in trunk])
        gradients = {n: g.view_as(p) for (n, p), g in zip(gradients.items(), pieces, strict=True)}
        weighted = methods[0].card.heads == "weighted"
        for k, task in enumerate(TASKS):
            for i, (name, _) in enumerate(network.heads[task].named_parameters()):
                gradients[f"heads.{task}.{name}"] = (
                    sum((weights[r][k] if weighted else 1.0) * heads[r][k][i] for r in range(ranks))
                    / ranks
                )
        for name, parameter in network.named_parameters():
            parameter.grad = gradients[name].clone()
        optimizer.step()
        if step % 2:
            for method in methods:
                method.end_epoch()
        for outcome, w in zip(outcomes, weights, strict=True):
            outcome.gradients.append(gradients)
            outcome.weights.append(dict(zip(TASKS, w.tolist(), strict=True)))
    return outcomes


def _flat(tensors: Any) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def _weights(method: Any, gramian: Tensor, values: Tensor) -> Tensor:
    looks_at = (values,) if method.needs == "losses" else (gramian, values)
    weights: Tensor = method.weights(*looks_at).detach()
    return weights
