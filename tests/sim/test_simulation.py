"""Many simulations of full size, and what they must have gone through; seeds that failed once; other hash seeds.

`FLAME_SIM_SEEDS=3000 pytest tests/sim/test_simulation.py` runs more, `FLAME_SIM_FIRST=...` others. A failure says how
to repeat it; `python -m flame.sim --seed N --explain SESSION:TASK` tells what happened.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from flame.sim.coverage import missing
from flame.sim.faults import kinds_of
from flame.sim.run import Case, run, run_many
from flame.sim.workload import Size
from tests.support import ROOT

SEEDS = int(os.environ.get("FLAME_SIM_SEEDS", "300"))
FIRST = int(os.environ.get("FLAME_SIM_FIRST", "1"))
PROCESSES = 2
OTHER_PYTHON = ROOT / "build/other-python/python"
"""Made by `tools/other_python.py`, which `.ci/run` calls before the tests, and which fails if there is none."""
_SECONDS_PER_SEED = 30


@pytest.mark.long
@pytest.mark.timeout(120 + SEEDS * _SECONDS_PER_SEED)
def test_whatever_fails_nothing_is_lost_or_doubled_and_everything_was_tried() -> None:
    counts: Counter[str] = Counter()
    for result in run_many((Case(seed=seed) for seed in range(FIRST, FIRST + SEEDS)), PROCESSES):
        assert not result.error, f"{result.case.command()}\n{result.error}"
        counts += result.counts
    assert missing(counts) == []


def _known() -> Iterator[Case]:
    for line in (ROOT / "tests/simulation/seeds.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            seed, nodes, sessions, tasks, faults, most = line.split(maxsplit=6)[:6]
            size = Size(nodes=int(nodes), sessions=int(sessions), tasks=int(tasks))
            yield Case(seed=int(seed), size=size, kinds=kinds_of(faults), most=int(most))


@pytest.mark.parametrize("case", list(_known()), ids=Case.command)
def test_what_failed_once_goes_well(case: Case) -> None:
    result = run(case)
    assert not result.error, f"{case.command()}\n{result.error}"


@pytest.mark.parametrize("seed", [3, 4])
def test_a_trace_is_the_same_under_another_hash_seed(seed: int) -> None:
    digests = [_digest(sys.executable, seed, hash_seed) for hash_seed in ("1", "2")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("seed", [3, 4])
def test_a_trace_is_the_same_on_another_python(seed: int) -> None:
    show = ["-c", "import msgspec, sys; print(sys.version)"]
    if not OTHER_PYTHON.exists() or subprocess.run([OTHER_PYTHON, *show], capture_output=True, check=False).returncode:
        pytest.skip("no other Python was looked for: `.venv/bin/python tools/other_python.py` finds or fetches one")
    assert _digest(str(OTHER_PYTHON), seed, "7") == _digest(sys.executable, seed, "1")


def _digest(python: str, seed: int, hash_seed: str) -> str:
    command = [python, "-m", "flame.sim", "--seed", str(seed), "--tasks", "1000", "--digest"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=200).stdout
