"""What an executor says is bounded before it is a structure in memory."""

import msgspec
import pytest

from flame.model.executor_messages import AttachExecutor, Outcome, ReportOutcomes, TasksRetracted
from flame.model.limits import CREDIT_TASKS
from flame.model.states import TaskState

OUTCOME = {"attempt": 1, "first": 1, "count": 1, "state": int(TaskState.SUCCEED)}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (AttachExecutor, {"executor": "e", "binding": 1, "session": 1, "held": [[1, 1, 1]]}),
        (TasksRetracted, {"request": 1, "ranges": [[1, 1, 1]]}),
        (ReportOutcomes, {"report": 1, "outcomes": [OUTCOME]}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_list_has_at_most_one_entry_per_task_an_executor_may_hold(
    kind: type[msgspec.Struct], message: dict[str, object]
) -> None:
    (name, entries) = next((name, value) for name, value in message.items() if isinstance(value, list))
    tagged = {"type": kind.__name__} | message
    fits = msgspec.convert(tagged | {name: entries * CREDIT_TASKS}, kind)
    assert len(getattr(fits, name)) == CREDIT_TASKS
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(tagged | {name: entries * (CREDIT_TASKS + 1)}, kind)


def test_an_outcome_without_columns_is_one_state_and_no_output() -> None:
    outcome = msgspec.convert(OUTCOME, Outcome)
    assert (outcome.states, outcome.lengths, outcome.blob) == (b"", b"", b"")
