"""A task that ends its process too often is noticed, alone and in a world; what may not be charged excuses."""

import pytest

from flame.core.control import executors
from flame.model.limits import MAX_TASK_DEATHS
from flame.sim.deaths import Deaths
from flame.sim.executors import SIGKILL, SimExecutor
from flame.sim.history import Rule
from flame.sim.workload import Size
from flame.sim.world import Broken, World
from tests.sim.test_executors import running

SMALL = Size(nodes=3, sessions=4, tasks=300)


def died(times: int) -> Deaths:
    deaths = Deaths()
    for number in range(times):
        deaths.counted(number, "s", 7, f"executor {number}")
    return deaths


def test_as_many_deaths_as_are_allowed_are_right_and_one_more_is_not() -> None:
    assert died(MAX_TASK_DEATHS).broken == []
    (violation,) = died(MAX_TASK_DEATHS + 1).broken
    assert violation.rule is Rule.DIED_TOO_OFTEN
    assert violation.task == 7


def test_who_has_had_its_deaths_must_not_start_again_and_others_may() -> None:
    deaths = died(MAX_TASK_DEATHS)
    deaths.started(8, "s", 6, "executor 9")
    deaths.started(8, "other", 7, "executor 9")
    assert deaths.broken == []
    deaths.started(9, "s", 7, "executor 9")
    assert [violation.at_ns for violation in deaths.broken] == [9]


def end_while_it_runs() -> tuple[World, SimExecutor]:
    world, process = running()
    while not process.running:
        assert world.time.step()
        assert not process.dead
    process.exit(signal=SIGKILL)
    return world, process


def test_a_death_counts_once_its_node_knows_that_it_is_dealt_with() -> None:
    world, process = end_while_it_runs()
    task = str(process.session), process.died_of
    assert not world.deaths._deaths[task]
    world.session_manager.kill()  # which excuses nothing, if it is back soon
    world._start_session_manager()
    end_ms = world.time.now_ms + 20_000
    while not world.deaths._deaths[task] and world.time.now_ms < end_ms:
        world.time.step()
    assert world.deaths._deaths[task] == 1
    world.run()


def test_a_death_whose_node_was_out_of_reach_does_not_count() -> None:
    world, process = end_while_it_runs()
    task = str(process.session), process.died_of
    process.node.isolate(world.time.now_ns + 2 * world.lease_ms * 1_000_000)  # type: ignore[attr-defined]
    world.history.fault(world.time.now_ns, "partition")
    world.run()
    assert not world.deaths._deaths[task]


def simulate(seeds: int) -> None:
    for seed in range(seeds):
        World(seed, SMALL, kinds=()).run()


def test_a_limit_that_is_not_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "MAX_TASK_DEATHS", MAX_TASK_DEATHS + 1)
    with pytest.raises(Broken, match="died too often"):
        simulate(40)
