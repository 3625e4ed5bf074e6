"""Simulated nodes start executors, end them, and take them with them."""

from flame.sim.nodes import SimNode
from flame.sim.workload import Size
from flame.sim.world import World

SMALL = Size(nodes=2, sessions=3, tasks=60)


def with_a_running_task() -> tuple[World, SimNode]:
    for seed in range(20):
        world = World(seed, SMALL, kinds=())
        while world.time.now_ms < 3_000:
            world.time.step()
            for node in world.nodes:
                if any(process.table.current for process in node.executors.values()):
                    return world, node
    raise AssertionError("no executor ever ran a task")


def test_a_node_that_is_killed_takes_its_executors_with_it() -> None:
    _, node = with_a_running_task()
    processes = list(node.executors.values())
    node.kill()
    assert all(process.dead for process in processes)
    assert node.dead
    assert not node.executors


def test_a_node_that_is_stopped_ends_its_executors_and_no_task_is_charged_with_a_death() -> None:
    world, node = with_a_running_task()
    before = world.session_manager.counts["AcknowledgeExit"]
    node.stop()
    while not node.dead:
        world.time.step()
    assert not node.executors
    assert world.session_manager.counts["AcknowledgeExit"] > before, "it could still say how they ended"


def test_an_executor_that_is_killed_before_it_was_forked_is_killed_then() -> None:
    world = World(2, SMALL, kinds=())
    node = world.nodes[0]
    while not node.half.executors:
        world.time.step()
    (key, *_) = node.half.executors
    assert key not in node.executors
    node._kill(key)
    while key not in node.executors:
        world.time.step()
    assert node.executors[key].dead


def test_a_node_that_hangs_longer_than_its_lease_loses_its_tasks_to_others() -> None:
    world, node = with_a_running_task()
    world.history.fault(world.time.now_ns, "hang")
    node.pause((world.lease_ms + 2_000) * 1_000_000)
    world.run()
    assert not node.executors
