"""What the cluster says, as plain values."""

from flame.model.specs import SessionSpec
from flame.model.states import SessionState
from flame.sdk.views import SessionView


def test_unfinished_tasks_are_those_without_a_result() -> None:
    view = SessionView(
        id="s",
        spec=SessionSpec(application="a"),
        state=SessionState.OPEN,
        created_ms=1,
        pending=2,
        running=3,
        succeed=4,
        failed=5,
        cancelled=6,
    )
    assert view.unfinished == 5
