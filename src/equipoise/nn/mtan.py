"""MTAN: one trunk, and for each task attention masks over the maps of its stages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn.backbones.segnet import Unpooled
from equipoise.nn.multitask import MultiTask, Part, refuse_share
from equipoise.nn.stages import by_task, copies, parted, rejoined
from equipoise.nn.trunk import Share, Trunk

# Parts that keep the channels and make maps larger.
ENLARGING = (Unpooled, nn.Upsample, nn.MaxUnpool2d)
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
      stage, :math:`f_j` is a 3x3 convolution with BN and ReLU, masks have C hidden channels. A stage that
      begins with unpooling or upsampling is of the decoder: there :math:`u_j` is the map that comes out of
      it, before the first convolution. Between encoder and decoder there is one 3x3 convolution more,
      after which the maps are pooled to the size of what is unpooled. On
      :func:`~equipoise.nn.backbones.segnet` this is the network of the paper's authors, to the parameter.
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
        self._turns = {}
        if form == "segnet":
            turns = {j: _enlarging(self.stages[j]) for j in self._attended[1:]}
            # Parts without parameters keep the channels, so that those before the stage are known.
            self._turns = {j: at for j, at in turns.items() if at is not None}
            self._cuts |= {j: _convolving(self.stages[j])[0] for j in self._turns}
        channels = [trunk.channels[j] for j in self._attended]
        within = [
            trunk.channels[j - 1] if j in self._turns else trunk.channels[j] for j in self._attended
        ]
        between = _convolution if form == "segnet" else Bottleneck
        self.between = nn.ModuleList(
            between(before, after) for before, after in itertools.pairwise(channels)
        )
        # The first stage of the decoder, where attended maps pass one more convolution.
        self._bottom = min(self._turns, default=None)
        self.bottom: nn.Module | None = None
        if self._bottom is not None:
            deepest = channels[self._attended.index(self._bottom) - 1]
            self.bottom = _convolution(deepest, deepest)
        narrow, bias = (1, True) if form == "segnet" else (4, False)
        self.masks = by_task(
            {
                task: nn.ModuleList(
                    _mask(inner + (c if j else 0), max(c // narrow, 1), c, bias)
                    for j, (inner, c) in enumerate(zip(within, channels, strict=True))
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
        bottom = [] if self.bottom is None else [self.bottom]
        return [self.stages, self.between, *bottom, self.masks[task], self.heads[task]]

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
            within, maps, value, turned = self._read(stage, module, value)
            whole = None if value is maps else value
            number = self._attended.index(stage)
            for task in wanted:
                seen = [within]
                if number:
                    between, carried = self.between[number - 1], attended[task]
                    if stage == self._bottom and self.bottom is not None:
                        carried = _sized(self.bottom(carried), turned)
                    seen.append(_carried(between, carried, maps.shape[-2:]))
                mask = self.masks[task][number](torch.cat(seen, 1))  # type: ignore[index]
                attended[task] = mask * maps
        return self.read({task: rejoined(attended[task], whole) for task in wanted})

    def _read(
        self, stage: int, module: nn.Module, value: Any
    ) -> tuple[Tensor, Tensor, Any, Sequence[int]]:
        """The maps within a stage, at the size of those it returns, the latter, and all it returns.

        Last comes the size of what is unpooled or upsampled; of the maps where nothing is.
        """
        cut, turn, turned = self._cuts[stage], self._turns.get(stage), None
        if cut:
            assert isinstance(module, nn.Sequential)
            inner = value
            for number, child in enumerate(list(module)[:cut]):
                if number == turn:
                    turned = parted(inner, f"stage {stage}")[0].shape[-2:]
                inner = child(inner)
            value = module[cut:](inner)
        else:
            value = inner = module(value)
        within, maps = (parted(v, f"stage {stage}")[0] for v in (inner, value))
        if maps.ndim != 4:
            raise ValueError(
                f"MTAN attends to spatial maps [B, C, H, W], and stage {stage} returned {list(maps.shape)}; "
                f"move layers that flatten into the heads, or {INSTEAD}"
            )
        return _sized(within, maps.shape[-2:]), maps, value, turned or maps.shape[-2:]


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


def _normed(
    inside: int, outside: int, size: int, bias: bool = False
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inside, outside, size, padding=size // 2, bias=bias)
    return convolution, nn.BatchNorm2d(outside)


def _convolution(inside: int, outside: int) -> nn.Module:
    return nn.Sequential(*_normed(inside, outside, 3, bias=True), nn.ReLU())


def _mask(inside: int, middle: int, outside: int, bias: bool) -> nn.Module:
    return nn.Sequential(
        *_normed(inside, middle, 1, bias),
        nn.ReLU(),
        *_normed(middle, outside, 1, bias),
        nn.Sigmoid(),
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


def _convolving(stage: nn.Module) -> list[int]:
    """Which children of a stage convolve; none where it is no sequence."""
    if not isinstance(stage, nn.Sequential):
        return []
    return [n for n, child in enumerate(stage) if _convolutions(child)]


def _enlarging(stage: nn.Module) -> int | None:
    """Which child unpools or upsamples before the first convolution; None where none does."""
    convolving = _convolving(stage)
    if not convolving:
        return None
    assert isinstance(stage, nn.Sequential)
    before = enumerate(list(stage)[: convolving[0]])
    return next((n for n, child in before if isinstance(child, ENLARGING)), None)


def _cut(stage: nn.Module, channels: int, form: Form) -> int:
    """Before which child of a stage its inner maps are taken; 0 where it has none with these channels."""
    convolving = _convolving(stage)
    if len(convolving) < 2:
        return 0
    assert isinstance(stage, nn.Sequential)
    cut = convolving[1] if form == "segnet" else convolving[-1]
    declared = [
        getattr(m, "num_features", None) or getattr(m, "out_channels", None)
        for m in stage[:cut].modules()
    ]
    return cut if [c for c in declared if c][-1:] == [channels] else 0
