"""Simulated clients tell the history what they did and saw, go away, come back, and die."""

import pytest

from flame.model.client_messages import ChunkAcknowledged
from flame.model.errors import EXECUTOR_DIED, NO_EXECUTOR, FailedPrecondition, NotFound, TaskCancelled, TaskFailed
from flame.sim.clients import RepeatingSubmission, SimSession, outcome_digest
from flame.sim.history import CANCELLED, DIED, NOT_STARTED, RAISED, digest
from flame.sim.workload import SessionPlan, Size
from flame.sim.world import World

SMALL = Size(nodes=2, sessions=4, tasks=100)


def submitting() -> tuple[World, SimSession]:
    """A world without faults in which a client has an acknowledged task, and not all that it wants to submit."""
    for seed in range(20):
        world = World(seed, SMALL, kinds=())
        while world.time.now_ms < 1_000:
            world.time.step()
            for session in (one for client in world.clients for one in client.sessions):
                if session.stage == "submitting" and session.submission.stored > session.submission.first:
                    return world, session
    raise AssertionError("no client ever submits")


def test_outcomes_as_numbers() -> None:
    assert outcome_digest(b"x") == digest(b"x")
    assert outcome_digest(None) == digest(None)
    assert outcome_digest(TaskCancelled("t")) == CANCELLED
    assert outcome_digest(TaskFailed("it raised", task_id=1)) == RAISED
    assert outcome_digest(TaskFailed("x", task_id=1, type=NO_EXECUTOR)) == NOT_STARTED
    assert outcome_digest(TaskFailed("signal 6", task_id=1, type=EXECUTOR_DIED)) == DIED
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


def test_who_comes_back_after_its_client_was_killed_reads_everything_and_goes_on() -> None:
    world, session = submitting()
    client = next(one for one in world.clients if session in one.sessions)
    client.die()
    world.come_back(client)
    again = world.clients[-1]
    assert again is not client
    world.run()
    mine = next(one for one in again.sessions if one.key == f"{session.key}'")
    assert mine.done
    assert mine.submission.next_id > mine.submission.first, "it has submitted too"
    reader = next(one for one in again.readers if one.name.endswith(f"{session.key}'/all"))
    state = world.session_manager.state
    assert state is not None
    view = state.sessions[int(session.name)]
    assert reader.delivered == view.succeeded + view.failed + view.cancelled > 0


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


def test_one_that_repeats_sends_again_what_is_stored_and_nothing_is_made_of_it() -> None:
    world, session = submitting()
    plan = SessionPlan(name=session.plan.name, spec=session.plan.spec, tasks=30, burst=30, pause_ms=1, repeats=True)
    client = next(one for one in world.clients if session in one.sessions)
    world.session_manager.break_before.append(ChunkAcknowledged)
    client.open(plan, "again and again", create=False)
    assert isinstance(client.sessions[-1].submission, RepeatingSubmission)
    world.run()
    assert world.session_manager.counts["broke before ChunkAcknowledged"] == 1
    refusal = client.sessions[-1].submission.refusal
    assert refusal is None or isinstance(refusal, FailedPrecondition), "the session may be closed by its owner"


def test_only_tasks_of_its_own_may_be_cancelled() -> None:
    world, session = submitting()
    attached = session.submission.attached
    assert attached is not None
    first, number = session.submission.first, attached.session
    assert session.holds(number, first)
    assert not session.holds(number + 1, first)
    assert not session.holds(number, session.submission.next_id)
    session.cancel(first, 1)
    world.run()
    assert not session.holds(number, first)


def test_a_map_is_submitted_as_its_inputs_are_numbered() -> None:
    world, session = submitting()
    client = next(one for one in world.clients if session in one.sessions)
    plan = SessionPlan(name=session.plan.name, spec=session.plan.spec, tasks=50, burst=40, pause_ms=1, mapped=True)
    client.open(plan, "map", create=False)
    mapped = client.sessions[-1]
    (feed,) = mapped.submission.feeds
    before = world.history.counts["submitted"]
    while mapped.stage == "attaching":
        world.time.step()
    assert mapped.submission.next_id > mapped.submission.first or mapped.submission.error is not None
    assert world.history.counts["submitted"] > before or mapped.submission.error is not None
    world.run()
    assert not feed.items
    assert mapped.done


def test_what_has_no_number_yet_is_not_refused() -> None:
    world, session = submitting()
    before = world.history.counts["refused"]
    session.fail(session.submission.next_id, 7, NotFound("gone"))
    assert world.history.counts["refused"] == before
