"""State kept between steps: declared once, there from the start, saved as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# The dimensions of a state that count tasks, as `state` declares it, for a state with a row a task whose
# length is known only when the first task gradients arrive.
ROWS = (-2,)


class Stateful(nn.Module):
    """A module whose state is a few tensors, declared in ``state``.

    ``state`` names, for each tensor, the dimensions that count tasks: ``(-1,)`` is ``Tensor[K]``,
    ``(-2, -1)`` is ``Tensor[K, K]``, ``()`` a number, ``(-2,)`` is ``Tensor[K, P]`` with P unknown until the
    first step. All but the last kind are buffers from the moment :meth:`allocate` is told the number of
    tasks; NaN is the place of a value that is not known yet. Rows of length P are saved and moved like
    buffers, but are none, since they come late and would not be found in copies made before.

    ``numbers`` names plain integers that belong to the state.

    What is kept follows the module to another device, and to a wider dtype, but not to a narrower one: half
    precision would round averages away.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    numbers: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        # Names of states without a value.
        self._blank = set(self.state)
        # Names of states that are no buffers.
        self._late = {name for name, dims in self.state.items() if dims == ROWS}
        # Positions of the tasks of this step among all tasks; None when all are present.
        self._present: Tensor | None = None
        # Whether nothing is registered as a buffer.
        self._unregistered = False
        # Whether some state may have NaN in the place of a task not seen yet; looking costs time every step.
        self._unseen = False
        for name in self.state:
            if name in self._late:
                object.__setattr__(self, name, None)
            else:
                self.register_buffer(name, None)
        for name in self.numbers:
            setattr(self, name, 0)
        self._write()

    def _write(self) -> None:
        for name, value in self._written().items():
            if self._unregistered:
                object.__setattr__(self, name, value)
            else:
                self.register_buffer(name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.state:
            self._blank.discard(name)
            if name in self._late:
                object.__setattr__(self, name, value)
            else:
                # What torch's own way ends in, without its search for parameters of that name: this is on the
                # way of every step.
                self._buffers[name] = value
        elif isinstance(value, nn.Module):
            super().__setattr__(name, value)
            # Found at once, not by torch's search through parameters, buffers and modules.
            self.__dict__[name] = value
        elif name in self.__dict__ and not isinstance(value, Tensor) and name not in self._modules:
            # A plain attribute, as before.
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def allocate(self, tasks: int) -> None:
        """Makes room for the state of that many tasks; called once, before the first step."""
        for name, dims in self.state.items():
            if name not in self._late and getattr(self, name) is None:
                self.register_buffer(name, torch.full((tasks,) * len(dims), torch.nan))
                self._blank.add(name)

    def come_late(self) -> None:
        """Keeps no state as a buffer: it is not there, or not in its shape, before the first step.

        Copies that are made before could not be paired with it buffer by buffer, as ``AveragedModel`` does.
        """
        self._unregistered = True
        for name in self.state:
            self._late.add(name)
            self._buffers.pop(name, None)
            object.__setattr__(self, name, None)
        for name in self._written():
            self._buffers.pop(name, None)

    def knows(self, name: str) -> bool:
        """Whether the state ``name`` has had a value."""
        return name not in self._blank

    def recall(self, name: str, initial: Tensor) -> Tensor:
        """The state ``name``, in the dtype and on the device of ``initial``; at first ``initial`` itself.

        A task that was absent so far has NaN in its place, which is replaced by ``initial``.

        Raises:
            ValueError: the state was kept for another number of tasks, or is not declared.
        """
        if name not in self.state:
            raise ValueError(
                f"{self._called()} recalls '{name}', which its class does not declare: add it to `state`, as "
                f"in state = {{'{name}': (-1,)}} for a Tensor[K]; then it is saved, and absent tasks keep it"
            )
        kept: Tensor | None = getattr(self, name)
        if kept is None or name in self._blank:
            setattr(self, name, initial.detach().clone())
            return initial.detach().clone()
        if kept.shape != initial.shape:
            raise ValueError(
                f"{self._called()} keeps '{name}' of shape {tuple(kept.shape)} from earlier steps, but this "
                f"step needs {tuple(initial.shape)}; use one method object per set of tasks"
            )
        if kept.dtype != initial.dtype or kept.device != initial.device:
            kept = kept.to(initial)
        if not self._unseen:
            return kept
        return torch.where(kept.isnan(), initial.detach(), kept)

    @contextmanager
    def only(self, present: Tensor, tasks: int) -> Iterator[None]:
        """Lets the module see only some tasks; the state of the others stays as it is.

        Args:
            present: indices of the tasks present, ``Tensor[k]`` of integers.
            tasks: number of tasks K.
        """
        whole: dict[str, Tensor] = {}
        for name, dims in self.state.items():
            if not dims or name in self._blank:
                continue
            whole[name] = kept = getattr(self, name)
            for dim in dims:
                kept = kept.index_select(dim, present.to(kept.device))
            setattr(self, name, kept)
        self._present = present
        try:
            yield
        finally:
            self._present = None
            for name, dims in self.state.items():
                if not dims or name in self._blank:
                    continue
                part: Tensor = getattr(self, name)
                full = whole.get(name)
                if full is None:
                    shape = list(part.shape)
                    for dim in dims:
                        shape[dim] = tasks
                    full = part.new_full(shape, torch.nan)
                    self._unseen = True
                setattr(self, name, _put(full.to(part, copy=True), part, dims, present))

    def of_present(self, parameter: Tensor) -> Tensor:
        """The entries of a ``Tensor[K]`` that belong to the tasks of this step."""
        if self._present is None:
            return parameter
        return parameter[self._present.to(parameter.device)]

    # --- saving -----------------------------------------------------------------------------------

    def _called(self) -> str:
        """How errors name the module."""
        return type(self).__name__

    def _written(self) -> dict[str, Tensor]:
        """What is no tensor while it is used, as tensors."""
        if not self.numbers:
            return {}
        return {"kept_numbers": torch.tensor([getattr(self, name) for name in self.numbers])}

    def _read_back(self, written: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`_written` gave."""
        if self.numbers:
            for name, value in zip(self.numbers, written["kept_numbers"].tolist(), strict=True):
                setattr(self, name, int(value))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self._write()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.state:
            rows: Tensor | None = getattr(self, name)
            if name in self._late and rows is not None:
                destination[prefix + name] = rows if keep_vars else rows.detach()
        if self._unregistered:
            destination.update({prefix + name: value for name, value in self._written().items()})

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        late = set()
        for name in self.state:
            saved = state_dict.get(prefix + name)
            if name in self._late:
                late.add(prefix + name)
                setattr(self, name, None if saved is None else saved.detach().clone())
            elif saved is not None:
                self.register_buffer(name, torch.empty_like(saved))
            if saved is None or bool(saved.isnan().all()):
                self._blank.add(name)
            else:
                self._blank.discard(name)
                self._unseen = self._unseen or bool(saved.isnan().any())
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        written = self._written()
        if self._unregistered:
            late.update(prefix + name for name in written)
        unexpected_keys[:] = [key for key in unexpected_keys if key not in late]
        if all(prefix + name in state_dict for name in written):
            self._read_back({name: state_dict[prefix + name] for name in written})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def placed(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            narrower = moved.dtype.itemsize < tensor.dtype.itemsize
            return tensor.to(moved.device) if narrower else moved

        out = super()._apply(placed, recurse)  # type: ignore[no-untyped-call]
        for name in self.state:
            rows: Tensor | None = getattr(self, name)
            if name in self._late and rows is not None:
                setattr(self, name, placed(rows))
        return out


def _put(full: Tensor, part: Tensor, dims: Sequence[int], present: Tensor) -> Tensor:
    """Writes ``part`` into ``full`` at ``present`` along every one of ``dims``."""
    index = present.to(full.device)
    where: list[Any] = [slice(None)] * full.ndim
    for position, dim in enumerate(dims):
        shape = [1] * len(dims)
        shape[position] = -1
        where[dim] = index.view(shape)
    full[tuple(where)] = part
    return full
