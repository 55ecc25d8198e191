"""MTAN: one trunk, and for each task attention masks over the maps of its stages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn.multitask import MultiTask, Part, refuse_share
from equipoise.nn.stages import by_task, copies, parted, rejoined
from equipoise.nn.trunk import Share, Trunk

Form = Literal["segnet", "resnet"]
INSTEAD = "take 'mmoe', 'cgc' or 'cross_stitch', which work on vectors and tokens too"


class MTAN(MultiTask):
    r"""One trunk; each task attends to the maps of every stage.

    Of stage j the trunk gives :math:`u_j`, from within the stage, and :math:`p_j`, what it returns. Task k
    has

    .. math:: \hat a_j^k = h_j^k([u_j; f_j(\hat a_{j-1}^k)]) \odot p_j

    with a mask :math:`h_j^k` of its own (1x1 convolution, BN, ReLU, 1x1 convolution, BN, sigmoid) and
    :math:`f_j` that all tasks share, brought to the size of :math:`p_j` by max pooling or bilinear
    interpolation. The head reads the last :math:`\hat a^k`.

    * ``"segnet"``, for encoder-decoder stages: :math:`u_j` is taken behind the first convolution of the
      stage, :math:`f_j` is a 3x3 convolution with BN and ReLU, masks have C hidden channels.
    * ``"resnet"``, for encoder stages: :math:`u_j` is taken before the last block, :math:`f_j` is a
      bottleneck block, masks have C / 4 hidden channels.

    A stage that is no ``nn.Sequential`` of several convolutional children with C channels before the cut
    is read once, :math:`u_j = p_j`. A stage without parameters gets no attention; at the end of the trunk,
    such as pooling and flattening, it is applied to the attended maps of each task.

    In the second form a first stage with one convolution, a stem, gets no attention either.

    Args:
        trunk: its stages return maps ``Tensor[B, C, H, W]``, or tuples that begin with them.
        heads: by task.
        form: ``"segnet"`` or ``"resnet"``; None: the first where the last stage has fewer channels than the
            widest, as decoders have.

    Raises:
        ValueError: a stage is no spatial map, or there is no such form.

    References:
        Liu, Johns, Davison, *End-to-End Multi-Task Learning with Attention*, CVPR 2019, arXiv:1803.10704.
    """

    def __init__(
        self, trunk: Trunk, heads: Mapping[str, nn.Module], *, form: Form | None = None
    ) -> None:
        super().__init__(heads)
        if form is None:
            form = "segnet" if trunk.channels[-1] < max(trunk.channels) else "resnet"
        if form not in ("segnet", "resnet"):
            raise ValueError(f"form={form!r} is none of 'segnet', 'resnet'")
        self.form: Form = form
        self.stages = nn.ModuleList(copies(trunk, 1)[0])
        if not any(map(_convolutions, self.stages)):
            raise ValueError(
                f"MTAN attends to spatial maps, and no stage of this trunk has a convolution; {INSTEAD}"
            )
        with_parameters = [any(True for _ in stage.parameters()) for stage in self.stages]
        self._attended = [j for j, has in enumerate(with_parameters) if has]
        if form == "resnet" and len(self._attended) > 1 and _convolutions(self.stages[0]) == 1:
            self._attended = [j for j in self._attended if j]
        self._cuts = {j: _cut(self.stages[j], trunk.channels[j], form) for j in self._attended}
        channels = [trunk.channels[j] for j in self._attended]
        between = _convolution if form == "segnet" else Bottleneck
        self.between = nn.ModuleList(
            between(before, after) for before, after in itertools.pairwise(channels)
        )
        narrow = 1 if form == "segnet" else 4
        self.masks = by_task(
            {
                task: nn.ModuleList(
                    _mask(c if j == 0 else 2 * c, max(c // narrow, 1), c)
                    for j, c in enumerate(channels)
                )
                for task in self.heads
            }
        )

    @classmethod
    def over(
        cls, trunk: Trunk, heads: Mapping[str, nn.Module], *, form: Form | None = None
    ) -> MTAN:
        """The network over a trunk; the options are those of the class."""
        return cls(trunk, heads, form=form)

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        return [self.stages, self.between, self.masks[task], self.heads[task]]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the first stage takes.
            share: has to be None.
            tasks: whose outputs are wanted; None for all.

        Raises:
            ValueError: ``share`` was given, or a stage returns something else than maps.
        """
        refuse_share(
            share, "the tasks of MTAN read maps of every stage, and share layers behind them"
        )
        attended: dict[str, Any] = {}
        value, wanted, last = inputs, self.wanted(tasks), self._attended[-1]
        whole = None
        for stage, module in enumerate(self.stages):
            if stage not in self._cuts:
                if stage < last:
                    value = module(value)
                else:
                    attended = {t: module(rejoined(a, whole)) for t, a in attended.items()}
                    whole = None
                continue
            within, maps, value = self._read(stage, module, value)
            whole = None if value is maps else value
            number = self._attended.index(stage)
            for task in wanted:
                seen = [within]
                if number:
                    between = self.between[number - 1]
                    seen.append(_carried(between, attended[task], maps.shape[-2:]))
                mask = self.masks[task][number](torch.cat(seen, 1))  # type: ignore[index]
                attended[task] = mask * maps
        return self.read({task: rejoined(attended[task], whole) for task in wanted})

    def _read(self, stage: int, module: nn.Module, value: Any) -> tuple[Tensor, Tensor, Any]:
        """The maps within a stage, at the size of those it returns, the latter, and all it returns."""
        cut = self._cuts[stage]
        if cut:
            assert isinstance(module, nn.Sequential)
            inner = module[:cut](value)
            value = module[cut:](inner)
        else:
            value = inner = module(value)
        within, maps = (parted(v, f"stage {stage}")[0] for v in (inner, value))
        if maps.ndim != 4:
            raise ValueError(
                f"MTAN attends to spatial maps [B, C, H, W], and stage {stage} returned {list(maps.shape)}; "
                f"move layers that flatten into the heads, or {INSTEAD}"
            )
        return _sized(within, maps.shape[-2:]), maps, value


