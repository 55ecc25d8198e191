"""Which weights: the maths of each published method, one file a method.

``equipoise.methods()`` lists their cards, in the order of the catalogue.
"""

from __future__ import annotations

import sys
from types import ModuleType

from equipoise.methods.card import Card


class _Methods(ModuleType):
    # Both a folder of files and the call that lists them: a function of this name in the package above would
    # hide the folder from ``import equipoise.methods.base as base``.

    def __call__(self) -> list[Card]:
        """The cards of all methods, in the order of the catalogue."""
        from equipoise.methods.catalogue import methods

        return methods()


sys.modules[__name__].__class__ = _Methods
