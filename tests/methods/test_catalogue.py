"""The catalogue: one line a method, and no method is read before it is asked for."""

from __future__ import annotations

import importlib
import pkgutil
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
    seen = {name.rpartition(".")[2] for name in ran.stdout.split() if ".methods." in name}
    return seen & set(CATALOGUE)


def test_importing_the_package_reads_no_method_but_the_one_the_balancer_names() -> None:
    assert loaded_after("import equipoise") <= {"forum"}


def test_asking_for_a_method_reads_that_one() -> None:
    assert loaded_after("import equipoise; equipoise.method('dwa')") <= {"forum", "dwa"}


@pytest.mark.parametrize(
    "code",
    [
        "import equipoise.methods.base as b; assert b.Method",
        "import equipoise.methods.base; assert equipoise.methods.base.Method",
        "import equipoise.methods as m; from equipoise.methods import base; assert m.base is base",
        "import equipoise, equipoise.methods.uw as uw; assert type(equipoise.method('uw')) is uw.UW",
        "from equipoise import methods; assert methods()[0].id == 'ew'",
        "from equipoise import *; assert methods()[0].id == method('ew').card.id",
    ],
)
def test_methods_is_a_folder_to_import_from_and_a_call_that_lists_the_cards(code: str) -> None:
    called = "; import equipoise; assert equipoise.methods()[0].id == 'ew'"
    subprocess.run([sys.executable, "-c", code + called], check=True)


def test_no_name_of_a_package_hides_a_folder_of_it() -> None:
    # ``import equipoise.methods.base as base`` looks the folder up as an attribute of the package.
    for found in pkgutil.walk_packages(equipoise.__path__, "equipoise."):
        if found.ispkg:
            folder = importlib.import_module(found.name)
            above, _, name = found.name.rpartition(".")
            assert getattr(sys.modules[above], name) is folder, found.name


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