class Bottleneck(nn.Module):
    """A residual block that narrows to a quarter of the channels in between.

    Args:
        inside: channels of what comes in.
        outside: channels of what goes out.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        middle = max(outside // 4, 1)
        self.residual = nn.Sequential(
            *_normed(inside, middle, 1),
            nn.ReLU(),
            *_normed(middle, middle, 3),
            nn.ReLU(),
            *_normed(middle, outside, 1),
        )
        self.shortcut = nn.Sequential(*_normed(inside, outside, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps with the channels that go out."""
        return functional.relu(self.residual(maps) + self.shortcut(maps))


def _normed(inside: int, outside: int, size: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inside, outside, size, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outside)


def _convolution(inside: int, outside: int) -> nn.Module:
    return nn.Sequential(*_normed(inside, outside, 3), nn.ReLU())


def _mask(inside: int, middle: int, outside: int) -> nn.Module:
    return nn.Sequential(
        *_normed(inside, middle, 1), nn.ReLU(), *_normed(middle, outside, 1), nn.Sigmoid()
    )


def _sized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps of another size: max pooling to a smaller one, interpolation to a larger one."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if maps.shape[-2] >= size[0] and maps.shape[-1] >= size[1]:
        return functional.adaptive_max_pool2d(maps, list(size))
    return functional.interpolate(maps, list(size), mode="bilinear", align_corners=True)


def _carried(between: nn.Module, maps: Tensor, size: Sequence[int]) -> Tensor:
    """The attended maps of the stage before; the convolution works at the larger of the two sizes."""
    grows = maps.shape[-2] < size[0] or maps.shape[-1] < size[1]
    carried: Tensor = between(_sized(maps, size)) if grows else _sized(between(maps), size)
    return carried


def _convolutions(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())


def _cut(stage: nn.Module, channels: int, form: Form) -> int:
    """Before which child of a stage its inner maps are taken; 0 where it has none with these channels."""
    if not isinstance(stage, nn.Sequential):
        return 0
    convolving = [n for n, child in enumerate(stage) if _convolutions(child)]
    if len(convolving) < 2:
        return 0
    cut = convolving[1] if form == "segnet" else convolving[-1]
    declared = [
        getattr(m, "num_features", None) or getattr(m, "out_channels", None)
        for m in stage[:cut].modules()
    ]
    return cut if [c for c in declared if c][-1:] == [channels] else 0
