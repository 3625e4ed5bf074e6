"""Simulated unary clients create tasks and watch them, whatever happens to the session manager meanwhile."""

from collections.abc import Callable

import pytest

from flame.core.control.effects import Answer, TellWatch
from flame.model.records import SegmentRecord
from flame.sim.unary import Frontend, UnaryClient
from flame.sim.workload import Size
from flame.sim.world import World

SMALL = Size(nodes=2, sessions=2, tasks=40)


def opened(seed: int = 3) -> tuple[World, str, int]:
    """A world without faults with an open session: its name and number."""
    world = World(seed, SMALL, kinds=())
    while True:
        world.time.step()
        state = world.session_manager.state
        assert state is not None
        for session in state.sessions.values():
            if session.open and session.bindings:
                return world, session.record.name, session.number


def until(world: World, condition: Callable[[], object]) -> None:
    end_ms = world.time.now_ms + 20_000
    while not condition():
        assert world.time.step()
        assert world.time.now_ms < end_ms


def test_it_creates_watches_and_sees_what_became_of_each() -> None:
    world, name, number = opened()
    before = world.history.counts["seen"]
    client = UnaryClient(world, world._frontend, name, number, "u", tasks=3, pause_ms=5)
    assert not client.done
    assert "3 to create" in str(client)
    until(world, lambda: client.done)
    acknowledged = world.history._session(str(number)).reader("u").seen
    assert sum(end - first for first, end in acknowledged) in (0, 3), "all, or none where the session was closed"
    assert world.history.counts["seen"] >= before
    world.run()


def test_it_goes_on_with_the_next_session_manager() -> None:
    world, name, number = opened()
    client = UnaryClient(world, world._frontend, name, number, "u", tasks=5, pause_ms=50)
    until(world, lambda: client._watched or client.done)
    world.session_manager.kill()
    until(world, lambda: client.done)
    world.run()
    assert world.counts["restarts"]


def test_a_task_that_nobody_was_told_of_is_known_after_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    world, name, number = opened()
    answers: list[Answer | None] = []
    state = world.session_manager.state
    assert state is not None
    session = state.sessions[number]
    world._frontend.create(name, b'[7,"ok",1]', answers.append)
    until(world, lambda: session.own_block is not None)
    monkeypatch.setattr(world.session_manager.disk, "crash", lambda random: "kept")
    world.session_manager.aim.at = "in commit"
    submitted = world.history._session(str(number)).reader("a unary client").submitted
    until(world, lambda: not world.session_manager.alive)
    assert not submitted
    until(world, lambda: world.session_manager.alive and answers)
    assert answers == [None]
    assert sum(end - first for first, end in submitted) == 1
    world.run()


def test_a_watch_that_is_given_up_tells_nothing() -> None:
    world, name, number = opened()
    told: list[TellWatch | None] = []
    frontend: Frontend = world._frontend
    frontend.unwatch(frontend.watch(name, 1, told.append))
    frontend.watch("no such session", 1, told.append)
    until(world, lambda: told)
    (refusal,) = told
    assert refusal is not None
    assert refusal.error is not None
    assert refusal.last
    assert frontend.outcome(number + 100, 1) is None
    until(world, lambda: frontend.outcome(number, 1))
    assert isinstance(frontend.outcome(number, 1), SegmentRecord)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_result_that_is_told_and_not_there_is_a_loss_unless_the_session_is_deleted(
    deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, name, number = opened()
    monkeypatch.setattr(Frontend, "outcome", lambda self, session, task: None)
    client = UnaryClient(world, world._frontend, name, number, "u", tasks=1, pause_ms=5)
    if deleted:
        world.history.deleted(str(number))
        monkeypatch.setattr(Frontend, "has", lambda self, session: False)
    until(world, lambda: client.done)
    broken = [str(violation) for violation in world.history._violations]
    assert bool(broken) is not deleted
    assert any("u was told that no result comes" in text for text in broken) is not deleted
    assert any("a watcher was told that it has ended" in text for text in broken) is not deleted


def test_without_a_session_manager_nothing_is_answered() -> None:
    world, name, _ = opened()
    world.session_manager.kill()
    told: list[object] = []
    world._frontend.create(name, b"", told.append)
    world._frontend.watch(name, 1, told.append)
    world._frontend.close(name, told.append)
    until(world, lambda: len(told) == 3)
    assert told == [None, None, None]


def test_a_session_is_closed_and_deleted_by_unary_calls() -> None:
    world, name, number = opened()
    answers: list[Answer | None] = []
    world._frontend.delete(name, answers.append)
    world._frontend.close(name, answers.append)
    until(world, lambda: len(answers) == 2)
    refused = next(answer for answer in answers if answer is not None and answer.error is not None)
    assert refused.error is not None
    assert refused.error.code == "FAILED_PRECONDITION"
    assert [answer.session for answer in answers if answer is not None and answer.error is None] == [number]


def test_who_waits_for_the_end_of_a_session_hears_that_the_session_manager_ended() -> None:
    world, name, _ = opened()
    answers: list[Answer | None] = []
    world._frontend.close(name, answers.append)
    world.session_manager.kill()
    until(world, lambda: answers)
    assert answers == [None]
