"""Several rewards combined without autograd: methods as pure functions of given values.

A policy picks one of a few actions in a context and is paid in three rewards of different size, one of them
rare. The gradient of each mean reward is known in closed form (the score of a softmax), so nothing here calls
``backward()``. ``method.weights(gramian, losses)`` turns three rewards into one number a sample, which any
trainer takes; ``method.direction(rows, losses)`` gives the step itself, and is the same.

python examples/rewards.py
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

import equipoise

REWARDS = ("speed", "comfort", "safety")
CONTEXT, ACTIONS = 6, 5
PLAIN = ("sum", "normalise, then sum")


class World:
    """Mean rewards are functions of context and action; what is paid is noisy, and in units of its own."""

    def __init__(self, seed: int) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.taste = torch.randn(len(REWARDS), CONTEXT, ACTIONS, generator=self.draw)

    def contexts(self, count: int) -> Tensor:
        """``Tensor[B, C]``."""
        return torch.randn(count, CONTEXT, generator=self.draw)

    def means(self, x: Tensor) -> Tensor:
        """Mean rewards ``Tensor[B, A, K]``: up to 10, up to 1, and a chance of 1 that is mostly small."""
        speed, comfort, safety = torch.einsum("bc,kca->kba", x, self.taste)
        chance = torch.sigmoid(2 * safety - 3)
        return torch.stack([10 * torch.sigmoid(speed), torch.sigmoid(comfort), chance], -1)

    def paid(self, x: Tensor, actions: Tensor) -> Tensor:
        """Rewards ``Tensor[B, K]`` of the actions taken."""
        mean = self.means(x)[torch.arange(len(x)), actions]
        noise = torch.randn(len(x), 2, generator=self.draw) * torch.tensor([2.0, 0.2])
        rare = torch.rand(len(x), 1, generator=self.draw) < mean[:, 2:]
        return torch.cat([mean[:, :2] + noise, rare.float()], 1)


def reward_gradients(x: Tensor, policy: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
    """REINFORCE by hand: row k is mean_b a_bk grad log pi(action_b | x_b), ``Tensor[K, C * A]``."""
    score = torch.nn.functional.one_hot(actions, ACTIONS) - (x @ policy).softmax(1)
    return torch.einsum("bk,bc,ba->kca", advantages, x, score).flatten(1) / len(x)


def normalised(paid: Tensor) -> Tensor:
    """Every reward centred, with a spread of 1; one that paid everybody the same says nothing, 0."""
    centred, spread = paid - paid.mean(0), paid.std(0)
    return torch.where(spread > 0, centred / spread.clamp_min(1e-12), 0.0)


def advantages(
    how: str,
    method: equipoise.GramianMethod | None,
    x: Tensor,
    policy: Tensor,
    actions: Tensor,
    paid: Tensor,
) -> Tensor:
    """One number a sample, ``Tensor[B]``, of what it was paid."""
    if method is None:
        each = normalised(paid) if how == "normalise, then sum" else paid - paid.mean(0)
        return each.sum(1)
    # What a method lowers is minus the reward.
    each = normalised(paid)
    rows = -reward_gradients(x, policy, actions, each).double()
    weights = method.weights(rows @ rows.mT, -paid.mean(0).double())
    return each @ weights.float()


def train(how: str, *, seed: int, steps: int, batch: int) -> Tensor:
    """Learns a policy; per reward, how far it is from a random policy (0) to the best for it alone (1)."""
    world = World(seed)
    method = None if how in PLAIN else equipoise.method(how)
    policy = torch.zeros(CONTEXT, ACTIONS)
    for _ in range(steps):
        x = world.contexts(batch)
        actions = torch.multinomial((x @ policy).softmax(1), 1, generator=world.draw).squeeze(1)
        paid = world.paid(x, actions)
        advantage = advantages(how, method, x, policy, actions, paid)
        (uphill,) = reward_gradients(x, policy, actions, advantage.unsqueeze(1))
        # Steps of one length: ways of combining differ in where they go, not in how fast.
        policy = policy + 0.05 * (uphill / uphill.norm().clamp_min(1e-12)).view_as(policy)
    x = world.contexts(4000)
    means = world.means(x)
    got = torch.einsum("ba,bak->k", (x @ policy).softmax(1), means) / len(x)
    random, best = means.mean((0, 1)), means.max(1)[0].mean(0)
    return (got - random) / (best - random)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Combine rewards by hand and by Gramian methods.")
    parser.add_argument("--methods", default="mgda,upgrad,unit_norm", help="Gramian methods")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=128)
    given = parser.parse_args(arguments)

    print("from a random policy (0) to the best for one reward alone (1)")
    plain: list[Tensor] = []
    for how in [*PLAIN, *given.methods.split(",")]:
        start = time.perf_counter()
        found = [
            train(how, seed=s, steps=given.steps, batch=given.batch) for s in range(given.seeds)
        ]
        mean = torch.stack(found).mean(0)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(REWARDS, mean, strict=True))
        plain = plain or found
        better = sum(
            bool(ours.min() > theirs.min()) for ours, theirs in zip(found, plain, strict=True)
        )
        told = "" if found is plain else f"; lowest above the sum's in {better} of {given.seeds}"
        print(f"{how:<20} {shown}{told}   ({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    main()
