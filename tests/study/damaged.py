"""A problem one of whose files turns out to be broken: at once, or only while a network is trained."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import tiny

from equipoise.problems import Loader
from equipoise.problems.files import DataError


def read(part):
    if Path("broken").exists():
        raise DataError("place/7.png", "it is truncated", "fetch it anew")
    return part


def damaged(late=True):
    whole = tiny.tiny()

    def data(split):
        source = whole.data(split)

        def make(size, seed):
            with ThreadPoolExecutor(1) as pool:
                for batch in source.batches(size, seed):
                    if split == "train" and (seed is not None or not late):
                        pool.submit(read, None).result()
                    yield batch

        return Loader(make, len(source))

    return replace(whole, data=data)
