"""Options and the summary that all tests share."""

from __future__ import annotations

import gc
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)
# Compilers and graphs make many objects that soon die of themselves.
gc.set_threshold(20_000, 10, 10)

# Folders whose outcomes say where the balancer is exact.
EXACTNESS = ("tests/setups/", "tests/ranks/")


class Exactness:
    """Writes what became of the tests about set-ups and processes, for the page that shows it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid
        if not name.startswith(EXACTNESS):
            return
        if report.when == "call" or report.outcome != "passed":
            worst = self.outcomes.get(name) == "failed"
            self.outcomes[name] = "failed" if worst else report.outcome

    def pytest_sessionfinish(self) -> None:
        text = json.dumps(dict(sorted(self.outcomes.items())), indent=0)
        self.file.write_text(text + "\n", encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=Path(__file__).parent / "golden",
        metavar="DIR",
        help="folder with reference numbers in the format golden-1 (default: tests/golden)",
    )
    parser.addoption(
        "--exactness",
        type=Path,
        metavar="FILE",
        help="write the outcomes of tests/setups and tests/ranks there, as docs/exactness.json holds them",
    )


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("exactness")
    # With xdist, only the process that hears of all tests writes.
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Exactness(file), "exactness")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_file" in metafunc.fixturenames:
        folder: Path = metafunc.config.getoption("golden")
        files = sorted(folder.glob("*.json"))
        if not files:
            raise pytest.UsageError(f"--golden {folder}: no .json file there")
        metafunc.parametrize("golden_file", files, ids=[file.stem for file in files])


# What takes longest without a break: begun first, beside everything else, where there are several workers.
LONGEST = ("ranks/", "study/test_interruption.py", "test_minimal_install.py", "report/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return next((n for n, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: the garbage collector need not walk them again and again."""
    gc.collect()
    gc.freeze()


def _company(nodeid: str) -> str:
    """Tests that one worker should have together, as they share what takes long to make."""
    file, _, test = nodeid.partition("::")
    if "/ranks/" in file:
        return "ranks"  # the processes that train together
    if file.endswith("/test_executors.py"):
        return "executors"  # the process that workers are forked from
    if file.endswith("/test_cli.py"):
        return "command line"  # a study that has been run
    if file.endswith("/test_option_pairs.py"):
        return (
            "options of " + re.split(r"[\[\]-]", test + "[")[1]
        )  # runs with and without an option
    return nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands out tests one by one, but those of a company all to one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _company(nodeid)

    return Together(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "golden" and report.when == "call"
    ]
    if not rows:
        return
    terminalreporter.section("golden numbers")
    terminalreporter.write_line(f"{'method':<16}{'passed':>8}{'failed':>8}{'skipped':>8}")
    for method, passed, failed, skipped, reasons in sorted(rows):
        why = f"  ({'; '.join(reasons)})" if reasons else ""
        terminalreporter.write_line(f"{method:<16}{passed:>8}{failed:>8}{skipped:>8}{why}")
    totals = [sum(row[column] for row in rows) for column in (1, 2, 3)]
    terminalreporter.write_line(f"{'all':<16}{totals[0]:>8}{totals[1]:>8}{totals[2]:>8}")
