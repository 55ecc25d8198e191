"""One function that puts rules around a method, in one order, and refuses what would have no effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from equipoise.balance.reuse import Averaged, Kept, OnFailure
from equipoise.balance.rule import Plain, Rule
from equipoise.balance.shaping import Bounded, Preferred, Prior, Summed, WeightSum
from equipoise.balance.smoothing import AveragedGradients, PerTensor, refuse_by_tensor
from equipoise.balance.window import Windowed, refuse_window
from equipoise.gradients.ranks import Sync
from equipoise.methods.base import (
    CrossBatchMethod,
    GramianMethod,
    JacobianMethod,
    LossMethod,
    Method,
)
from equipoise.methods.forum import FORUM

Route = Literal["auto", "losses", "parameters", "features"]
HeadRule = Literal["paper", "weighted", "unweighted"]
Blocks = Literal["paper", "model", "parameter"]
Memory = Literal["fast", "low"]


@dataclass(frozen=True)
class Options:
    """What a user may set beside the method; the fields are the balancer's arguments."""

    prior: Prior = field(default_factory=dict)
    route: Route = "auto"
    heads: HeadRule = "paper"
    weight_sum: WeightSum = "paper"
    update_every: int = 1
    window: int = 1
    on_failure: OnFailure = "raise"
    weight_ema: float = 0.0
    weight_floor: float | None = None
    weight_cap: float | None = None
    gradient_ema: float = 0.0
    blocks: Blocks = "paper"
    sync: Sync = "exact"
    memory: Memory = "fast"

    def by_tensor(self, method: Method) -> bool:
        """Whether every parameter tensor has weights of its own."""
        chosen = getattr(method, "blocks", "model") if self.blocks == "paper" else self.blocks
        return chosen == "parameter"

    def about_weights(self) -> list[str]:
        """The options set that need one set of loss weights."""
        return [
            name
            for name, given in (
                ("heads='weighted'", self.heads == "weighted"),
                ("update_every", self.update_every > 1),
                ("window", self.window > 1),
                ("weight_ema", self.weight_ema != 0),
                ("weight_floor", self.weight_floor is not None),
                ("weight_cap", self.weight_cap is not None),
                ("on_failure='keep'", self.on_failure == "keep"),
            )
            if given
        ]


def compose(method: Method | Rule, options: Options) -> Rule:
    """The rule of a method with everything that was put around it.

    From the inside: the method, the average of its weights, windows of calls, reuse of weights, bounds,
    preference, sum; then weights tensor by tensor, and outermost averaged gradients.

    Raises:
        ValueError: an option that has no meaning for the method, or beside another.
    """
    rule = method if isinstance(method, Rule) else Plain(method)
    check(rule.method, options)
    if options.weight_ema:
        rule = Averaged(rule, options.weight_ema)
    if options.window > 1:
        rule = Windowed(rule, options.window)
    if rule.weighs and not isinstance(rule.method, FORUM):
        rule = Kept(rule, options.update_every, options.on_failure)
    if options.weight_floor is not None or options.weight_cap is not None:
        rule = Bounded(rule, options.weight_floor, options.weight_cap)
    if options.prior:
        rule = Preferred(rule, options.prior)
    if options.weight_sum != "paper":
        rule = Summed(rule, options.weight_sum)
    if options.by_tensor(rule.method):
        rule = PerTensor(rule)
    if options.gradient_ema:
        rule = AveragedGradients(rule, options.gradient_ema)
    return rule


