"""Simulated nodes and executors run tasks as the real ones do, die, and are looked after."""

import msgspec
import pytest

from flame.sim.nodes import TaskKind
from flame.sim.world import World


@pytest.fixture(scope="module")
def world() -> World:
    """A world in which everything went wrong, afterwards; not the kind in which no executor starts at all."""
    for seed in range(20):
        world = World(seed)
        world.run(faults=30)
        if world.counts["runs"]:
            return world
    raise AssertionError("no executor ever started")


def test_a_task_says_what_it_does_in_its_input() -> None:
    kind = TaskKind(7, "fail", 5, True, 10)
    assert msgspec.json.decode(msgspec.json.encode(kind), type=TaskKind) == kind
    assert kind.output() == b"7" + bytes(10)


def test_executors_ran_and_none_is_left(world: World) -> None:
    assert world.counts["runs"] > 0
    assert world.counts["starts"] > 0
    assert not any(node.executors for node in world.nodes)


def test_a_node_that_is_killed_takes_its_executors_with_it() -> None:
    world = World(2)
    while not any(node.executors for node in world.nodes):
        world.time.step()
    node = next(node for node in world.nodes if node.executors)
    processes = list(node.executors.values())
    node.kill()
    assert all(process.dead for process in processes)
    assert node.dead
    assert not node.executors


def test_a_node_that_is_stopped_ends_its_executors_and_no_task_is_charged_with_a_death() -> None:
    world = World(2)
    while not any(process.table.current for node in world.nodes for process in node.executors.values()):
        world.time.step()
    node = next(node for node in world.nodes if any(process.table.current for process in node.executors.values()))
    node.stop()
    while not node.dead:
        world.time.step()
    assert not node.executors
    state = world.session_manager.state
    assert state is not None
    assert not any(session.deaths for session in state.sessions.values())
    assert world.session_manager.counts["AcknowledgeExit"], "it could still say how they ended"
