"""Worker processes that train together, started once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rank_pool import Pool


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(2, tmp_path_factory.mktemp("pair"))
    pool.start()
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(3, tmp_path_factory.mktemp("trio"))
    pool.start()
    yield pool
    pool.stop()
