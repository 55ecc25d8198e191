"""Adapters of the golden files of loss methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from golden_adapter import Adapter, Case, Comparison, Inputs, Options, by_kind, tensor
from torch import Tensor, nn

import equipoise
from equipoise.methods.base import LossMethod
from equipoise.methods.famo import FAMO
from equipoise.methods.go4align import GO4Align
from equipoise.methods.random_weights import RandomWeights
from equipoise.methods.stch import STCH


def build(name: str, **options: Any) -> LossMethod:
    return cast(LossMethod, equipoise.method(name, **options))


def total(method: LossMethod, weights: Tensor, losses: Tensor) -> Tensor:
    """The scalar a training step differentiates."""
    value = (weights * losses).sum()
    penalty = method.penalty()
    return value if penalty is None else value + penalty.sum()


def steps(case: Case, inputs: Inputs) -> Iterator[tuple[int, Mapping[str, Any], Mapping[str, Any]]]:
    """Number, inputs and expected values of each step of a sequence."""
    given = inputs[case["input"]]["steps"]
    for t, step in enumerate(case["steps"]):
        yield t, given[t], step["expected"]


def one_shot(options: Options, *, name: str | None = None, value: bool = True) -> Adapter:
    """Compares the weights and, where it is the weighted sum, the value of the combined loss."""

    def adapter(case: Case, inputs: Inputs) -> Iterator[Comparison]:
        losses = tensor(case["losses"])
        method = build(name or case["method"], **options(case["hyper"]))
        weights = method.weights(losses).detach()
        yield Comparison("weights", weights, case["expected"]["weights"])
        if value:
            yield Comparison("total", total(method, weights, losses), case["expected"]["total"])

    return adapter


def ew(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """The file holds the sum and the mean; they are two methods here."""
    names = {"sum": "ew", "mean": "mean"}
    yield from one_shot(lambda hyper: {}, name=names[case["hyper"]["reduction"]])(case, inputs)


def rlw(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """Puts the recorded draws in place of the generator's."""
    losses = tensor(case["losses"])
    distribution, draws = case["hyper"]["distribution"], case["hyper"]["draws"]
    for name in ("rlw", "rgw"):
        method = equipoise.method(name, distribution=distribution)
        assert isinstance(method, RandomWeights)
        if distribution == "random_normal":
            method.mean = tensor(draws["mean"])
            method.std = tensor(draws["std"])
            raw = tensor(draws["z"])
        elif distribution == "constrained_bernoulli":
            raw = nn.functional.one_hot(torch.tensor(draws), losses.shape[0]).double()
        else:
            raw = tensor(draws)
        method.draw = lambda shape, raw=raw: raw  # type: ignore[method-assign]
        weights = method.draw_weights(losses)
        yield Comparison("weights", weights, case["expected"]["weights"])
        yield Comparison("total", weights @ losses, case["expected"]["total"])


def learned(options: Options) -> Adapter:
    """Trains the method's own numbers with the optimiser the case names."""

    def adapter(case: Case, inputs: Inputs) -> Iterator[Comparison]:
        method = build(case["method"], **options(case["hyper"]))
        method.begin(len(inputs[case["input"]]["steps"][0]["losses"]))
        method.double()
        optimizer = _optimizer(case["hyper"]["optimizer"], method)
        (s,) = method.parameters()
        for t, given, want in steps(case, inputs):
            losses = tensor(given["losses"])
            yield Comparison(f"steps[{t}].s_before", s.detach().clone(), want["s_before"])
            weights = method.weights(losses)
            value = total(method, weights, losses)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            yield Comparison(f"steps[{t}].weights", weights.detach(), want["weights"])
            yield Comparison(f"steps[{t}].total", value.detach(), want["total"])
            yield Comparison(f"steps[{t}].s_after", s.detach().clone(), want["s_after"])

    return adapter


