"""Sessions: names, keys, limits, attachments."""

from typing import Any

import pytest

from flame.core.control.effects import Answer, PurgeRows, ReadSegments
from flame.core.control.events import (
    ExecutorLost,
    RowsPurged,
    SessionCreateRequested,
    SessionDeleteRequested,
    SpaceMeasured,
)
from flame.model.client_messages import AttachmentEnded, AttachSession, DetachSession, Segment, SessionAttached
from flame.model.errors import Rejection
from flame.model.limits import (
    BLOCK_TASKS,
    MAX_ATTACHMENTS_PER_CONNECTION,
    MAX_COMMON_DATA_BYTES,
    PURGE_PAUSE_MS,
    RECONNECT_GRACE_MS,
)
from flame.model.node_messages import ExecutorExited
from flame.model.resources import Resources
from flame.model.specs import SessionSpec
from flame.model.states import ExecutorState
from flame.stores.memory import MemoryStore
from tests.core.harness import Core, one_session

SPEC = SessionSpec(application="app")


def create(core: Core, name: str, spec: SessionSpec | None = SPEC, *, open_existing: bool = False) -> Rejection | None:
    core.take()
    core.turn(SessionCreateRequested(request=3, name=name, spec=spec, open_existing=open_existing))
    (effect,) = core.effects
    assert isinstance(effect, Answer)
    return effect.error


def test_a_session_gets_a_name_made_of_its_application_and_number() -> None:
    core = Core()
    assert create(core, "") is None
    assert create(core, "app-000002") is None
    assert create(core, "") is None
    assert list(core.state.sessions_by_name) == ["app-000001", "app-000002", "app-000003"]


