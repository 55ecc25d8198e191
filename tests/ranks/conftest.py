"""Worker processes that train together, started once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rank_pool import Pool


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if here in item.path.parents:
            # With --dist loadgroup, as pyproject.toml has it, all share one set of workers.
            item.add_marker(pytest.mark.xdist_group("ranks"))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(2, tmp_path_factory.mktemp("pair"))
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(3, tmp_path_factory.mktemp("trio"))
    yield pool
    pool.stop()
