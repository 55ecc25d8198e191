"""Several processes that train together: what they share, on a process group of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Sync = Literal["exact", "gramian", "local"]
T = TypeVar("T")

# The group of our own beside each default group. Our reductions run inside backward passes, between those of
# DistributedDataParallel, and must not get into their order.
_GROUPS: dict[Any, Any] = {}


class Ranks:
    """The processes that train one network on parts of a batch.

    Gradients are averaged over ranks, as DistributedDataParallel does it: the gradient of the whole batch is
    the mean of the ranks' gradients.

    Attributes:
        size: how many they are.
        rank: this one's number.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self.size = dist.get_world_size(group)
        self.rank = dist.get_rank(group)

    @property
    def device(self) -> torch.device:
        """Where a tensor can be reduced."""
        if "nccl" in str(dist.get_backend(self._group)):
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over ranks."""
        out = tensor.detach().clone()
        dist.all_reduce(out, group=self._group)
        return out

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over ranks."""
        return self.total(tensor) / self.size

    def mean_in_place(self, tensor: Tensor) -> Callable[[], None]:
        """Starts averaging a tensor; the call that is returned waits for it."""
        work = dist.all_reduce(tensor, group=self._group, async_op=True)

        def finish() -> None:
            if work is not None:
                work.wait()
            tensor.div_(self.size)

        return finish

    def gathered(self, tensor: Tensor, dim: int) -> tuple[Tensor, slice]:
        """The ranks' tensors joined along ``dim``, in the order of ranks, and where this rank's are."""
        sizes = [0] * self.size
        dist.all_gather_object(sizes, tensor.shape[dim], group=self._group)
        widest = max(sizes)
        moved = tensor.detach().movedim(dim, 0)
        padded = moved.new_zeros(widest, *moved.shape[1:])
        padded[: len(moved)] = moved
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=self._group)
        joined = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        start = sum(sizes[: self.rank])
        return joined.movedim(0, dim), slice(start, start + sizes[self.rank])

    def agreed(self, value: T) -> list[T]:
        """What every rank says, in the order of ranks."""
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, value, group=self._group)
        return said

    def first(self, value: T) -> T:
        """What rank 0 says."""
        said = [value]
        dist.broadcast_object_list(
            said, src=dist.get_global_rank(self._group, 0), group=self._group
        )
        return said[0]


def ranks(sync: Sync) -> Ranks | None:
    """The processes that train together; None where there is one, or each is to go by itself."""
    if sync == "local" or not (dist.is_available() and dist.is_initialized()):
        return None
    if dist.get_world_size() == 1:
        return None
    world = dist.group.WORLD
    if world not in _GROUPS:
        _GROUPS.clear()
        _GROUPS[world] = dist.new_group()
    return Ranks(_GROUPS[world])
