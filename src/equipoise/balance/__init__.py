"""The balancer, and what it is made of: reading losses, rules and their wrappers, learned weights, reports."""

from equipoise.balance.balancer import Balancer

__all__ = ["Balancer"]
