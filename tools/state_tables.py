"""Draw the state tables of the core into docs/concepts/states.md: a diagram and two tables of words for each.

`make map` runs it; `tests/structure/test_docs.py` checks that the page is up to date.
"""

from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

from flame.core.control.transitions import TABLES, Table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "concepts" / "states.md"
BEGIN = "<!-- state tables: made by tools/state_tables.py from core/control/transitions.py -->\n"
END = "<!-- end of the state tables -->\n"


def state_tables() -> str:
    """All tables as Markdown."""
    return "\n".join("\n".join(_section(table)) for table in TABLES)


def page_with(text: str) -> str:
    """The page with its tables replaced by `text`."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2]


def _section(table: Table[Any]) -> Iterator[str]:
    yield from (f"## {table.entity.capitalize()}s", "", "```mermaid", "stateDiagram-v2")
    for old, new in table.moves:
        yield f"    {_node(old)} --> {_node(new)}"
    for state in table.states:
        if not any(old is state for old, _ in table.moves):
            yield f"    {_node(state)} --> [*]"
    yield from ("```", "", "| state | what it means |", "| --- | --- |")
    for state, meaning in table.states.items():
        yield f"| {state.name} | {meaning} |"
    yield from ("", "| from | to | when |", "| --- | --- | --- |")
    for (old, new), when in table.moves.items():
        yield f"| {_cell(old)} | {_cell(new)} | {when} |"
    yield ""


def _node(state: IntEnum | None) -> str:
    return "[*]" if state is None else state.name


def _cell(state: IntEnum | None) -> str:
    return "" if state is None else state.name


if __name__ == "__main__":
    PAGE.write_text(page_with(state_tables()), "utf-8")
