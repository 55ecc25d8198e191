"""MATLAB files as SciPy writes them, whole and damaged."""

import io
import random

import numpy as np
import pytest
from scipy.io import savemat

from equipoise.problems.vision.matlab_files import variables

STRUCT = np.zeros((1, 2), [("name", object), ("mask", object)])
STRUCT[0, 0] = ("head", np.arange(6, dtype=np.uint8).reshape(2, 3))
STRUCT[0, 1] = ("arm", np.zeros((0, 0)))
VALUES = {
    "small": np.array([[7]], np.uint8),
    "wide": np.arange(12, dtype=np.float64).reshape(3, 4) / 7,
    "cube": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "whole": np.arange(300.0).reshape(1, 300),
    "text": "a word",
    "inner": {"first": np.array([[1, 2]]), "deeper": {"last": "x"}},
    "several": STRUCT,
}


def written(compressed):
    file = io.BytesIO()
    savemat(file, VALUES, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_what_was_written_is_read(compressed):
    found = variables(written(compressed))
    for name in ("small", "wide", "cube", "whole"):
        np.testing.assert_array_equal(found[name], VALUES[name])
        assert found[name].dtype == VALUES[name].dtype
    assert found["text"] == "a word"
    (inner,) = found["inner"]
    np.testing.assert_array_equal(inner["first"], [[1, 2]])
    assert inner["deeper"] == [{"last": "x"}]
    assert [each["name"] for each in found["several"]] == ["head", "arm"]
    np.testing.assert_array_equal(found["several"][0]["mask"], STRUCT[0, 0]["mask"])
    assert found["several"][1]["mask"].size == 0


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_told_or_harmless_and_never_more(compressed):
    draw, content = random.Random(0), written(compressed)
    told = 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(draw.choice([1, 3, 20])):
            damaged[draw.randrange(128, len(damaged))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.3:
            del damaged[draw.randrange(100, len(damaged)) :]
        try:
            variables(bytes(damaged))
        except ValueError:
            told += 1
    assert told > 100
    if compressed:
        # A sum closes every compressed variable.
        assert told > 390
