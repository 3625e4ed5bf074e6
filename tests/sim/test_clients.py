"""Simulated clients tell the history what they did and saw, go away, come back, and die."""

import pytest

from flame.model.errors import NotFound, TaskCancelled, TaskFailed
from flame.sim.clients import SimSession, outcome_digest
from flame.sim.history import CANCELLED, DIED, NOT_STARTED, RAISED, digest
from flame.sim.workload import Size
from flame.sim.world import World

SMALL = Size(nodes=2, sessions=4, tasks=100)


def submitting(seed: int = 4) -> tuple[World, SimSession]:
    world = World(seed, SMALL, kinds=())
    while not world.history.counts["acknowledged"]:
        world.time.step()
    session = next(one for client in world.clients for one in client.sessions if one.submission.stored > 1)
    return world, session


def test_outcomes_as_numbers() -> None:
    assert outcome_digest(b"x") == digest(b"x")
    assert outcome_digest(None) == digest(None)
    assert outcome_digest(TaskCancelled("t")) == CANCELLED
    assert outcome_digest(TaskFailed("it raised", task_id=1)) == RAISED
    assert outcome_digest(TaskFailed("no executor could start, 5 times in a row: x", task_id=1)) == NOT_STARTED
    assert outcome_digest(TaskFailed("ended with signal 6 while it ran this task, 3 times", task_id=1)) == DIED
    with pytest.raises(AssertionError):
        outcome_digest(NotFound("what"))  # type: ignore[arg-type]


def test_the_history_hears_what_is_submitted_acknowledged_and_seen() -> None:
    world, _ = submitting()
    world.run()
    counts = world.history.counts
    assert counts["submitted"] >= SMALL.tasks
    assert counts["submitted"] == counts["acknowledged"] + counts["refused"]
    assert counts["seen"] >= counts["acknowledged"]


def test_what_is_refused_is_told_once_and_only_of_tasks_without_an_outcome() -> None:
    world, session = submitting()
    first = session.submission.first
    session.fail(first, 5, NotFound("gone"))
    session.fail(first, 7, NotFound("gone"))
    assert world.history.counts["refused"] == 7


def test_a_client_that_goes_away_comes_back_and_finishes() -> None:
    world, session = submitting()
    client = next(one for one in world.clients if session in one.sessions)
    client.vanish(2_000_000_000)
    world.run()
    assert client.done
    assert world.history.counts["submitted"] >= SMALL.tasks


def test_what_a_dead_client_left_open_is_closed() -> None:
    world, session = submitting()
    client = next(one for one in world.clients if session in one.sessions)
    client.die()
    world.run()
    assert client.done
    assert not session.done


def test_sessions_are_shared_read_and_their_names_used_again() -> None:
    seen = {"others": 0, "readers": 0, "again": 0}
    for seed in range(12):
        world = World(seed, SMALL, kinds=())
        world.run()
        sessions = [session for client in world.clients for session in client.sessions]
        seen["others"] += sum(not session.owns for session in sessions)
        seen["readers"] += sum(len(client.readers) for client in world.clients)
        seen["again"] += sum(session.key.endswith("+") for session in sessions)
    assert all(seen.values()), seen
