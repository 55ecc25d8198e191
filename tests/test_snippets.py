"""Every Python snippet of the README and of the documentation runs.

The blocks of one file run in order, in one namespace that starts with what a reader has: a model with a
trunk and heads, a loader, loss functions, an optimiser. A block of class ``told`` must raise, or warn with,
the text of the block that follows it. Study files (TOML) must be accepted as they stand.
"""

from __future__ import annotations

import importlib.util
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise.study import arms, load

ROOT = Path(__file__).parent.parent
DOCS = sorted(
    path
    for path in (ROOT / "docs").rglob("*.rst")
    if "_build" not in path.parts and "pages" not in path.parts
)
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]


@dataclass
class Block:
    """A literal block of a page."""

    language: str
    line: int
    text: str
    told: bool = False


def markdown_blocks(text: str) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(found[1], text[: found.start(2)].count("\n"), found[2])


def rst_blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    for start, line in enumerate(lines):
        opened = re.match(r"( *)\.\. code-block:: (\w+)$", line)
        if not opened:
            continue
        indent, options, at = len(opened[1]), "", start + 1
        while at < len(lines) and lines[at].strip().startswith(":"):
            options, at = options + lines[at], at + 1
        first = at
        while at < len(lines) and (
            not lines[at].strip() or lines[at].startswith(" " * (indent + 1))
        ):
            at += 1
        body = textwrap.dedent("\n".join(lines[first:at])) + "\n"
        yield Block(opened[2], first, body, ":class: told" in options)


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return list(markdown_blocks(text) if path.suffix == ".md" else rst_blocks(text))


def after(diff: str) -> str:
    """What a diff leaves."""
    return "".join(line[1:] for line in diff.splitlines(True) if not line.startswith("-"))


class Network(nn.Module):
    """What a reader has: a trunk, a head a task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.heads = nn.ModuleDict({"segmentation": nn.Linear(16, 4), "depth": nn.Linear(16, 1)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x)
        return {task: head(features) for task, head in self.heads.items()}


def readers_names() -> dict[str, Any]:
    torch.manual_seed(0)
    model = Network()
    criteria = {"segmentation": nn.CrossEntropyLoss(), "depth": nn.MSELoss()}
    loader = [
        (torch.randn(6, 8), {"segmentation": torch.randint(4, (6,)), "depth": torch.rand(6, 1)})
        for _ in range(4)
    ]

    def losses_of(model: Network, x: Tensor, y: dict[str, Tensor]) -> dict[str, Tensor]:
        prediction = model(x)
        return {task: criteria[task](prediction[task], y[task]) for task in prediction}

    return {
        "__name__": "snippet",
        "torch": torch,
        "nn": nn,
        "equipoise": equipoise,
        "Balancer": equipoise.Balancer,
        "model": model,
        "criteria": criteria,
        "loader": loader,
        "x": loader[0][0],
        "y": loader[0][1],
        "losses_of": losses_of,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
    }


def assert_study(text: str, path: Path) -> None:
    """A study file of a page is accepted: its keys, its methods, their tuning budgets."""
    file = Path("study.toml")
    file.write_text(text, encoding="utf-8")
    arms(load(file), {"one": 1.0, "two": 0.1})


def words(text: str) -> str:
    return " ".join(text.split())


def run(block: Block, path: Path, names: dict[str, Any]) -> str:
    """Runs a block; the text of the warnings it gave."""
    code = after(block.text) if block.language == "diff" else block.text
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        exec(compile("\n" * block.line + code, str(path), "exec"), names)
    return words(" ".join(str(w.message) for w in given if w.category is UserWarning))


def told_by(block: Block, path: Path, names: dict[str, Any]) -> str:
    """What the reader is told by a block that makes a mistake."""
    try:
        return run(block, path, names)
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        return f"{type(error).__name__}: {words(str(error.args[0]))}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_snippets_run_and_say_what_the_page_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = readers_names()
    blocks = blocks_of(path)
    for number, block in enumerate(blocks):
        if block.language == "toml":
            assert_study(block.text, path)
        if block.language not in ("python", "diff"):
            continue
        where = f"{path.name}, line {block.line + 1}"
        if not block.told:
            warned = run(block, path, names)
            assert not warned, f"{where} warns: {warned}"
            continue
        want = blocks[number + 1]
        assert want.language == "text", f"{where}: the message has to follow"
        got = told_by(block, path, names)
        assert words(want.text) == got, f"{where} tells something else"


def _pages() -> ModuleType:
    """The Sphinx extension that also writes the README's table."""
    folder = ROOT / "docs" / "_ext"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        spec = importlib.util.spec_from_file_location("method_pages", folder / "methods.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def test_the_readme_lists_every_method_by_kind() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert _pages().readme_table() in readme, "run: .venv/bin/python docs/_ext/methods.py"


def test_every_method_gets_a_page_and_stale_pages_go(tmp_path: Path) -> None:
    (tmp_path / "forgotten.rst").write_text("old")
    pages = _pages()
    pages.write(tmp_path)
    written = {path.stem for path in tmp_path.glob("*.rst")}
    assert written == {card.id for card in equipoise.methods()}
    figures = {path.name.split(".")[0] for path in tmp_path.glob("*.svg.html")}
    assert figures == {cls.card.id for cls in pages.classes() if pages.figures.drawn(cls)}
    assert {"uw_so", "mgda", "graddrop"} <= figures


def test_the_figure_of_a_gradient_method_shows_its_direction() -> None:
    """MGDA's d is orthogonal to g1 - g2; the arrow in the figure is that d."""
    figures = _pages().figures
    (g1, g2), (d,) = figures._directions("mgda")
    assert d[0] * (g1[0] - g2[0]) + d[1] * (g1[1] - g2[1]) == pytest.approx(0, abs=1e-9)
    assert len(figures._directions("rgw")[1]) == figures.DRAWS


def test_pages_linked_from_the_readme_are_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = re.sub(r"^```.*?^```$", "", readme, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert links
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing
