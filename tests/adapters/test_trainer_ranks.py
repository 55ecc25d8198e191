"""Two processes with a Trainer leave the weights of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
HERE = Path(__file__).parent


@pytest.mark.slow
def test_two_processes_equal_the_plain_loop_of_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(HERE / "two_processes.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert len(told) == 9
    for _, method, where, between, away in told:
        assert float(between) == 0.0, f"{method} {where}: the processes drift apart"
        assert float(away) < 1e-5, f"{method} {where}: not the weights of one process"
