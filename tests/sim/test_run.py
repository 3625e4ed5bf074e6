"""Running one simulation, many, and making a failing one small."""

import subprocess
import sys
from pathlib import Path

import pytest

from flame.core.control import executors
from flame.sim.faults import FAULTS
from flame.sim.run import Case, run, run_many, shrink
from flame.sim.workload import Size
from tests.support import ROOT, wait_until_true

SMALL = Size(nodes=2, sessions=2, tasks=40)


def test_a_run_tells_what_happened() -> None:
    result = run(Case(seed=2, size=SMALL, kinds=()), tracing=True)
    assert not result.error
    assert result.counts["task started"] >= 40
    assert result.events > 100
    assert len(result.digest) == 64
    assert result.trace


def test_a_run_that_fails_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "put_back", lambda state, turn, session, spans: None)
    errors = [run(Case(seed=seed, size=SMALL)).error for seed in range(6)]
    assert any(errors)


def test_many_processes_find_the_same_as_one() -> None:
    cases = [Case(seed=seed, size=SMALL) for seed in range(4)]
    alone = {result.case.seed: result.events for result in run_many(cases, 1)}
    assert {result.case.seed: result.events for result in run_many(cases, 2)} == alone


def test_what_fails_is_made_small() -> None:
    case = Case(seed=3, size=Size(nodes=10, sessions=10, tasks=5_000))
    small = shrink(case, lambda case: "cut" in case.kinds and case.size.tasks >= 100 and case.most >= 2)
    assert small.kinds == ("cut",)
    assert small.size.tasks < 250
    assert (small.size.nodes, small.size.sessions, small.most) == (1, 1, 2)
    assert small.seed == 3


def test_a_case_says_how_to_repeat_it() -> None:
    assert Case(seed=5, size=SMALL, kinds=("cut", "node"), most=3).command() == (
        "python -m flame.sim --seed 5 --nodes 2 --sessions 2 --tasks 40 --faults cut,node --most 3"
    )
    assert "--faults none " in Case(seed=5, kinds=()).command()
    assert "--faults all " in Case(seed=5, kinds=tuple(FAULTS)).command()


def test_the_processes_end_with_whoever_started_them() -> None:
    command = [sys.executable, "-m", "flame.sim", "--until-told", "--processes", "2", "--tasks", "50"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as parent:
        wait_until_true(lambda: len(children(parent.pid)) == 3)  # two, and the tracker of what they share
        started = children(parent.pid)
        parent.kill()
    wait_until_true(lambda: not any(alive(pid) for pid in started))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
