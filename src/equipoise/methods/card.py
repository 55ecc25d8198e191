"""The facts about a method, and what its docstring says of them: the equation and the paper."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Needs = Literal["losses", "gramian", "jacobian", "batches", "bilevel"]
Heads = Literal["weighted", "unweighted"]
LeastLoss = Literal["any", "zero", "above_zero"]


@dataclass(frozen=True, kw_only=True)
class Card:
    r"""The facts about a published method, as the catalogue and the documentation show them.

    Attributes:
        id: lower snake case name, as in ``Balancer("uw_so")``.
        name: the name as the literature writes it.
        title, authors, venue, year, arxiv: the source paper; where they are left out, the first one under
            ``References:`` in the method's docstring.
        equation: the weights (or the combined gradient) in one line of LaTeX; where it is left out, the first
            formula of the docstring.
        heads: what the task heads get in the paper: the gradient of the weighted loss, or of the plain
            loss (only the shared parameters are balanced).
        weight_sum: what the weights sum to in the paper: ``"K"``, ``"1"`` or ``"free"``.
        degree: homogeneity of the weights: multiplying every loss (a method that needs losses) or every
            entry of the Gramian (one that needs gradients) by ``c`` multiplies the weights by
            ``c ** degree``. None where no such law holds, or where it depends on an option.
        unit_free: the combined direction keeps its direction when single tasks change their unit
            (loss and gradient of task k times ``c_k``).
        guarantee: what the paper proves about the update, in a few words; empty if nothing.
        defaults: the defaults and where they come from.
        deviations: where known public implementations differ from the paper, and what is done here.
        libmtl: name in LibMTL, or None.
        torchjd: name in TorchJD, or None.
    """

    id: str
    name: str
    title: str = ""
    authors: str = ""
    venue: str = ""
    year: int = 0
    arxiv: str | None = None
    equation: str = ""
    heads: Heads
    weight_sum: Literal["K", "1", "free"] = "free"
    degree: float | None = None
    unit_free: bool = False
    guarantee: str = ""
    defaults: str = ""
    deviations: str = ""
    libmtl: str | None = None
    torchjd: str | None = None


# Authors, *title*, venue year, arXiv:id - as a docstring names a paper.
REFERENCE = re.compile(
    r"References: (?P<authors>[^*]+?), \*(?P<title>[^*]+)\*, (?:(?P<venue>[^,;.]+?) )?(?P<year>\d{4})"
    r"[^,;.]*(?:, arXiv:(?P<arxiv>\d{4}\.\d{4,5}))?"
)


FORMULA = re.compile(r"^( *)\.\. math::(?P<latex>[^\n]*(?:\n\1   +\S[^\n]*)*)", re.MULTILINE)


def cited(card: Card, docstring: str) -> Card:
    """The card with the first formula of the docstring, and the first paper under ``References:``.

    What the card says itself it keeps.
    """
    formula = FORMULA.search(docstring)
    if formula is not None and not card.equation:
        card = replace(card, equation=" ".join(formula["latex"].split()))
    if card.title:
        return card
    found = REFERENCE.search(" ".join(docstring.split()))
    if found is None:
        return card
    paper = found.groupdict()
    return replace(
        card,
        authors=paper["authors"],
        title=paper["title"],
        venue=paper["venue"] or "arXiv",
        year=int(paper["year"]),
        arxiv=paper["arxiv"],
    )
