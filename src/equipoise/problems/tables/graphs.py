"""Molecules as graphs, padded to one size: what the message-passing network takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equipoise.problems.files import needs
from equipoise.problems.tables.molecules import EXTRA

ELEMENTS = (1, 6, 7, 8, 9)
NODE_FEATURES = len(ELEMENTS) + 6
EDGE_FEATURES = 5


def padded(molecules: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Graphs of RDKit's molecules, in which every atom is joined with every other.

    Atoms have 11 features: the element (H, C, N, O, F), its number, whether it is aromatic, its hybridisation
    (sp, sp2, sp3) and its hydrogens. Pairs have 5: the kind of bond (single, double, triple, aromatic) and
    the number of bonds between them.

    Returns:
        Nodes ``float[B, N, 11]``, sizes ``int[B]``, ends ``int[B, E, 2]`` with -1 for none, and edges
        ``float[B, E, 5]``, as :func:`equipoise.nn.backbones.mpnn` takes them.
    """
    chem = needs("rdkit.Chem", EXTRA)
    most = max(each.GetNumAtoms() for each in molecules)
    pairs = most * (most - 1)
    nodes = np.zeros((len(molecules), most, NODE_FEATURES), dtype=np.float32)
    ends = np.full((len(molecules), pairs, 2), -1)
    edges = np.zeros((len(molecules), pairs, EDGE_FEATURES), dtype=np.float32)
    for k, molecule in enumerate(molecules):
        count = molecule.GetNumAtoms()
        nodes[k, :count] = [_atom(atom, chem) for atom in molecule.GetAtoms()]
        start, end = np.nonzero(~np.eye(count, dtype=bool))
        ends[k, : len(start), 0], ends[k, : len(start), 1] = start, end
        edges[k, : len(start)] = _bonds(molecule, count, chem)[start, end]
    sizes = torch.tensor([each.GetNumAtoms() for each in molecules])
    return torch.from_numpy(nodes), sizes, torch.from_numpy(ends), torch.from_numpy(edges)


def _atom(atom: Any, chem: Any) -> list[float]:
    kinds = chem.HybridizationType
    hybrid = atom.GetHybridization()
    number = atom.GetAtomicNum()
    return [
        *(float(number == each) for each in ELEMENTS),
        float(number),
        float(atom.GetIsAromatic()),
        *(float(hybrid == kind) for kind in (kinds.SP, kinds.SP2, kinds.SP3)),
        float(atom.GetTotalNumHs()),
    ]


def _bonds(molecule: Any, count: int, chem: Any) -> NDArray[np.float32]:
    """Features of every pair, ``float32[count, count, 5]``."""
    kinds = (
        chem.BondType.SINGLE,
        chem.BondType.DOUBLE,
        chem.BondType.TRIPLE,
        chem.BondType.AROMATIC,
    )
    found = np.zeros((count, count, EDGE_FEATURES), dtype=np.float32)
    for bond in molecule.GetBonds():
        pair = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        row = [float(bond.GetBondType() == kind) for kind in kinds]
        found[pair][:-1] = found[pair[::-1]][:-1] = row
    # Atoms of two fragments are as far from each other as atoms can be.
    found[..., -1] = np.minimum(chem.GetDistanceMatrix(molecule), count)
    return found
