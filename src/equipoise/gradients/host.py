"""Numbers of a device, and when the host has to wait for them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

_NOTHING = nullcontext()


def at_hand(tensor: Tensor) -> bool:
    """Whether reading the tensor waits for no device."""
    return tensor.device.type == "cpu"


def unrounded(like: Tensor) -> Any:
    """A context in which autocast rounds nothing of what we compute."""
    kind = like.device.type
    if not torch.is_autocast_enabled(kind):
        return _NOTHING
    return torch.autocast(kind, enabled=False)


def number(scalar: Tensor) -> float:
    """A scalar's number; waits for the device it is on."""
    # Not by item(), which goes through torch's dispatcher.
    found: Any = scalar.tolist()
    return float(found)


def sent(tensor: Tensor) -> tuple[Tensor, Any]:
    """A copy on its way to the host, and what tells that it has come; None where it is there."""
    if not tensor.is_cuda:
        return tensor.detach().cpu(), None
    copy = tensor.detach().to("cpu", non_blocking=True)
    return copy, torch.cuda.current_stream(tensor.device).record_event()


class Later:
    """Numbers on their way to the host, for a time when nobody has to wait for them any more.

    Args:
        tensor: the numbers.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copy, self._event = sent(tensor)

    def read(self) -> list[float]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        numbers: list[float] = self._copy.tolist()
        return numbers
