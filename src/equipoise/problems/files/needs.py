"""Libraries that only some problems need: the helper of the networks, under the name of the problems."""

from equipoise.nn.needs import needs

__all__ = ["needs"]
