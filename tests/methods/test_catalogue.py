"""The catalogue: one line a method, and no method is read before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

import equipoise
from equipoise.methods.base import cited
from equipoise.methods.catalogue import CATALOGUE, classes, find


def loaded_after(code: str) -> set[str]:
    """Modules of methods that a fresh interpreter has read after running the code."""
    shown = "import sys; print('\\n'.join(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{shown}"], capture_output=True, text=True, check=True
    )
    modules = {where.partition(":")[0] for where in CATALOGUE.values()}
    seen = {name.rpartition(".")[2] for name in ran.stdout.split() if ".methods." in name}
    return seen & modules


def test_importing_the_package_reads_no_method_but_the_one_the_balancer_names() -> None:
    assert loaded_after("import equipoise") <= {"forum"}


def test_asking_for_a_method_reads_that_one() -> None:
    assert loaded_after("import equipoise; equipoise.method('dwa')") <= {"forum", "dwa"}


def test_ids_are_those_of_the_cards_and_in_the_order_of_the_catalogue() -> None:
    assert [cls.card.id for cls in classes()] == list(CATALOGUE)
    assert [card.id for card in equipoise.methods()] == list(CATALOGUE)


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_a_method_is_found_by_its_id(name: str) -> None:
    assert find(name).__module__ == f"equipoise.methods.{name}"


def test_a_card_without_a_paper_takes_the_first_reference() -> None:
    card = find("uw_so").card
    assert card.title == "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning"
    assert (card.authors, card.venue, card.year) == ("Kirchdorfer et al.", "GCPR", 2024)
    assert card.arxiv == "2408.07985"
    # A method of one's own may do without.
    assert cited(replace(card, title=""), "A method.\n\nReferences:\n    somewhere").title == ""
    assert all(card.title and card.authors and card.year for card in equipoise.methods())
