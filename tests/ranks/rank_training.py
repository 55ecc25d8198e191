"""The training loop: the same for one process with the whole batch and for a rank with its part."""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from rank_cases import Case, Outcome, needs
from rank_failures import method_of
from rank_network import EXAMPLES, TASKS, Batch, Network, alone, batch, losses_of, new_network
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from equipoise import Balancer
from equipoise.gradients import descent
from equipoise.methods.dtp import DTP
from equipoise.nn import Rotations

BUILDING = -1  # the "step" in which the balancer and the wrapper are built


def run(case: Case, rank: int | None = None, ranks: int = 1) -> Outcome:
    """Trains; ``rank=None`` is one process with the whole batch."""
    outcome = Outcome()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Different seeds: what is drawn has to come from the first rank's.
        torch.default_generator.manual_seed(5 + (rank or 0))
        try:
            training = Training(case, rank, ranks, outcome)
        except Exception as error:  # noqa: BLE001 (it is what the test looks at)
            outcome.errors.append((BUILDING, _told(error)))
        else:
            training.run()
    outcome.warnings = [str(w.message) for w in caught]
    return outcome


class Training:
    """One process's part of a case."""

    def __init__(self, case: Case, rank: int | None, ranks: int, outcome: Outcome) -> None:
        self.case, self.rank, self.ranks, self.outcome = case, rank, ranks, outcome
        self.network = new_network()
        descent.ENOUGH = case.enough
        route = "auto" if case.route == "losses" else case.route
        self.balancers = [
            Balancer(*method_of(case, rank), route=route, **case.options)
            for _ in range(case.balancers)
        ]
        self.balancer = self.balancers[0]
        self.rotations = Rotations(TASKS, 4).double() if case.method == "rotograd" else None
        self.model = self._wrapped()
        learned = {id(p) for b in self.balancers for p in b.parameters()}
        self.optimizer = torch.optim.SGD(
            [
                {"params": [p for p in self.network.parameters() if id(p) not in learned]},
                *[g for b in self.balancers for g in b.param_groups(lr=0.05)],
            ],
            lr=0.05,
        )
        if self.rotations is not None:
            self.optimizer.add_param_group(
                {"params": list(self.rotations.parameters()), "lr": 0.01}
            )

    def run(self) -> None:
        """All steps; what went wrong is noted."""
        case, outcome = self.case, self.outcome
        for step in range(case.steps):
            if not self._step(step) and not case.go_on:
                return
        outcome.metrics = self.balancer.metrics()
        outcome.state = self.balancer.state_dict()

    def _step(self, step: int) -> bool:
        case, outcome = self.case, self.outcome
        try:
            self.optimizer.zero_grad()
            for micro in range(case.micro):
                last = micro == case.micro - 1
                with contextlib.nullcontext() if last else self._unsynchronised():
                    self._backward(step * case.micro + micro)
            outcome.gradients.append(self._gradients())
            outcome.weights.append({k: float(w) for k, w in self.balancer.weights.items()})
            self.optimizer.step()
            broken = any(step == number for number, _, _ in case.broken)
            if needs(case.method) != "bilevel" and not broken:
                number = step * case.micro + case.micro - 1
                self.balancer.after_step(lambda: self._losses(number, shared=False))
            if step % 2:
                self.balancer.end_epoch()
            if isinstance(self.balancer.method, DTP):
                self.balancer.method.update_scores([0.5, 0.1 + 0.1 * step, 0.9])
        except Exception as error:  # noqa: BLE001 (it is what the test looks at)
            outcome.errors.append((step, _told(error)))
            return False
        return True

    # --- one backward pass ------------------------------------------------------------------------

    def _backward(self, number: int) -> None:
        case, balancer = self.case, self.balancer
        weight = self._weight(number)
        if case.layout == "balanced":
            total = self._forward(number, lambda losses: balancer(losses, **weight))
            total.backward()
        elif needs(case.method) == "batches":
            three = [self._losses(100 * n + number) for n in range(3)]
            self._follow(balancer, three, weight)
        elif needs(case.method) == "bilevel":
            total = balancer.bilevel(
                lambda: self._losses(number), lambda: self._losses(100 + number)
            )
            total.backward()
        elif case.call == "sharpness_aware":
            # The perturbations are drawn.
            torch.default_generator.manual_seed(
                50 + number + (0 if case.same_seeds else self.rank or 0)
            )
            balancer.sharpness_aware(lambda: self._losses(number), local=case.local).backward()
        elif case.balancers > 1:
            self._two(number)
        else:
            self._follow(balancer, [self._losses(number)], weight)
        if self.rotations is not None and case.route == "features":
            self.rotations.backward()

    def _follow(self, balancer: Balancer, batches: list[Any], weight: dict[str, Any]) -> None:
        if self.case.call == "backward":
            balancer.backward(*batches, **weight)
        else:
            (balancer(*batches, **weight) * self.case.factor).backward()

    def _two(self, number: int) -> None:
        """Each balancer has its own losses of the same outputs."""
        first, second = self.balancers
        data = self._data(number)
        views: list[Any] = []

        def share(features: Tensor) -> Any:
            if self.case.route != "features":
                return alone(features)
            views.append(second.share(features))
            return first.share(features)

        def finish(out: dict[str, Tensor], data: Batch) -> Any:
            again = out
            if views:
                again = {t: self.network.heads[t](views[0][t]) for t in TASKS}
            factors = {"left": 3.0, "right": 0.2, "rebuild": 5.0}
            scaled = {t: factors[t] * loss for t, loss in losses_of(again, data).items()}
            return losses_of(out, data), scaled

        one, other = self.model(data, share, finish)
        (first(one) + second(other)).backward()

    def _forward(self, number: int, then: Callable[[Any], Any], shared: bool = True) -> Any:
        """The wrapped module's forward pass; ``then`` gets the losses inside of it."""
        share: Callable[[Tensor], Any] = alone
        if shared and self.case.route == "features":
            share = self.balancer.share
            if self.rotations is not None:
                rotations = self.rotations
                share = lambda z: rotations(self.balancer.share(z))  # noqa: E731
        data = self._data(number)
        if self.case.layout == "outputs":
            out = self.model(data, share, lambda out, _: out)
            return then(losses_of(out, data))
        return self.model(data, share, lambda out, data: then(losses_of(out, data)))

    def _losses(self, number: int, shared: bool = True) -> Any:
        return self._forward(number, lambda losses: losses, shared)

    # --- its part of the batch --------------------------------------------------------------------

    def _data(self, number: int) -> Batch:
        data = batch(number)
        for step, task, first, behind in self.case.unlabelled:
            if step == number:
                data.labelled[task][first:behind] = 0
        for step, task, example in self.case.broken:
            if step == number:
                data.y[task][example] = torch.nan
        if self.rank is None:
            return data
        sizes = self.case.sizes or (EXAMPLES // self.ranks,) * self.ranks
        return data.part(sizes, self.rank)

    def _weight(self, number: int) -> dict[str, Any]:
        if self.case.weight == "none" or self.rank is None:
            return {}
        data = self._data(number)
        return {"weight": len(data.x) if self.case.weight == "number" else data.counts()}

    # --- several processes ------------------------------------------------------------------------

    def _wrapped(self) -> nn.Module:
        if self.case.layout in ("balanced", "owned"):
            # As a trainer does that wraps everything.
            self.network.balancer = self.balancer
        if self.rank is None:
            return self.network
        if self.case.wrapper == "fsdp":
            return _sharded(self.network, self.ranks)
        return DistributedDataParallel(self.network, **self.case.ddp)

    def _unsynchronised(self) -> contextlib.AbstractContextManager[Any]:
        if isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return contextlib.nullcontext()

    def _gradients(self) -> dict[str, Tensor]:
        named = dict(self.network.named_parameters())
        named.update((f"balancer.{n}", p) for n, p in self.balancer.named_parameters())
        if self.rotations is not None:
            named.update((f"rotations.{n}", p) for n, p in self.rotations.named_parameters())
        out = {}
        for name, p in named.items():
            gradient = torch.zeros_like(p) if p.grad is None else p.grad
            whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            out[name] = whole.detach().clone() / self.case.factor
        return out


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"


def _sharded(network: Network, ranks: int) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (ranks,))
    for part in (network.trunk, *network.heads.values(), network):
        fully_shard(part, mesh=mesh)
    return network