def _optimizer(name: str, method: LossMethod) -> torch.optim.Optimizer:
    kind, _, rate = name.partition("_")
    kinds: Mapping[str, type[torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
    }
    return kinds[kind](method.parameters(), lr=float(rate))  # type: ignore[call-arg]


def dwa(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """A step of the file is an epoch, or one iteration of the sliding window."""
    hyper = case["hyper"]
    sliding = "iteration_window" in hyper
    options = {"window": hyper["iteration_window"]} if sliding else {}
    method = build("dwa", temperature=hyper["temperature"], **options)
    for t, given, want in steps(case, inputs):
        if sliding:
            losses = tensor(given["losses"])
            weights = method.weights(losses)
            yield Comparison(f"steps[{t}].weights", weights, want["weights"])
            mean = (weights * losses).mean()
            yield Comparison(f"steps[{t}].total_mean", mean, want["total_mean"])
            continue
        batches = tensor(given["batch_losses"])
        every = torch.stack([method.weights(losses) for losses in batches])
        for weights in every:
            yield Comparison(f"steps[{t}].weights", weights, want["weights"])
        first = every[0] @ batches[0]
        yield Comparison(f"steps[{t}].total_first_batch", first, want["total_first_batch"])
        method.end_epoch()


def famo(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """Steps with the losses before and after the update of the network."""
    hyper = case["hyper"]
    options = {name: hyper[name] for name in ("gamma", "min_losses", "eps")}
    method = cast(FAMO, build("famo", lr=hyper["w_lr"], **options))
    for t, given, want in steps(case, inputs):
        losses = tensor(given["losses"])
        logits = method.recall("logits", torch.zeros_like(losses))
        yield Comparison(f"steps[{t}].logits_before", logits, want["logits_before"])
        yield Comparison(f"steps[{t}].task_weights", logits.softmax(-1), want["task_weights"])
        yield Comparison(f"steps[{t}].weights", method.weights(losses), want["weights"])
        method.after_step(tensor(given["losses_after"]))
        yield Comparison(f"steps[{t}].logits_after", method.logits, want["logits_after"])


def stch_by_epoch(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """The multi-task form; the file numbers the epoch of each step."""
    hyper = case["hyper"]
    method = cast(STCH, build("stch", mu=hyper["mu"], warmup_epoch=hyper["warmup_epoch"]))
    epoch = 0
    for t, given, want in steps(case, inputs):
        for _ in range(epoch, given["epoch"]):
            method.end_epoch()
        epoch = given["epoch"]
        weights = method.weights(tensor(given["losses"]))
        yield Comparison(f"steps[{t}].weights", weights, want["weights"])
    yield Comparison("nadir", method.total / method.count, hyper["nadir"])


def stch(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    """The smooth maximum is no weighted sum of the losses: its weights say it all."""
    generic = one_shot(
        lambda hyper: {"form": "generic", **{name: hyper[name] for name in STCH_OPTIONS}},
        value=False,
    )
    yield from by_kind(loss=generic, loss_sequence=stch_by_epoch)(case, inputs)


def go4align(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    hyper = case["hyper"]
    options = {"beta": hyper["robust_step_size"], "num_groups": hyper["num_groups"]}
    method = cast(GO4Align, build("go4align", **options))
    for t, given, want in steps(case, inputs):
        losses = tensor(given["losses"])
        weights = method.weights(losses)
        influence = method.log_influence.softmax(-1)
        yield Comparison(f"steps[{t}].influence", influence, want["influence"])
        yield Comparison(f"steps[{t}].weights", weights, want["weights"])
        yield Comparison(f"steps[{t}].total", weights @ losses, want["total"])


STCH_OPTIONS = ("mu", "preference", "reference")


def _same(*names: str) -> Options:
    return lambda hyper: {name: hyper[name] for name in names if name in hyper}


ADAPTERS: dict[str, Adapter] = {
    "ew": ew,
    "rlw": rlw,
    "uw": learned(lambda hyper: {"kind": hyper["form"], "init": hyper["init"]}),
    "uw_o": one_shot(_same("eps")),
    "uw_so": one_shot(_same("temperature", "eps")),
    "gls": one_shot(_same()),
    "imtl_l": learned(_same("init")),
    "dwa": dwa,
    "famo": famo,
    "stch": stch,
    "go4align": go4align,
    "cosmos": one_shot(
        lambda hyper: {"strength": hyper["lambda"], "preference": hyper["preference"]}, value=False
    ),
    "pbi": one_shot(_same("theta", "preference", "reference"), value=False),
}
