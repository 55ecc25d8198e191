"""Molecules in space as inputs of networks: numbers that turning does not change, or graphs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equipoise.nn import Trunk

# Of H, C, N, O, F. Covalent radii in angstrom: Cordero et al. (2008), doi:10.1039/b801115j.
ELEMENTS = (1, 6, 7, 8, 9)
RADII = (0.31, 0.76, 0.71, 0.66, 0.57)
# Two atoms are bonded where they are nearer than the sum of their radii times this.
SLACK = 1.25
NODE_FEATURES = len(ELEMENTS) + 3
EDGE_FEATURES = 2
# Molecules at a time: a Coulomb matrix each.
PIECE = 4096


def descriptors(elements: NDArray[np.uint8], positions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Eigenvalues of the Coulomb matrix, the largest first, and how many atoms of each element.

    Args:
        elements: atomic numbers ``uint8[N, A]``, 0 behind the last atom.
        positions: in angstrom, ``float32[N, A, 3]``.

    Returns:
        ``float64[N, A + 5]``.

    References:
        Rupp et al., *Fast and Accurate Modeling of Molecular Atomization Energies with Machine Learning*,
        2012, arXiv:1109.2618.
    """
    found = []
    for start in range(0, len(elements), PIECE):
        z = elements[start : start + PIECE].astype(np.float64)
        x = positions[start : start + PIECE].astype(np.float64)
        apart = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)
        own = np.eye(z.shape[1], dtype=bool)
        apart[:, own] = 1.0
        matrix = z[:, :, None] * z[:, None] / np.maximum(apart, 1e-3)
        matrix[:, own] = 0.5 * z**2.4
        values = np.linalg.eigvalsh(matrix)[:, ::-1]
        counts = np.stack([(z == element).sum(1) for element in ELEMENTS], axis=1)
        found.append(np.concatenate([values, counts], axis=1))
    return np.concatenate(found)


class Graphs(nn.Module):
    """Atoms and all pairs of them, from elements and places.

    Atoms have 8 features: the element (H, C, N, O, F), its number divided by 9, its bonds and its hydrogens.
    Pairs have 2: the distance in angstrom, and whether they are bonded, by their covalent radii.
    """

    def __init__(self) -> None:
        super().__init__()
        radii = torch.zeros(max(ELEMENTS) + 1)
        radii[list(ELEMENTS)] = torch.tensor(RADII)
        self.register_buffer("radii", radii, persistent=False)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From ``(uint8[B, A], float[B, A, 3])`` to what :func:`equipoise.nn.backbones.mpnn` takes."""
        elements, positions = inputs
        z = elements.long()
        there = z > 0
        apart = (positions.unsqueeze(2) - positions.unsqueeze(1)).square().sum(-1).sqrt()
        radii = self.get_buffer("radii")[z]
        reach = SLACK * (radii.unsqueeze(2) + radii.unsqueeze(1))
        count = z.shape[1]
        pairs = there.unsqueeze(2) & there.unsqueeze(1)
        pairs = pairs & ~torch.eye(count, dtype=torch.bool, device=z.device)
        bonded = pairs & (apart < reach)
        kinds = torch.tensor(ELEMENTS, device=z.device)
        one_hot = (z.unsqueeze(-1) == kinds).float()
        numbers = (z.float() / max(ELEMENTS)).unsqueeze(-1)
        bonds = bonded.sum(-1, keepdim=True).float()
        hydrogens = (bonded & (z == 1).unsqueeze(1)).sum(-1, keepdim=True).float()
        nodes = torch.cat([one_hot, numbers, bonds, hydrogens], -1)
        start, end = torch.meshgrid(*[torch.arange(count, device=z.device)] * 2, indexing="ij")
        ends = torch.stack([start, end], -1).flatten(0, 1)
        ends = torch.where(pairs.flatten(1).unsqueeze(-1), ends, -1)
        edges = torch.stack([apart, bonded.float()], -1).flatten(1, 2)
        return nodes, there.sum(1), ends, edges


def in_space(trunk: Trunk) -> Trunk:
    """A trunk of graphs as one of elements and places."""

    def stages() -> list[nn.Module]:
        first, *rest = trunk.stages()
        return [nn.Sequential(Graphs(), first), *rest]

    return Trunk(stages, trunk.channels)
