"""What a set of simulations has to have gone through: transitions of the state tables, and kinds of faults."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from flame.core.control.entities import TRANSITIONS, Executor
from flame.model.states import ExecutorState
from flame.sim.faults import FAULTS
from flame.sim.session_manager import POINTS

REQUIRED: tuple[str, ...] = (
    *(f"executor {old.name} -> {new.name}" for old, followers in TRANSITIONS.items() for new in followers),
    *("session OPEN", "session CLOSED", "session deleted"),
    *("task SUCCEED", "task FAILED", "task CANCELLED"),
    *(f"fault {kind}" for kind in FAULTS),
    *(f"killed {point}" for point in POINTS),
    *("hang session manager", "hang node", "hang executor", "hang client"),
    *("cut in a message", "disk: lost", "disk: kept", "disk: torn", "ended by its disk"),
    *("executor: its process died", "executor: its node killed it", "executor: ended well", "task run again"),
)
"""What must have happened at least once, as it stands in the counts of the worlds."""


@contextmanager
def moves_counted(counts: Counter[str]) -> Iterator[None]:
    """While it lasts, every change of an executor's state is counted."""
    original = Executor.move

    def move(self: Executor, state: ExecutorState, now_ms: int) -> None:
        counts[f"executor {self.state.name} -> {state.name}"] += 1
        original(self, state, now_ms)

    Executor.move = move  # type: ignore[method-assign]
    try:
        yield
    finally:
        Executor.move = original  # type: ignore[method-assign]


def missing(counts: Mapping[str, int]) -> list[str]:
    """What is required and never happened."""
    return [what for what in REQUIRED if not counts.get(what)]
