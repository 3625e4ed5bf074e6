"""What a set of simulations has to have gone through: transitions of the state tables, and kinds of faults."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flame.core.control.transitions import TABLES, Table, title
from flame.sim.clients import TOO_LARGE
from flame.sim.faults import ANSWERS, FAULTS
from flame.sim.kills import POINTS, RECOVERY_POINTS, WRITES
from flame.sim.session_manager import NO_SPACE

REQUIRED: tuple[str, ...] = (
    *(f"{table.entity} {title(old)} -> {title(new)}" for table in TABLES for old, new in table.moves),
    *(f"fault {kind}" for kind in FAULTS),
    *(f"killed {point}" for point in (*POINTS, *RECOVERY_POINTS)),
    *(f"killed with {write.__name__}" for write in WRITES),
    *(f"broke before {answer.__name__}" for answer in ANSWERS),
    *("lazy", "former connection of a client closed", "client came back"),
    *("hang session manager", "hang node", "hang executor", "hang client"),
    *("half-open peer", "half-open session manager", "half-open network"),
    *(NO_SPACE, TOO_LARGE, f"{TOO_LARGE}, alone", "started without an input", "started with the largest input"),
    *("cut in a message", "disk: lost", "disk: kept", "disk: torn", "ended by its disk"),
    *("executor: its process died", "executor: its node killed it", "executor: ended well", "task run again"),
)
"""What must have happened at least once, as it stands in the counts of the worlds."""


@contextmanager
def moves_counted(counts: Counter[str]) -> Iterator[None]:
    """While it lasts, every move along a state table is counted."""
    original = Table.check

    def check(self: Table[Any], old: Any, new: Any, name: str = "") -> None:
        original(self, old, new, name)
        counts[f"{self.entity} {title(old)} -> {title(new)}"] += 1

    Table.check = check  # type: ignore[method-assign]
    try:
        yield
    finally:
        Table.check = original  # type: ignore[method-assign]


def missing(counts: Mapping[str, int]) -> list[str]:
    """What is required and never happened."""
    return [what for what in REQUIRED if not counts.get(what)]
