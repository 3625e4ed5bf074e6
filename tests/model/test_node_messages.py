"""What a node says is bounded before it is a structure in memory, and only an exit code may be below zero."""

import msgspec
import pytest

from flame.model.limits import MAX_PROCESSES_PER_NODE
from flame.model.node_messages import ExecutorExited, JoinNode, PingNode

EXIT = {"type": "ExecutorExited", "executor": "e", "binding": 1, "session": 1}
REPORT = {"executor": "e", "binding": 1, "session": 1}
JOIN = {"type": "JoinNode", "node": "n", "instance": "i", "capacity": {}}


@pytest.mark.parametrize(("name", "entry"), [("executors", REPORT), ("exits", EXIT)])
def test_a_node_has_a_bounded_number_of_processes(name: str, entry: dict[str, object]) -> None:
    fits = msgspec.convert(JOIN | {name: [entry] * MAX_PROCESSES_PER_NODE}, JoinNode)
    assert len(getattr(fits, name)) == MAX_PROCESSES_PER_NODE
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(JOIN | {name: [entry] * (MAX_PROCESSES_PER_NODE + 1)}, JoinNode)


def test_an_exit_code_may_be_negative_and_a_time_may_not() -> None:
    assert msgspec.convert(EXIT | {"exit_code": -1}, ExecutorExited).exit_code == -1
    with pytest.raises(msgspec.ValidationError, match="sent_ns"):
        msgspec.convert({"type": "PingNode", "sent_ns": -1}, PingNode)
