"""Sessions: names, keys, limits, attachments."""

from typing import Any

import pytest

from flame.core.control.effects import Answer
from flame.core.control.events import SessionCreateRequested
from flame.model.errors import Rejection
from flame.model.limits import MAX_ATTACHMENTS_PER_CONNECTION, MAX_COMMON_DATA_BYTES
from flame.model.messages import AttachmentEnded, AttachSession, DetachSession, SessionAttached
from flame.model.specs import SessionSpec
from tests.core.harness import Core

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
