"""What never happened is named."""

from collections import Counter

import pytest

from flame.core.control.entities import Executor, Node
from flame.model.resources import Resources
from flame.model.states import ExecutorState
from flame.sim.coverage import REQUIRED, missing, moves_counted


def test_what_never_happened_is_named() -> None:
    counts = Counter(dict.fromkeys(REQUIRED, 1))
    assert missing(counts) == []
    del counts["fault hang"]
    assert missing(counts) == ["fault hang"]


def test_moves_are_counted_and_still_checked() -> None:
    counts: Counter[str] = Counter()
    original = Executor.move
    executor = Executor(id="e", node=Node(name="n"), resources=Resources(cpu=1), state=ExecutorState.VOID, since_ms=0)
    with moves_counted(counts):
        executor.move(ExecutorState.BINDING, 5)
        with pytest.raises(AssertionError):
            executor.move(ExecutorState.RELEASED, 6)
    assert Executor.move is original
    assert executor.state is ExecutorState.BINDING
    assert counts["executor VOID -> BINDING"] == 1
