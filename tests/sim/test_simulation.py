"""Many short simulations, and the same one under two hash seeds.

`FLAME_SIM_SEEDS=5000 pytest tests/sim/test_simulation.py` runs more, `FLAME_SIM_FIRST=...` others. A failure names its
seed; `python -m flame.sim --seed N` prints what happened.
"""

import os
import subprocess
import sys

import pytest

from flame.sim.world import World
from tests.support import ROOT

SEEDS = int(os.environ.get("FLAME_SIM_SEEDS", "160"))
FIRST = int(os.environ.get("FLAME_SIM_FIRST", "1"))
GROUPS = 8
"""So that they run in parallel; each has a share of the seeds."""


@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.timeout(60 + SEEDS)
def test_whatever_fails_every_task_has_one_outcome_and_nothing_hangs(group: int) -> None:
    for seed in range(FIRST + group, FIRST + SEEDS, GROUPS):
        try:
            World(seed).run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_trace_is_the_same_under_another_hash_seed() -> None:
    command = [sys.executable, "-m", "flame.sim", "--seed", "3", "--seeds", "6", "--digest"]
    outputs = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 6
