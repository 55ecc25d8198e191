"""Parts of pre-LN Transformers: attention, layers of encoders and decoders, embeddings."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

# What encoder stages hand on: hidden states ``Tensor[B, S, F]``, which source tokens are there
# ``Tensor[B, S]``, and the prefix of the translation ``Tensor[B, T]``.
Value: TypeAlias = tuple[Tensor, Tensor, Tensor]
# Keys and values, ``Tensor[B, heads, S, F / heads]``.
Pair: TypeAlias = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Multi-head attention.

    Args:
        width: of hidden states.
        heads: how many.
        dropout: of attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query, self.key, self.value, self.out = (_linear(width, width) for _ in range(4))

    def pair(self, source: Tensor) -> Pair:
        """Keys and values ``Tensor[B, heads, S, F / heads]`` of what is attended to."""
        return self._split(self.key(source)), self._split(self.value(source))

    def forward(
        self, x: Tensor, pair: Pair, there: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """What is found for ``x``, ``Tensor[B, T, F]``.

        Args:
            x: who asks.
            pair: see :meth:`pair`.
            there: which positions of the pair exist, ``Tensor[B, S]``; None for all.
            causal: whether position t sees positions up to t alone.
        """
        found = functional.scaled_dot_product_attention(
            self._split(self.query(x)),
            *pair,
            attn_mask=None if there is None else there[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention and a perceptron, each normalised before and added after.

    Args:
        width: of hidden states.
        feedforward: hidden size of the perceptron.
        heads: of attention.
        dropout: of attention weights, of the perceptron, and of what is added.
    """

    def __init__(self, width: int, feedforward: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = _perceptron(width, feedforward, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, value: Value) -> Value:
        """The value after the layer; no token attends to padding."""
        x, there, prefix = value
        normal = self.before_attention(x)
        x = x + self.dropout(self.attention(normal, self.attention.pair(normal), there))
        x = x + self.dropout(self.perceptron(self.before_perceptron(x)))
        return x, there, prefix


class DecoderLayer(nn.Module):
    """Attention to what was written, attention to the source, and a perceptron.

    Args:
        width: of hidden states.
        feedforward: hidden size of the perceptron.
        heads: of attention.
        dropout: of attention weights, of the perceptron, and of what is added.
    """

    def __init__(self, width: int, feedforward: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.before_source = nn.LayerNorm(width)
        self.source = Attention(width, heads, dropout)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = _perceptron(width, feedforward, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, source: Pair, there: Tensor, past: Pair | None = None
    ) -> tuple[Tensor, Pair]:
        """Hidden states after the layer, and the keys and values of all that was written.

        Args:
            x: ``Tensor[B, T, F]``; a single position where there is a past.
            source: keys and values of the source.
            there: which source tokens are there.
            past: keys and values of what was written before ``x``.
        """
        normal = self.before_attention(x)
        pair = self.attention.pair(normal)
        if past is not None:
            pair = (torch.cat([past[0], pair[0]], 2), torch.cat([past[1], pair[1]], 2))
        x = x + self.dropout(self.attention(normal, pair, causal=past is None))
        x = x + self.dropout(self.source(self.before_source(x), source, there))
        return x + self.dropout(self.perceptron(self.before_perceptron(x))), pair


class Embedding(nn.Module):
    """Tokens and their positions, which are sines and have no parameters.

    Args:
        tokens: the table, ``[vocabulary, F]``.
        dropout: of the sum.
    """

    def __init__(self, tokens: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.tokens = tokens
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, start: int = 0) -> Tensor:
        """From ``Tensor[B, T]``, the first at position ``start``, to ``Tensor[B, T, F]``."""
        x = self.tokens(ids) * math.sqrt(self.tokens.embedding_dim)
        out: Tensor = self.dropout(x + sines(start, ids.shape[1], x))
        return out


def sines(start: int, length: int, like: Tensor) -> Tensor:
    """Positions ``start`` to ``start + length`` as sines and cosines, ``Tensor[length, F]``."""
    width = like.shape[-1]
    half = (width + 1) // 2
    place = torch.arange(start, start + length, device=like.device, dtype=torch.float32)
    rate = torch.arange(half, device=like.device, dtype=torch.float32) / half
    angle = place.unsqueeze(1) * torch.pow(10000.0, -rate)
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width].to(like.dtype)


def table(vocabulary: int, width: int) -> nn.Embedding:
    """Embeddings of a size that ``sqrt(F)`` brings to one."""
    made = nn.Embedding(vocabulary, width)
    nn.init.normal_(made.weight, std=width**-0.5)
    return made


def _linear(inputs: int, outputs: int) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(made.weight)
    nn.init.zeros_(made.bias)
    return made


def _perceptron(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        _linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), _linear(hidden, width)
    )
