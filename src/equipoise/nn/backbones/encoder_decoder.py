"""A pre-LN Transformer encoder-decoder for translation from one language into many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from equipoise.nn.backbones.attention import (
    DecoderLayer,
    Embedding,
    EncoderLayer,
    Pair,
    Value,
    table,
)
from equipoise.nn.trunk import Trunk

Tied = Literal["none", "output", "all"]


class Source(nn.Module):
    """The encoder's first stage.

    Args:
        embedding: of the source.
        padding: the token that stands for none.
    """

    def __init__(self, embedding: Embedding, padding: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.padding = padding

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Value:
        """From ``(source, prefix)`` to the value that layers hand on."""
        source, prefix = inputs
        there = source != self.padding
        # A row without any token has nothing to attend to; its own padding keeps it finite.
        there = there | ~there.any(1, keepdim=True)
        return self.embedding(source), there, prefix


class Normal(nn.Module):
    """The norm that closes a pre-LN encoder.

    Args:
        width: of hidden states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, value: Value) -> Value:
        """The value with its hidden states normalised."""
        x, *rest = value
        return self.norm(x), *rest


# Source tokens there, then of every layer the source's keys and values, and those of what was written.
State: TypeAlias = tuple[Tensor, tuple[Pair, ...], tuple[Pair, ...]]


