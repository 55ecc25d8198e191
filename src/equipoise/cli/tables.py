"""What the terminal shows of the catalogue of methods."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from equipoise.methods.base import Card, Method, Needs
from equipoise.methods.catalogue import classes, find


def show_cards(needs: str | None, as_json: bool) -> None:
    """Lists the methods.

    Raises:
        ValueError: ``needs`` is nothing a method can need.
    """
    known = get_args(Needs)
    if needs is not None and needs not in known:
        raise ValueError(f"--needs {needs!r} is none of {', '.join(known)}")
    chosen = [cls for cls in classes() if needs in (None, cls.needs)]
    if as_json:
        print(json.dumps([_facts(cls) for cls in chosen], indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "name", "needs", "heads get", "sum", "source"):
        table.add_column(column, no_wrap=True)
    for cls in chosen:
        card = cls.card
        first = re.split(",| and | et al", card.authors)[0]
        source = f"{first} {card.year}"
        table.add_row(card.id, card.name, cls.needs, card.heads, card.weight_sum, source)
    Console().print(table)


def show_card(name: str, as_json: bool) -> None:
    """Shows everything a method's card says.

    Raises:
        ValueError: there is no such method.
    """
    cls = find(name)
    if as_json:
        print(json.dumps(_facts(cls), indent=2, ensure_ascii=False))
        return
    card = cls.card
    table = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _lines(card, cls).items():
        if value:
            table.add_row(key, value)
    Console().print(table)


def _lines(card: Card, cls: type[Method]) -> dict[str, str]:
    return {
        "method": f"{card.name} ({card.id})",
        "paper": f"{card.authors}: {card.title}, {card.venue} {card.year}",
        "arXiv": card.arxiv or "",
        "equation": card.equation,
        "needs": cls.needs,
        "heads get": f"the {card.heads} loss",
        "weights sum to": card.weight_sum,
        "unit free": "yes" if card.unit_free else "no: the unit of a loss matters",
        "degree": "" if card.degree is None else f"{card.degree:g}",
        "guarantee": card.guarantee,
        "defaults": card.defaults,
        "deviations": card.deviations,
        "in LibMTL": card.libmtl or "",
        "in TorchJD": card.torchjd or "",
    }


def _facts(cls: type[Method]) -> dict[str, Any]:
    return {**asdict(cls.card), "needs": cls.needs}
