"""Actor-critic on a pole that has to be kept upright: a policy loss, a value loss and an entropy bonus.

The policy loss has either sign and the entropy bonus is negative, so methods that divide by losses, take
their logarithm or learn their weights refuse. The value loss is a mean square of returns of up to 20, far
above the others: where actor and critic share a trunk, the plain sum mostly trains the critic. A fixed sum
with a small value loss is the baseline that a method has to beat.

python examples/actor_critic.py --arms "plain sum,fixed sum,mgda"
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

import equipoise
from equipoise import Balancer

TASKS = ("policy", "value", "entropy")
# A bonus is no task of its own right: without this, a method that evens lengths would train for noise.
BONUS = {"entropy": 0.01}
ARMS = {
    "plain sum": {"method": "ew", "prior": BONUS},
    "fixed sum": {"method": "ew", "prior": {**BONUS, "value": 0.01}},
    "mgda": {"method": "mgda", "prior": BONUS},
    "unit_norm": {"method": "unit_norm", "prior": BONUS},
    "cagrad": {"method": "cagrad", "prior": BONUS},
}
DISCOUNT = 0.95


class Poles:
    """Poles on carts ``[N, 4]`` (place, speed, angle, turn), pushed left or right 50 times a second."""

    def __init__(self, count: int, seed: int) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.state = self.fresh(count)

    def fresh(self, count: int) -> Tensor:
        """Poles that almost stand."""
        return 0.1 * torch.rand(count, 4, generator=self.draw) - 0.05

    def push(self, actions: Tensor) -> Tensor:
        """Moves on by 0.02 s; which poles fell. Those start afresh."""
        _, speed, angle, turn = self.state.unbind(1)
        force = 20.0 * actions - 10.0
        # A cart of 1 kg, a pole of 0.1 kg and 1 m: Newton's laws for the two, solved for the accelerations.
        sin, cos = angle.sin(), angle.cos()
        pull = (force + 0.05 * turn.square() * sin) / 1.1
        turning = (9.8 * sin - cos * pull) / (0.5 * (4 / 3 - 0.1 * cos.square() / 1.1))
        moving = pull - 0.05 * turning * cos / 1.1
        step = torch.stack([speed, moving, turn, turning], 1)
        self.state = self.state + 0.02 * step
        fell = (self.state[:, 0].abs() > 2.4) | (self.state[:, 2].abs() > 0.21)
        self.state = torch.where(fell.unsqueeze(1), self.fresh(len(fell)), self.state)
        return fell


class ActorCritic(nn.Module):
    """A trunk, a policy and a value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.actor = nn.Linear(width, 2)
        self.critic = nn.Linear(width, 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[..., 2]`` and values ``[...]``."""
        z = self.trunk(state * torch.tensor([0.4, 0.5, 5.0, 0.5]))
        return self.actor(z), self.critic(z).squeeze(-1)


def losses_of(model: ActorCritic, poles: Poles, steps: int) -> tuple[dict[str, Tensor], int]:
    """Plays some steps with all poles; the losses, and how many poles fell."""
    states, actions, falls = [], [], []
    for _ in range(steps):
        states.append(poles.state)
        with torch.no_grad():
            chances = model(poles.state)[0].softmax(1)
        actions.append(torch.multinomial(chances, 1, generator=poles.draw).squeeze(1))
        falls.append(poles.push(actions[-1]))
    with torch.no_grad():
        ahead = model(poles.state)[1]
    returns = []
    for fell in reversed(falls):
        # 1 for every step that the pole stands.
        ahead = torch.where(fell, 0.0, 1.0 + DISCOUNT * ahead)
        returns.append(ahead)
    returned = torch.stack(returns[::-1])

    logits, values = model(torch.stack(states))
    logs = logits.log_softmax(-1)
    advantages = (returned - values).detach()
    taken = logs.gather(-1, torch.stack(actions).unsqueeze(-1)).squeeze(-1)
    losses = {
        "policy": -(advantages * taken).mean(),
        "value": (values - returned).square().mean(),
        "entropy": (logs.exp() * logs).sum(-1).mean(),
    }
    return losses, int(torch.stack(falls).sum())


def train(arm: str, *, seed: int, updates: int, poles: int, steps: int) -> float:
    """Trains a network; how many steps a pole stands, from its last fifth of updates."""
    torch.manual_seed(seed)
    model, world = ActorCritic(32), Poles(poles, seed)
    balancer = Balancer(tasks=TASKS, seed=seed, **ARMS[arm])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    played = fallen = 0
    for update in range(updates):
        losses, falls = losses_of(model, world, steps)
        balancer(losses).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5)
        optimizer.step()
        optimizer.zero_grad()
        if update >= updates - max(updates // 5, 1):
            played, fallen = played + poles * steps, fallen + falls
    return played / max(fallen, 1)


def refused() -> list[str]:
    """Methods that take no negative loss, with their default options."""
    ids = [card.id for card in equipoise.methods()]
    return [name for name in ids if equipoise.method(name).least_loss != "any"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Keep poles upright with balanced losses.")
    parser.add_argument("--arms", default=",".join(ARMS), help="the first is compared with")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--poles", type=int, default=16)
    parser.add_argument("--steps", type=int, default=16, help="between updates")
    given = parser.parse_args(arguments)

    print(f"these refuse negative losses: {', '.join(refused())}")
    try:
        Balancer("uw_o", TASKS)(losses_of(ActorCritic(8), Poles(2, 0), steps=2)[0])
    except ValueError as error:
        print(f"and say: {error}\n")

    sizes = {"updates": given.updates, "poles": given.poles, "steps": given.steps}
    plain: list[float] = []
    always = []
    for arm in given.arms.split(","):
        start = time.perf_counter()
        found = [train(arm, seed=seed, **sizes) for seed in range(given.seeds)]
        plain = plain or found
        better = sum(ours > theirs for ours, theirs in zip(found, plain, strict=True))
        told = "" if found is plain else f"; longer than with the first: {better} of {given.seeds}"
        always += [arm] * (better == given.seeds)
        shown = ", ".join(f"{stood:.0f}" for stood in found)
        print(
            f"{arm:<10} steps that a pole stands: {shown}{told}   ({time.perf_counter() - start:.0f} s)"
        )
    print(f"ahead of the first with every seed: {', '.join(always) or 'none'}")


if __name__ == "__main__":
    main()
