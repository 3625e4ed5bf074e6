"""What never happened is named."""

from collections import Counter

import pytest

from flame.core.control.entities import Executor, Node
from flame.core.control.transitions import TABLES, NodeLife, Table
from flame.model.resources import Resources
from flame.model.states import ExecutorState
from flame.sim.coverage import REQUIRED, missing, moves_counted


def test_what_never_happened_is_named() -> None:
    counts = Counter(dict.fromkeys(REQUIRED, 1))
    assert missing(counts) == []
    del counts["fault hang"]
    assert missing(counts) == ["fault hang"]


def test_every_move_of_every_table_is_required() -> None:
    moves = [what for what in REQUIRED if " -> " in what]
    assert len(moves) == sum(len(table.moves) for table in TABLES)
    assert {"session nothing -> OPEN", "task HELD -> FAILED", "executor IDLE -> RELEASED"} <= set(moves)
    assert "node EXPIRED -> nothing" in moves


def test_moves_are_counted_and_still_checked() -> None:
    counts: Counter[str] = Counter()
    original = Table.check
    node = Node(name="n")
    with moves_counted(counts):
        executor = Executor(id="e", node=node, resources=Resources(cpu=1), state=ExecutorState.VOID, since_ms=0)
        executor.move(ExecutorState.BINDING, 5)
        node.move(NodeLife.READY, 1)
        with pytest.raises(AssertionError):
            executor.move(ExecutorState.RELEASED, 6)
    assert Table.check is original
    assert executor.state is ExecutorState.BINDING
    assert counts == {"executor nothing -> VOID": 1, "executor VOID -> BINDING": 1, "node AWAITED -> READY": 1}
