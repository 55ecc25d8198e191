"""The balancer: reading losses, rules and their wrappers, learned weights, what a step shows."""

from equipoise.balance.balancer import Balancer

__all__ = ["Balancer"]
