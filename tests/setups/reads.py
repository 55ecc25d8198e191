"""Counts how often a step would wait for a number, were the model on an accelerator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from equipoise.gradients import host

# Operators whose result has to be known on the host before Python can go on.
READS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}


class Place:
    """Where each storage would be, were the model on an accelerator; and the reads from there.

    On one machine all memory looks alike, so it is marked: the model is on the device, what is computed
    from something there is there, and what is copied to the host, or made from Python's numbers, is not.
    """

    def __init__(self, *device: Tensor) -> None:
        self.reads: Counter[str] = Counter()
        # The storages are kept, so that no address is used again.
        self.away: dict[int, tuple[Any, bool]] = {}
        for tensor in device:
            self.put(tensor, True)

    def put(self, tensor: Tensor, away: bool) -> None:
        storage = tensor.untyped_storage()
        self.away[storage._cdata] = (storage, away)

    def is_away(self, thing: Any) -> bool:
        if not isinstance(thing, Tensor):
            return False
        return self.away.get(thing.untyped_storage()._cdata, (None, False))[1]

    def any_away(self, things: Any) -> bool:
        flat, _ = tree_flatten(things)
        return any(self.is_away(thing) for thing in flat)


class Operators(TorchDispatchMode):
    """Follows every operator, those of the backward pass included."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, place = op.overloadpacket.__name__, self.place
        away = place.any_away((args, kwargs or {}))
        by_mask = (
            name.startswith("index")
            and len(args) > 1
            and any(
                isinstance(i, Tensor) and i.dtype == torch.bool for i in tree_flatten(args[1])[0]
            )
        )
        if away and (name in READS or by_mask):
            place.reads["index by mask" if by_mask else name] += 1
        out = op(*args, **(kwargs or {}))
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, Tensor):
                place.put(tensor, away or place.is_away(tensor))
        return out


@contextmanager
def copies(place: Place) -> Iterator[None]:
    """Follows what Python asks for, also inside the backward pass: copies between host and device."""

    def copied(tensor: Tensor, away: bool) -> Tensor:
        copy = tensor.clone()
        place.put(copy, away)
        return copy

    def reading(name: str) -> Callable[..., Any]:
        plain = getattr(Tensor, name)

        def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not place.is_away(tensor):
                return plain(tensor, *args, **kwargs)
            place.reads[name] += 1
            copy = copied(tensor, False)
            return copy if name == "cpu" else plain(copy, *args, **kwargs)

        return read

    plain_to = Tensor.to

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        asked = [*args, *kwargs.values()]
        out = plain_to(tensor, *args, **kwargs)
        other = next((a for a in asked if isinstance(a, Tensor)), None)
        to_device = place.is_away(other) or any(isinstance(a, torch.device) for a in asked)
        to_host = any(isinstance(a, str) for a in asked) or (other is not None and not to_device)
        if place.is_away(tensor) and to_host:
            place.reads["to"] += 1
            return copied(out, False)
        return copied(out, True) if to_device and not place.is_away(tensor) else out

    def making(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make(*args: Any, **kwargs: Any) -> Tensor:
            out = plain(*args, **kwargs)
            if isinstance(kwargs.get("device"), torch.device):
                place.put(out, True)
            return out

        return make

    with pytest.MonkeyPatch.context() as patch:
        for name in ("cpu", "tolist", "numpy"):
            patch.setattr(Tensor, name, reading(name))
        patch.setattr(Tensor, "to", to)
        # What the package takes for readable at no cost is what is not on the pretended device.
        patch.setattr(host, "at_hand", lambda tensor: not place.is_away(tensor))
        # A copy that nobody waits for.
        patch.setattr(host, "sent", lambda tensor: (copied(tensor.detach(), False), None))
        for name in ("tensor", "zeros", "ones", "empty", "full", "eye", "arange", "rand", "randn"):
            patch.setattr(torch, name, making(getattr(torch, name)))
        yield


def reads_of(step: Callable[[], Any], *device: Tensor) -> Counter[str]:
    place = Place(*device)
    with copies(place), Operators(place):
        step()
    return +place.reads
