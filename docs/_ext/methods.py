"""A page for every method of the catalogue, written from its card before the pages are read.

Run as a script, it brings the table of methods in the README up to date.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import figures

from equipoise.methods.base import Card, Method
from equipoise.methods.catalogue import classes

KINDS = {
    "losses": "Methods that look at losses",
    "gramian": "Methods that look at inner products of task gradients",
    "jacobian": "Methods that look at single entries of task gradients",
    "batches": "Methods that compare several batches",
    "bilevel": "Methods that learn their weights on validation losses",
}
NEEDS = {
    "losses": "the losses",
    "gramian": "the inner products of the task gradients (the K × K Gramian)",
    "jacobian": "every entry of the task gradients (the K × P Jacobian)",
    "batches": "the inner products of task gradients across three batches",
    "bilevel": "the losses of a training and of a validation batch (``balancer.bilevel``)",
}
PASSES = {
    "losses": "1",
    "gramian": "K on the parameters route, 1 on the features route",
    "jacobian": "K on the parameters route, 1 on the features route",
    "batches": "K on each of three batches",
    "bilevel": "several on a training batch and K on a validation batch",
}
SHORT = {"1": "1", "K": "K", PASSES["batches"]: "3 K", PASSES["bilevel"]: "more than K"}
HEADS = {
    "weighted": "the gradient of their weighted loss",
    "unweighted": "the gradient of their plain loss; only the shared part is balanced",
}
SUMS = {"K": "the number of tasks", "1": "one", "free": "nothing fixed"}
# Digits with three tasks, ten seeds: points of Delta_m against equal weights, exact and at the features.
DELTA_M = {
    "nash_mtl": (5.2, 4.5),
    "imtl_g": (4.5, 3.6),
    "cagrad": (4.1, 3.3),
    "aligned_mtl": (3.2, 3.8),
    "pcgrad": (1.2, 0.0),
    "upgrad": (1.1, 0.0),
    "mgda": (-0.1, -17.3),
}
# A variant that loses more than this is warned of.
MUCH = 10.0
SAMO = "around any method of one batch"
BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"


def kind_of(cls: type[Method]) -> str:
    """The heading under which a method is listed."""
    return KINDS.get(cls.needs, "Other methods")


def passes_of(cls: type[Method]) -> str:
    """How often a step goes backwards through the trunk."""
    if not getattr(cls, "reads_gramian", True):
        return "1"
    if cls.needs in ("gramian", "jacobian") and "features" not in cls.routes:
        return "K"
    return PASSES.get(cls.needs, "see the description below")


def by_kind() -> dict[str, list[type[Method]]]:
    """The catalogue under its headings."""
    found: dict[str, list[type[Method]]] = {}
    for cls in classes():
        found.setdefault(kind_of(cls), []).append(cls)
    return found


def escaped(text: str) -> str:
    """Plain text as reStructuredText."""
    return re.sub(r"([\\*`|_<>])", r"\\\1", text)


def table(rows: Iterable[Iterable[str]], widths: str, header: bool) -> str:
    """A list-table; cells may have several lines."""
    lines = [".. list-table::", f"   :widths: {widths}"]
    lines += ["   :header-rows: 1"] if header else []
    lines.append("")
    for row in rows:
        for number, cell in enumerate(row):
            mark = "   * - " if number == 0 else "     - "
            first, *rest = cell.splitlines() or [""]
            lines.append(mark + first)
            lines += ["       " + line if line else "" for line in rest]
    return "\n".join(lines) + "\n"


def source_of(card: Card) -> str:
    """Authors, title, venue and year."""
    return f"{escaped(card.authors)}, *{escaped(card.title)}*, {escaped(card.venue)} {card.year}"


def invariances(card: Card) -> str:
    """What the card says about scales, in words."""
    what = {
        0.0: "The weights stay as they are when all losses are multiplied by one number.",
        None: "No law for the weights when all losses are multiplied by one number.",
    }.get(
        card.degree,
        f"Multiplying everything the weights are made from by c multiplies them by c^{card.degree:g}."
        if card.degree is not None
        else "",
    )
    if card.unit_free:
        return what + " The direction does not depend on the units of single losses."
    return what + " The direction depends on the units of single losses."


def signature(cls: type[Method]) -> str:
    """How the method is chosen, with its options at their defaults."""
    options = [
        f"{p.name}={p.default!r}"
        for p in inspect.signature(cls).parameters.values()
        if p.default is not p.empty and p.kind is not p.VAR_KEYWORD
    ]
    return f"Balancer({', '.join([repr(cls.card.id), *options])})".replace("'", '"')


def variant(method_id: str) -> str:
    """How the features variant did beside the exact method, where it was measured."""
    exact, features = DELTA_M[method_id]
    told = (
        f"a variant: on digits, ten seeds, Δm against equal weights is {exact:+.1f} points on the "
        f"parameters route and {features:+.1f} at the features"
    )
    if exact - features > MUCH:
        told += ". **The variant can fail where the method does not**: compare both before you rely on it"
    return told + " (:doc:`/exact`)"


def variants() -> str:
    """The table of :func:`variant`, for all methods measured."""
    rows = [("method", "parameters (exact)", "features (variant)", "difference")]
    rows += [
        (
            f":ref:`{name} <method-{name}>`",
            f"{exact:+.1f}",
            f"{found:+.1f}",
            f"{found - exact:+.1f}",
        )
        for name, (exact, found) in DELTA_M.items()
    ]
    return table(rows, "28 24 24 24", header=True)


def page(cls: type[Method]) -> str:
    """The page of a method."""
    card = cls.card
    link = (
        f"`arXiv:{card.arxiv} <https://arxiv.org/abs/{card.arxiv}>`__"
        if card.arxiv
        else "no arXiv id"
    )
    facts = [
        ("Paper", source_of(card)),
        ("On the web", link),
        ("Needs", NEEDS.get(cls.needs, escaped(cls.needs))),
        ("Routes", ", ".join(cls.routes)),
        *([("At the features", variant(card.id))] if card.id in DELTA_M else []),
        ("Passes through the trunk", passes_of(cls)),
        ("Heads get", HEADS[card.heads]),
        ("Weights sum to", SUMS[card.weight_sum]),
        ("Scales", invariances(card)),
        ("Guarantee", escaped(card.guarantee) or "none stated"),
        ("Defaults", escaped(card.defaults) or "none to set"),
        ("Other codes", escaped(card.deviations) or "nothing beyond the description below"),
        ("In LibMTL", f"``{card.libmtl}``" if card.libmtl else "not there"),
        ("In TorchJD", f"``{card.torchjd}``" if card.torchjd else "not there"),
    ]
    figure = ""
    if figures.drawn(cls):
        figure = f".. raw:: html\n   :file: {card.id}.svg.html\n"
    return "\n".join(
        [
            f".. _method-{card.id}:",
            "",
            card.name,
            "=" * len(card.name),
            "",
            ".. math::",
            "",
            f"   {card.equation}",
            "",
            ".. code-block:: python",
            "",
            f"   {signature(cls)}",
            "",
            figure,
            table(facts, "22 78", header=False),
            "Description",
            "-----------",
            "",
            f".. autoclass:: {cls.__module__}.{cls.__qualname__}",
            "",
        ]
    )


def overview() -> str:
    """Tables of all methods, by kind, and the list of their pages."""
    parts = []
    for kind, found in by_kind().items():
        rows = [("id", "method", "passes", "heads", "sum")]
        rows += [
            (
                f":ref:`{cls.card.id} <method-{cls.card.id}>`",
                f"{escaped(cls.card.name)} ({escaped(cls.card.venue)} {cls.card.year})",
                SHORT.get(passes_of(cls), "K or 1"),
                cls.card.heads,
                cls.card.weight_sum,
            )
            for cls in found
        ]
        parts += [kind, "-" * len(kind), "", table(rows, "18 46 12 14 10", header=True), ""]
    parts += [
        SAMO.capitalize(),
        "-" * len(SAMO),
        "",
        "SAMO (`arXiv:2507.07883 <https://arxiv.org/abs/2507.07883>`__) is no method but goes around one: "
        "``balancer.sharpness_aware(closure)`` takes the task gradients where a small step uphill leads. See "
        ":doc:`/recipes`.",
        "",
    ]
    parts += [".. toctree::", "   :hidden:", ""]
    parts += [f"   pages/{cls.card.id}" for classes in by_kind().values() for cls in classes]
    return "\n".join(parts) + "\n"


def names_elsewhere() -> str:
    """Our ids beside the names in other libraries."""
    rows = [("here", "LibMTL", "TorchJD")]
    rows += [
        (
            f":ref:`{cls.card.id} <method-{cls.card.id}>`",
            f"``{cls.card.libmtl}``" if cls.card.libmtl else "–",
            f"``{cls.card.torchjd}``" if cls.card.torchjd else "–",
        )
        for cls in classes()
        if cls.card.libmtl or cls.card.torchjd
    ]
    return table(rows, "34 33 33", header=True)


def readme_table() -> str:
    """The table of methods in the README: Markdown, one row a kind."""
    lines = ["| looks at | methods |", "|---|---|"]
    short = {title: needs for needs, title in KINDS.items()}
    for kind, found in by_kind().items():
        needs = short.get(kind)
        label = {
            "losses": "the losses",
            "gramian": "inner products of task gradients",
            "jacobian": "every entry of task gradients",
            "batches": "task gradients of three batches",
            "bilevel": "losses of validation batches",
        }.get(needs or "", "other")
        lines.append(f"| {label} | {', '.join(f'`{cls.card.id}`' for cls in found)} |")
    lines.append(f"| {SAMO} | samo (`balancer.sharpness_aware`) |")
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Writes pages, figures and tables; touches only files whose content changes."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"overview.inc": overview(), "names.inc": names_elsewhere()}
    wanted["variants.inc"] = variants()
    for cls in classes():
        wanted[f"{cls.card.id}.rst"] = page(cls)
        if figures.drawn(cls):
            wanted[f"{cls.card.id}.svg.html"] = figures.figure(cls)
    for old in folder.iterdir():
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "methods" / "pages"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def update(readme: Path) -> bool:
    """Brings the README's table up to date; returns whether it changed."""
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    new = f"{head}{BEGIN}\n{readme_table()}\n{END}{tail}"
    if new != text:
        readme.write_text(new, encoding="utf-8")
    return new != text


if __name__ == "__main__":
    changed = update(Path(__file__).parents[2] / "README.md")
    sys.stdout.write("README.md: table of methods " + ("updated\n" if changed else "unchanged\n"))
