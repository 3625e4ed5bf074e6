"""The base class of a service: what a user gets without overriding anything."""

import msgspec
import pytest

from flame.service import FlameService, SessionContext, TaskContext


def test_session_enter_and_leave_may_be_left_out() -> None:
    service = FlameService()
    service.on_session_enter(SessionContext(session_id="s", application="a"))
    service.on_session_leave()


def test_a_service_without_on_task_invoke_says_which_class_lacks_it() -> None:
    class Empty(FlameService):
        pass

    with pytest.raises(TypeError, match=r"Empty does not define on_task_invoke"):
        Empty().on_task_invoke(TaskContext(session_id="s", task_id=1, input=b""))


def test_contexts_cannot_be_changed_by_the_service() -> None:
    context = SessionContext(session_id="s", application="a", common_data=b"x")
    with pytest.raises(AttributeError):
        context.common_data = b"y"  # type: ignore[misc]
    assert msgspec.structs.asdict(context) == {"session_id": "s", "application": "a", "common_data": b"x"}