@pytest.mark.parametrize(
    ("name", "spec", "code"),
    [
        ("a b", {}, "INVALID_ARGUMENT"),
        ("x" * 129, {}, "INVALID_ARGUMENT"),
        ("there", {}, "ALREADY_EXISTS"),
        ("", {"application": "other"}, "NOT_FOUND"),
        ("", {"min_instances": -1}, "INVALID_ARGUMENT"),
        ("", {"max_instances": 0}, "INVALID_ARGUMENT"),
        ("", {"min_instances": 2, "max_instances": 1}, "INVALID_ARGUMENT"),
        ("", {"common_data": bytes(MAX_COMMON_DATA_BYTES + 1)}, "OUT_OF_RANGE"),
        ("", {"resources": Resources(memory_bytes=1 << 30)}, "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_created_says_why_and_stores_nothing(name: str, spec: dict[str, Any], code: str) -> None:
    core = Core()
    create(core, "there")
    error = create(core, name, SessionSpec(**({"application": "app"} | spec)))
    assert error is not None
    assert error.code == code
    assert not core.writes
    assert list(core.state.sessions_by_name) == ["there"]


def test_an_open_session_with_an_equal_spec_is_as_good_as_a_new_one() -> None:
    core = Core()
    assert create(core, "s", open_existing=True) is None
    assert create(core, "s", open_existing=True) is None
    assert create(core, "s", None, open_existing=True) is None
    error = create(core, "s", SessionSpec(application="app", priority=3), open_existing=True)
    assert error is not None
    assert "priority 0, not 3" in error.message
    core.close("s")
    assert create(core, "s", open_existing=True) is not None
    assert create(core, "missing", None) is not None


def test_common_data_may_be_as_large_as_the_limit() -> None:
    core = Core()
    assert create(core, "", SessionSpec(application="app", common_data=bytes(MAX_COMMON_DATA_BYTES))) is None


@pytest.mark.parametrize("key", ["", "k" * 65])
def test_a_key_has_1_to_64_characters(key: str) -> None:
    core = Core()
    core.attach("a", key=key)
    assert [ended.error.code for ended in core.sent(AttachmentEnded)] == ["INVALID_ARGUMENT"]
    core.attach("a", key="k" * 64)
    assert core.sent(SessionAttached)


def test_attachment_numbers_are_used_once_and_there_is_a_limit() -> None:
    core = Core()
    for number in range(1, MAX_ATTACHMENTS_PER_CONNECTION + 1):
        core.client("a", AttachSession(attachment=number, session_id="", key=f"k{number}", create=SPEC, submit=True))
    assert len(core.sent(SessionAttached)) == MAX_ATTACHMENTS_PER_CONNECTION
    core.client("a", AttachSession(attachment=1, session_id="", key="again", create=SPEC))
    core.client("a", AttachSession(attachment=9999, session_id="", key="more", create=SPEC))
    assert [ended.error.code for ended in core.sent(AttachmentEnded)] == ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"]
    core.client("a", DetachSession(attachment=1))
    core.client("a", AttachSession(attachment=9999, session_id="", key="more", create=SPEC))
    assert len(core.sent(SessionAttached)) == MAX_ATTACHMENTS_PER_CONNECTION + 1


def test_detaching_and_losing_the_connection_leave_the_session_open() -> None:
    core = Core()
    core.attach("a")
    core.submit("a", 1, 3)
    core.lose_client("a")
    session = core.session("app-000001")
    assert session.open
    assert session.unfinished == 3
    assert not core.state.attachments
    assert not core.state.links


def test_a_lost_connection_ends_its_own_attachments_only() -> None:
    core = Core()
    for link in ("a", "b"):
        for number in (1, 2):
            core.client(link, AttachSession(attachment=number, session_id="", key=f"{link}{number}", create=SPEC))
    core.lose_client("a")
    (left,) = core.state.links.values()
    assert list(left) == [1, 2]
    assert list(core.state.attachments.values()) == list(left.values())
    core.client("b", DetachSession(attachment=1))
    assert [attachment.number for attachment in core.state.attachments.values()] == [2]
    core.lose_client("b")
    assert not core.state.links


def test_a_closed_session_takes_no_new_submitter_but_a_known_key_gets_its_results() -> None:
    core = Core()
    core.attach("a")
    core.submit("a", 1, 3)
    core.close("app-000001")
    core.attach("b", "app-000001", create=None)
    assert [ended.error.code for ended in core.sent(AttachmentEnded)] == ["FAILED_PRECONDITION"]
    core.lose_client("a")
    core.take()
    core.attach("a", create=None)
    (attached,) = core.sent(SessionAttached)
    assert (attached.next_id, attached.last_sequence) == (4, 1)


def test_executors_without_a_cpu_are_refused_also_by_default_and_it_says_what_to_ask_for() -> None:
    core = Core(default_resources=Resources(memory_bytes=1 << 30))
    error = create(core, "")
    assert error is not None
    assert "cpu=0,mem=1g" in error.message
    assert "cpu=1" in error.hint
    assert create(core, "", SessionSpec(application="app", resources=Resources.parse("mem=1g"))) is None


def delete(core: Core, request: int) -> None:
    core.turn(SessionDeleteRequested(request=request, name="app-000001"))


def answers(core: Core) -> list[tuple[int, str]]:
    found = [effect for effect in core.effects if isinstance(effect, Answer)]
    return [(answer.request, answer.error.code if answer.error else "") for answer in found]


def test_a_delete_right_after_the_close_is_answered_when_the_executors_have_left() -> None:
    core = one_session(cpu=1, tasks=1)
    core.start("1-1")
    core.close("app-000001")
    core.take()
    delete(core, 5)
    assert answers(core) == [(5, "FAILED_PRECONDITION")], "a task runs"
    core.report("1-1")
    core.take()
    delete(core, 6)
    delete(core, 7)
    assert core.state.executors["1-1"].state is ExecutorState.UNBINDING
    assert answers(core) == []
    core.exit("1-1", exit_code=0, left=True)
    assert answers(core) == [(6, ""), (7, "")]
    assert not core.state.sessions
    assert [ended.error.code for ended in core.sent(AttachmentEnded)] == ["NOT_FOUND"]
    assert core.effects.count(PurgeRows()) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_delete_in_the_turn_in_which_the_last_executor_leaves_deletes_once(order: int) -> None:
    core = one_session(cpu=1, tasks=1)
    core.start("1-1")
    core.report("1-1")
    core.close("app-000001")
    binding = core.binding("1-1").number
    exit = ExecutorExited(executor="1-1", binding=binding, session=1, exit_code=0, entered=True, left=True)
    core.node("n1", exit)
    core.take()
    ended = ExecutorLost("1-1", binding, core.links.pop("1-1"))
    core.turn(*(ended, SessionDeleteRequested(request=6, name="app-000001"))[::order])
    assert answers(core) == [(6, "")]
    assert not core.state.sessions


def test_a_delete_waits_no_longer_than_for_a_lease() -> None:
    core = one_session(cpu=1, tasks=1)
    core.start("1-1")
    core.report("1-1")
    core.close("app-000001")
    core.lose_node("n1")
    core.take()
    delete(core, 6)
    core.advance(core.settings.lease_ms + 1_000)
    assert answers(core) == [(6, "")]


def with_a_deleted_session(core: Core) -> None:
    """One whose rows are too many to be purged at a time."""
    core.attach("a")
    for task in range(1, 6):
        core.submit("a", task, 1, nbytes=900)
    core.close("app-000001")
    delete(core, 1)


def test_a_purge_goes_on_in_pauses_until_all_is_gone() -> None:
    core = Core()
    with_a_deleted_session(core)
    assert core.effects.count(PurgeRows()) == 1
    core.advance(PURGE_PAUSE_MS - 1)
    assert core.effects.count(PurgeRows()) == 1
    core.advance(20 * PURGE_PAUSE_MS)
    assert not core.store.purge(0)
    assert core.state.deadlines.next_ms() is None


def test_a_delete_that_is_stored_when_a_purge_has_looked_is_purged_after_it() -> None:
    core = Core()
    core.attach("a")
    core.submit("a", 1, 1)
    core.close("app-000001")
    core.state.purging = True
    delete(core, 1)
    core.turn(RowsPurged(more=False))
    assert core.store.purge(0)
    core.advance(PURGE_PAUSE_MS)
    assert not core.store.purge(0)
    assert core.state.deadlines.next_ms() is None


def test_a_purge_that_makes_no_progress_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "purge", lambda self, limit_bytes: True)
    core = Core()
    with_a_deleted_session(core)
    core.advance(10 * PURGE_PAUSE_MS)
    assert core.effects.count(PurgeRows()) == 11


def test_a_purge_that_a_restart_interrupted_goes_on() -> None:
    core = Core()
    with_a_deleted_session(core)
    core.restart()
    assert core.store.purge(0)
    core.advance(RECONNECT_GRACE_MS + 20 * PURGE_PAUSE_MS)
    assert not core.store.purge(0)


def test_no_block_is_granted_when_the_store_is_nearly_full() -> None:
    core = Core()
    core.attach("a")
    core.turn(SpaceMeasured(10))
    core.take()
    core.attach("b", "app-000001", create=None)
    assert [ended.error.code for ended in core.sent(AttachmentEnded)] == ["RESOURCE_EXHAUSTED"]
    assert not core.writes
    core.take()
    core.attach("c", "app-000001", create=None, submit=False)
    assert core.sent(SessionAttached), "reading is possible"
    core.lose_client("a")
    core.take()
    core.attach("a", create=None)
    assert core.sent(SessionAttached), "its block is there already"


def test_a_fresh_block_gets_its_own_results_and_does_not_look_for_older_ones() -> None:
    core = one_session(cpu=1, tasks=3)
    core.start("1-1")
    while core.session("app-000001").unfinished:
        core.report("1-1")
    core.take()
    core.attach("b", "app-000001", create=None)
    assert not [effect for effect in core.effects if isinstance(effect, ReadSegments)]
    core.submit("b", BLOCK_TASKS + 1, 1)
    core.report("1-1")
    assert [segment.first for segment in core.sent(Segment)] == [BLOCK_TASKS + 1]
