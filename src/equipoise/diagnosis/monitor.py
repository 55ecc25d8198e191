"""Monitor: what the losses of a network do to each other, whatever balances them."""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.balance import Balancer
from equipoise.balance.naming import Losses, named
from equipoise.diagnosis.jacobians import Rows, rows_of
from equipoise.gradients.shared import SharedParameters

# Calls without a task until it is told, and looks at which its part of the update was nothing.
ABSENT = 500
NOTHING = 5
# Looks that are kept.
KEPT = 1000


class Look(NamedTuple):
    """What was seen at one step.

    Attributes:
        step: number of the call, from 0.
        names: the tasks that were there.
        losses: ``Tensor[K]``.
        norms: of the task gradients at the shared parameters, ``Tensor[K]``.
        cosines: between them, ``Tensor[K, K]``; 0 where a gradient is zero.
        weights: that were applied, ``Tensor[K]``; None where the method has none.
        shares: of the tasks in the balanced gradient, ``Tensor[K]``: the part of its squared length that each
            contributes, which sums to 1 and is negative for a task that it goes against.
        update_cosine: between the balanced gradient and what the optimiser did with the shared parameters,
            reversed; None where that is not known.
    """

    step: int
    names: tuple[str, ...]
    losses: Tensor
    norms: Tensor
    cosines: Tensor
    weights: Tensor | None = None
    shares: Tensor | None = None
    update_cosine: float | None = None

    @property
    def pairs(self) -> Tensor:
        """The cosines of all pairs, each once."""
        rows, columns = torch.triu_indices(len(self.names), len(self.names), 1)
        return self.cosines[rows, columns]

    @property
    def conflict_rate(self) -> float:
        """Share of pairs whose gradients point apart."""
        return float((self.pairs < 0).double().mean()) if len(self.names) > 1 else 0.0

    @property
    def magnitude_similarity(self) -> float:
        """Mean over pairs of ``2 |a| |b| / (|a|^2 + |b|^2)``: 1 where all norms are equal."""
        rows, columns = torch.triu_indices(len(self.names), len(self.names), 1)
        a, b = self.norms[rows], self.norms[columns]
        both = a * a + b * b
        similar = torch.where(both > 0, 2 * a * b / both, torch.ones_like(both))
        return float(similar.mean()) if len(similar) else 1.0


