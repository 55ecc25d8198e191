"""The table of the page "Where it is exact" names tests that exist, and is read off what became of them."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def _exactness() -> ModuleType:
    """The Sphinx extension that holds the table; importing it needs Sphinx."""
    pytest.importorskip("sphinx")
    file = ROOT / "docs" / "_ext" / "exactness.py"
    spec = importlib.util.spec_from_file_location("exactness_table", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def functions(file: Path) -> set[str]:
    """The tests of a file, read and not run."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    }


def patterns() -> list[str]:
    """Every pattern of the table."""
    return sorted(
        {
            pattern
            for rows in _exactness().TABLES.values()
            for row in rows
            for cell in row[1:]
            if cell is not None
            for pattern in cell.tests
        }
    )


def test_every_pattern_of_the_table_names_a_test_that_exists() -> None:
    found = patterns()
    assert found
    for pattern in found:
        file, _, rest = pattern.partition("::")
        name = re.escape(rest.partition("[")[0]).replace(r"\*", ".*")
        path = ROOT / "tests" / file
        assert path.exists(), pattern
        assert any(re.fullmatch(name, each) for each in functions(path)), pattern


def test_every_pattern_of_the_table_matches_a_test_that_ran() -> None:
    table = _exactness()
    ran = table.outcomes(ROOT / "docs" / "exactness.json")
    lost = [pattern for pattern in patterns() if not table.matching(pattern, ran)]
    assert not lost, "run: pytest -n 2 tests/setups tests/ranks --exactness docs/exactness.json"


def test_a_cell_says_what_became_of_its_tests() -> None:
    table = _exactness()
    cell = table.exact("setups/a.py::test_b[*-losses-*]", note="a note")
    ids = {"tests/setups/a.py::test_b[x-losses-1]": "passed"}
    assert table.said(cell, ids) == "exact (1 test): a note"
    assert table.said(cell, {**ids, "tests/setups/a.py::test_b[y-losses-1]": "failed"}) == (
        "**1 of 2 tests failed**; a note"
    )
    assert table.said(cell, {}) == "*not run*"
    assert table.said(cell, dict.fromkeys(ids, "skipped")) == "*not run*"
    assert table.said(cell, {"tests/setups/a.py::test_b[x-features-1]": "passed"}) == "*not run*"
    bare = table.exact("setups/a.py::test_c")
    assert table.said(bare, {"tests/setups/a.py::test_c": "passed"}) == "exact (1 test)"
    assert table.said(None, {}) == "–"


@pytest.mark.slow
def test_the_script_of_the_page_measures_what_the_page_shows() -> None:
    """Common Gramians are nearer to the whole batch than none, for every method on average."""
    script = ROOT / "examples" / "sync_distance.py"
    done = subprocess.run(
        [sys.executable, str(script), "--sizes", "8", "--steps", "5"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    _, *rows = done.stdout.strip().splitlines()
    page = (ROOT / "docs" / "exact.rst").read_text(encoding="utf-8")
    found = {row.split()[0]: [float(gap) for gap in row.split()[1:]] for row in rows}
    assert found and all(f":ref:`{method} <" in page for method in found)
    common, alone = (sum(column) for column in zip(*found.values(), strict=True))
    assert 0 < common < alone
