"""Numbers of a device, and when the host has to wait for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def at_hand(tensor: Tensor) -> bool:
    """Whether reading the tensor waits for no device."""
    return tensor.device.type == "cpu"


def number(scalar: Tensor) -> float:
    """A scalar's number; waits for the device it is on."""
    # Not by item(), which goes through torch's dispatcher.
    found: Any = scalar.tolist()
    return float(found)


class Later:
    """Numbers on their way to the host, for a time when nobody has to wait for them any more.

    Args:
        tensor: the numbers.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: Any = None
        self._copy = tensor.detach()
        if tensor.is_cuda:
            self._copy = self._copy.to("cpu", non_blocking=True)
            self._event = torch.cuda.current_stream(tensor.device).record_event()

    def read(self) -> list[float]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        numbers: list[float] = self._copy.tolist()
        return numbers