class Monitor:
    """Looks at the task gradients every so many steps, under any method or the plain sum.

    ::

        monitor = Monitor(balancer, every=100)
        for batch in loader:
            losses = losses_of(model, batch)
            monitor(losses)                      # before the losses are balanced
            balancer(losses).backward()

    A look costs one backward pass a task down to the shared parameters, and keeps their gradients until the
    next call: K copies of the shared parameters. A cosine is told, and is no verdict: tasks in conflict may
    well generalise better together (Mueller et al. 2024).

    Args:
        balancer: whose weights are applied; None for the plain sum of the losses.
        every: steps from one look to the next; a step that has one task only is passed over.
        shared: parameters that count as shared; None finds those that two losses reach.
        tasks: names of all tasks, to be told of one that never comes; None takes those of the balancer.

    Raises:
        ValueError: ``every`` is less than 1.
    """

    def __init__(
        self,
        balancer: Balancer | None = None,
        every: int = 100,
        *,
        shared: torch.nn.Module | Sequence[Tensor] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every={every}: a look is taken every 1 or more steps")
        self.every = every
        self.looks: deque[Look] = deque(maxlen=KEPT)
        self._balancer = balancer
        self._finder = SharedParameters(shared)
        self._tasks = None if tasks is None else tuple(tasks)
        self._steps = self._due = 0
        self._seen: Counter[str] = Counter()
        self._first: dict[str, float] = {}
        self._idle: Counter[str] = Counter()
        self._told: set[str] = set()
        # Task gradients of the last look, and where the shared parameters were.
        self._open: tuple[Rows, list[Tensor]] | None = None

    @property
    def tasks(self) -> tuple[str, ...] | None:
        """Names of the tasks, where they are known."""
        if self._tasks is None and self._balancer is not None:
            return self._balancer.tasks
        return self._tasks

    def __call__(self, losses: Losses) -> None:
        """Counts a step, and looks at it where it is time.

        Call it before the losses are balanced; their graph stays.

        Args:
            losses: as the balancer takes them.

        Raises:
            ValueError: a task is unknown, or nothing is shared.
        """
        self._close()
        here = named(losses, self.tasks)
        self._seen.update(here.keys())
        # Where a step has one task only, the next one with two is looked at instead.
        if self._steps >= self._due and len(here) > 1:
            self._look(here)
            self._due = (self._steps // self.every + 1) * self.every
        self._steps += 1
        self._tell()

    def _look(self, here: dict[str, Tensor]) -> None:
        rows = rows_of(here, self._finder)
        norms = rows.gramian.diagonal().clamp_min(0).sqrt()
        scale = norms.where(norms > 0, 1.0)
        values = torch.stack([loss.detach() for loss in here.values()]).double().cpu()
        self.looks.append(
            Look(self._steps, tuple(here), values, norms, rows.gramian / scale.outer(scale))
        )
        self._open = rows, [p.detach().clone() for p in rows.shared]

    def _close(self) -> None:
        """What became of the last look: which weights were applied, and what the optimiser did."""
        if self._open is None:
            return
        (rows, before), self._open = self._open, None
        look = self.looks[-1]
        weights = self._weights(look.names)
        if weights is None:
            return
        jacobian = rows.jacobian
        balanced = weights.to(jacobian) @ jacobian
        length = float(balanced.double().square().sum())
        along = jacobian.double() @ balanced.double()
        shares = weights * along.cpu() / length if length > 0 else torch.zeros_like(weights)
        moved = torch.cat(
            [(a - b.detach()).flatten() for a, b in zip(before, rows.shared, strict=True)]
        ).to(balanced)
        cosine = None
        if bool(moved.ne(0).any()) and length > 0:
            cosine = float(torch.cosine_similarity(balanced.double(), moved.double(), dim=0))
        self.looks[-1] = look._replace(weights=weights, shares=shares, update_cosine=cosine)
        for name, weight, part in zip(
            look.names, weights.tolist(), (weights * look.norms).tolist(), strict=True
        ):
            self._first.setdefault(name, weight)
            self._idle[name] = self._idle[name] + 1 if part == 0 else 0

    def _weights(self, names: tuple[str, ...]) -> Tensor | None:
        if self._balancer is None:
            return torch.ones(len(names), dtype=torch.float64)
        applied = self._balancer.weights
        if not set(names) <= set(applied):
            return None
        return torch.tensor([applied[name] for name in names], dtype=torch.float64)

    # --- what it tells ----------------------------------------------------------------------------

    def metrics(self, prefix: str = "monitor/") -> dict[str, float]:
        """The last look in numbers, flat; empty before the first.

        Args:
            prefix: put before every name.
        """
        if not self.looks:
            return {}
        # What became of a look is known at the next call: this is of the last one of which it is.
        done = next((each for each in reversed(self.looks) if each.shares is not None), None)
        found = _seen(self.looks[-1]) | ({} if done is None else self._became(done))
        return {prefix + name: value for name, value in found.items()}

    def means(self, prefix: str = "monitor/") -> dict[str, float]:
        """The same numbers as means over the looks that are kept, each over those that have it.

        One look carries the noise of its batch.

        Args:
            prefix: put before every name.
        """
        gathered: dict[str, list[float]] = {}
        for look in self.looks:
            for name, value in (_seen(look) | self._became(look)).items():
                gathered.setdefault(name, []).append(value)
        return {prefix + name: fmean(values) for name, values in gathered.items()}

    def _became(self, look: Look) -> dict[str, float]:
        found = {}
        if look.shares is not None and look.weights is not None:
            for name, share, weight in zip(
                look.names, look.shares.tolist(), look.weights.tolist(), strict=True
            ):
                found[f"share/{name}"] = share
                if self._first.get(name):
                    found[f"drift/{name}"] = weight / self._first[name]
        if look.update_cosine is not None:
            found["update_cosine"] = look.update_cosine
        return found

    def findings(self) -> list[str]:
        """What the looks say, a sentence each."""
        told = [
            f"task '{name}' was in none of {self._steps:,} steps"
            for name in self.tasks or ()
            if self._steps and not self._seen[name]
        ]
        for name, count in self._idle.items():
            if count >= NOTHING:
                told.append(
                    f"task '{name}' has had no part in the update: its weighted gradient at the shared "
                    f"parameters was zero at the last {count} looks"
                )
        return told

    def _tell(self) -> None:
        if self._steps % max(self.every, ABSENT) and not self._idle:
            return
        for line in self.findings():
            name = line.split("'")[1]
            early = "was in none" in line and self._steps < ABSENT
            if name not in self._told and not early:
                self._told.add(name)
                warnings.warn(line, stacklevel=3)

    def __str__(self) -> str:
        """The last look, means over the looks, and what they say."""
        if not self.looks:
            why = f": none of {self._steps:,} steps had losses of two tasks at once"
            return "\n".join(["no look yet" + (why if self._steps else ""), *self.findings()])
        means, last = self.means(""), self.metrics("")
        lines = [f"{'':<32} {'last look':>10} {'mean of ' + str(len(self.looks)):>12}"]
        for name, mean in means.items():
            own = f"{last[name]:.4g}" if name in last else ""
            lines.append(f"{name:<32} {own:>10} {mean:>12.4g}")
        return "\n".join([*lines, *self.findings()])


def _seen(look: Look) -> dict[str, float]:
    """What is known of a look at once."""
    found = {f"grad_norm/{n}": v for n, v in zip(look.names, look.norms.tolist(), strict=True)}
    return found | {
        "cos_mean": float(look.pairs.mean()),
        "cos_min": float(look.pairs.min()),
        "conflict_rate": look.conflict_rate,
        "magnitude_similarity": look.magnitude_similarity,
    }
