"""What the methods share that keep a number for every task and every parameter."""

from __future__ import annotations

from typing import ClassVar

from equipoise.methods.base import JacobianMethod


class Tracked(JacobianMethod):
    """A method whose state is as large as the Jacobian.

    Features belong to a batch and the next batch has others, so there is no features route.
    """

    routes: ClassVar[tuple[str, ...]] = ("parameters",)