class Decoder(nn.Module):
    """From the encoder's value to logits of the next token at every position.

    It is a task's head, where each language has its own, or the last stage of :func:`encoder_decoder`.
    The prefix is padded on the right, if at all.

    Args:
        vocabulary: number of target tokens.
        width: of hidden states.
        feedforward: hidden size of the perceptrons.
        heads: of attention.
        layers: how many.
        dropout: of attention weights, of the perceptrons, and of what is added.
        tied: whether the logits come from the table of embeddings.
        project: whether there are logits at all; else hidden states ``[B, T, width]`` are returned.
        tokens: a table to be shared; None for one of its own.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 512,
        feedforward: int = 2048,
        heads: int = 8,
        layers: int = 3,
        dropout: float = 0.1,
        tied: bool = False,
        project: bool = True,
        tokens: nn.Embedding | None = None,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(tokens or table(vocabulary, width), dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(width, feedforward, heads, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False) if project else None
        if self.output is not None:
            if tied:
                self.output.weight = self.embedding.tokens.weight
            else:
                nn.init.normal_(self.output.weight, std=width**-0.5)

    def forward(self, value: Value) -> Tensor:
        """Logits ``Tensor[B, T, vocabulary]``; those at position t have seen the prefix up to t."""
        memory, there, prefix = value
        x = self.embedding(prefix)
        for layer in self._layers():
            x, _ = layer(x, layer.source.pair(memory), there)
        return self._out(x)

    def begin(self, value: Value) -> State:
        """The state in which nothing is written."""
        memory, there, _ = value
        sources = tuple(layer.source.pair(memory) for layer in self._layers())
        written = tuple((keys[:, :, :0], values[:, :, :0]) for keys, values in sources)
        return there, sources, written

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Writes a token ``Tensor[N]``: logits of the next ``Tensor[N, vocabulary]``, and the new state."""
        there, sources, written = state
        position = written[0][0].shape[2] if written else 0
        x = self.embedding(tokens.unsqueeze(1), position)
        pairs = []
        for layer, source, past in zip(self._layers(), sources, written, strict=True):
            x, pair = layer(x, source, there, past)
            pairs.append(pair)
        return self._out(x).squeeze(1), (there, sources, tuple(pairs))

    def _layers(self) -> list[Any]:
        return list(self.layers)

    def _out(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x if self.output is None else self.output(x)


def transformer_encoder(
    vocabulary: int,
    width: int = 512,
    feedforward: int = 2048,
    heads: int = 8,
    layers: int = 3,
    dropout: float = 0.1,
    padding: int = 0,
) -> Trunk:
    """The encoder as a trunk, for a :class:`Decoder` of each task's own.

    The inputs are ``(source, prefix)``, tokens ``Tensor[B, S]`` and ``Tensor[B, T]``. The embedding is a
    stage, and so is each layer; all hand on ``(hidden, mask, prefix)``, the last one too.

    Args:
        vocabulary: number of source tokens.
        width: of hidden states.
        feedforward: hidden size of the perceptrons.
        heads: of attention.
        layers: how many.
        dropout: of attention weights, of the perceptrons, and of what is added.
        padding: the token that stands for none.

    Raises:
        ValueError: the width is no multiple of the heads.

    References:
        Vaswani et al., *Attention Is All You Need*, NeurIPS 2017, arXiv:1706.03762; norms before, as in
        Xiong et al., *On Layer Normalization in the Transformer Architecture*, ICML 2020, arXiv:2002.04745.
    """
    _refuse(width, heads)

    def stages() -> Sequence[nn.Module]:
        tokens = table(vocabulary, width)
        return _encoder(tokens, width, feedforward, heads, layers, dropout, padding)

    return Trunk(stages, (width,) * (layers + 1))


def encoder_decoder(
    vocabulary: int,
    targets: int | None = None,
    width: int = 512,
    feedforward: int = 2048,
    heads: int = 8,
    layers: tuple[int, int] = (3, 3),
    dropout: float = 0.1,
    padding: int = 0,
    tied: Tied = "none",
    project: bool = True,
) -> Trunk:
    """Encoder and decoder as one trunk: languages differ by the first token of the prefix or of the source.

    The inputs are those of :func:`transformer_encoder`, the decoder is one more stage. With its defaults and
    64,000 tokens it is the network of Xin et al.; the heads are then ``nn.Identity()``.

    Args:
        vocabulary: number of source tokens.
        targets: number of target tokens; None for the same.
        width: of hidden states.
        feedforward: hidden size of the perceptrons.
        heads: of attention.
        layers: of the encoder and of the decoder.
        dropout: of attention weights, of the perceptrons, and of what is added.
        padding: the token that stands for none.
        tied: which tables are one: ``"none"``; ``"output"``, the target's embeddings and the logits';
            ``"all"``, these and the source's.
        project: whether the trunk gives logits; else hidden states ``[B, T, width]``, for linear heads.

    Raises:
        ValueError: the width is no multiple of the heads, or tables of different sizes are to be one.

    References:
        Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*, NeurIPS 2022,
        arXiv:2209.11379.
    """
    _refuse(width, heads)
    count = targets or vocabulary
    if tied not in ("none", "output", "all"):
        raise ValueError(f"there is no tied={tied!r}; known: 'none', 'output', 'all'")
    if tied == "all" and count != vocabulary:
        raise ValueError(
            f"tied='all' needs one vocabulary, and there are {vocabulary} source tokens and {count} target "
            "tokens; use tied='output'"
        )

    def stages() -> Sequence[nn.Module]:
        tokens = table(vocabulary, width)
        made = _encoder(tokens, width, feedforward, heads, layers[0], dropout, padding)
        own = tokens if tied == "all" else None
        sizes = (width, feedforward, heads, layers[1], dropout)
        made.append(Decoder(count, *sizes, tied=tied != "none", project=project, tokens=own))
        return made

    return Trunk(stages, (*(width,) * (layers[0] + 1), count if project else width))


def _encoder(
    tokens: nn.Embedding,
    width: int,
    feedforward: int,
    heads: int,
    layers: int,
    dropout: float,
    padding: int,
) -> list[nn.Module]:
    made: list[nn.Module] = [Source(Embedding(tokens, dropout), padding)]
    made += [EncoderLayer(width, feedforward, heads, dropout) for _ in range(layers)]
    made[-1] = nn.Sequential(made[-1], Normal(width))
    return made


def _refuse(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"the width {width} is no multiple of {heads} heads")
