"""Simulated executors run tasks as the real ones do, die, stand still, and say so."""

from flame.sim.executors import SIGKILL, SimExecutor
from flame.sim.workload import Size
from flame.sim.world import World

SMALL = Size(nodes=2, sessions=3, tasks=60)


def running(seed: int = 0) -> tuple[World, SimExecutor]:
    for other in range(seed, seed + 20):
        world = World(other, SMALL, kinds=())
        while world.time.now_ms < 3_000:
            world.time.step()
            for node in world.nodes:
                for process in node.executors.values():
                    if process.table.current and not process.dead:
                        return world, process
    raise AssertionError("no executor ever ran a task")


def test_tasks_run_and_none_is_left() -> None:
    world = World(2, SMALL, kinds=())
    world.run()
    assert world.history.counts["started"] >= SMALL.tasks
    assert not any(node.executors for node in world.nodes)


def test_an_executor_that_is_killed_twice_dies_once_and_its_tasks_are_not_lost() -> None:
    world, process = running()
    world.history.fault(world.time.now_ns, "executor")
    process.exit(signal=SIGKILL)
    process.exit(signal=SIGKILL)
    assert process.dead
    world.run()
    assert world.counts["executor: its process died"]


def test_an_executor_that_stands_still_starts_nothing() -> None:
    world, process = running()
    process.pause(2_000_000_000)
    before = process.table.current
    while world.time.step() and world.time.now_ns < process.paused_until_ns:
        assert process.dead or process.table.current == before
    world.run()