def check(method: Method, options: Options) -> None:
    """Refuses what would have no effect or no meaning.

    Raises:
        ValueError: naming the option.
    """
    name = f"'{method.card.id}'"
    about_weights = options.about_weights()
    if isinstance(method, JacobianMethod):
        needing = about_weights[method.tells_weights and options.heads == "weighted" :]
        if needing:
            raise ValueError(f"{name} has no loss weights, which {needing[0]} would need")
    if isinstance(method, FORUM):
        _check_forum(name, options, about_weights)
    looks = isinstance(method, JacobianMethod | CrossBatchMethod) or (
        isinstance(method, GramianMethod) and method.reads_gramian
    )
    if options.gradient_ema and not looks:
        raise ValueError(
            f"{name} looks at no task gradients to average, which gradient_ema would do"
        )
    if options.gradient_ema and isinstance(method, CrossBatchMethod):
        raise ValueError(
            f"{name} multiplies gradients of independent batches; gradient_ema would mix them over steps"
        )
    if not isinstance(method, LossMethod) and options.route == "losses":
        raise ValueError(
            f"{name} looks at task gradients, which the losses route does not have; use "
            "route='parameters' or route='features'"
        )
    if options.sync == "gramian" and not (isinstance(method, GramianMethod) and looks):
        raise ValueError(
            f"sync='gramian' averages inner products of task gradients over processes, and {name} does not "
            "balance by these alone; use sync='exact'"
        )
    if options.window > 1:
        refuse_window(
            name,
            learns=isinstance(method, LossMethod) and method.learns,
            bilevel=method.needs == "bilevel",
            by_tensor=options.by_tensor(method),
            every=options.update_every,
        )
    if options.by_tensor(method):
        refuse_by_tensor(method)
        _check_by_tensor(options)
    if options.memory == "low":
        products = isinstance(method, GramianMethod) and looks
        _check_low(name, options, only_products=products, by_tensor=options.by_tensor(method))
    if options.route == "features":
        check_features(method, options)


def _check_low(name: str, options: Options, *, only_products: bool, by_tensor: bool) -> None:
    if not only_products:
        raise ValueError(
            f"memory='low' drops task gradients once their inner products are known, and {name} does not "
            "balance by these alone"
        )
    if options.gradient_ema:
        raise ValueError("memory='low' keeps no task gradients, which gradient_ema would average")
    if by_tensor:
        raise ValueError(
            "memory='low' finds the inner products of the whole model, not those of blocks='parameter'"
        )


def _check_forum(name: str, options: Options, about_weights: list[str]) -> None:
    given = [
        *about_weights,
        *(["prior"] if options.prior else []),
        *(["weight_sum"] if options.weight_sum != "paper" else []),
        *(["heads='unweighted'"] if options.heads == "unweighted" else []),
        *(["gradient_ema"] if options.gradient_ema else []),
        *(["route='features'"] if options.route == "features" else []),
    ]
    if given:
        raise ValueError(
            f"{name} descends along a mixture of outer gradients and applies no loss weights, which "
            f"{given[0]} would need"
        )


def _check_by_tensor(options: Options) -> None:
    if options.heads == "weighted" or options.weight_ema > 0 or options.update_every > 1:
        raise ValueError(
            "with blocks='parameter' every tensor has weights of its own, so the heads cannot be "
            "weighted, and weight_ema and update_every do not apply"
        )


def check_features(method: Method, options: Options) -> None:
    """Refuses what cannot be done at the features.

    Raises:
        ValueError: saying why.
    """
    name = f"'{method.card.id}'"
    if options.by_tensor(method):
        raise ValueError(
            f"{name} balances every parameter tensor by itself (blocks='parameter'), which features are not; "
            "use route='parameters'"
        )
    if options.memory == "low":
        raise ValueError(
            "memory='low' saves memory where task gradients of parameters are taken, and the features route "
            "takes none; leave it out, or use route='parameters'"
        )
    if options.gradient_ema:
        raise ValueError(
            "gradient_ema averages gradients of the same parameters over steps, which the features "
            "route does not have; use route='parameters'"
        )
    if isinstance(method, LossMethod) or "features" in method.routes:
        return
    what = "different batches" if isinstance(method, CrossBatchMethod) else "one step and the next"
    raise ValueError(
        f"{name} needs gradients that can be compared between {what}, which features, made "
        "anew for every batch, do not have; use route='parameters'"
    )
