"""The state tables: complete, without dead ends, and the only way in which anything changes its state."""

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from flame.core.control.transitions import EXECUTORS, NODES, SESSIONS, TABLES, TASKS, NodeLife, Table, TaskPlace, title
from flame.model.states import ExecutorState, SessionState, TaskState
from tests.support import SRC

CONTROL = SRC / "core" / "control"
LAST = {
    "session": ["nothing"],
    "task": ["SUCCEED", "FAILED", "CANCELLED"],
    "executor": ["RELEASED"],
    "node": ["nothing"],
}

tables = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.entity)


@tables
def test_every_state_is_described_begins_somewhere_and_ends_somewhere(table: Table[Any]) -> None:
    named = {state for move in table.moves for state in move if state is not None}
    assert named == set(table.states)
    ends = [end for end in (*table.states, None) if title(end) in LAST[table.entity]]
    for state in table.states:
        assert table.leads(None, state), f"nothing leads to {state.name}"
        assert any(table.leads(state, end) for end in ends), f"{state.name} is a dead end"
        assert (state in ends) == (not any(old is state for old, _ in table.moves)), "nothing follows the last"


@tables
def test_what_is_not_in_the_table_is_refused_with_what_was_tried(table: Table[Any]) -> None:
    for old in (None, *table.states):
        for new in (None, *table.states):
            if (old, new) in table.moves:
                table.check(old, new)
            else:
                with pytest.raises(AssertionError, match=f"{table.entity} x1: {title(old)} -> {title(new)} is not"):
                    table.check(old, new, "x1")


@tables
def test_every_state_and_every_move_says_when_in_a_sentence(table: Table[Any]) -> None:
    for sentence in (*table.states.values(), *table.moves.values()):
        assert sentence[0].isupper(), sentence
        assert sentence.endswith("."), sentence


def test_ways_are_chains_of_moves() -> None:
    assert EXECUTORS.leads(ExecutorState.VOID, ExecutorState.RELEASED)
    assert not EXECUTORS.leads(ExecutorState.BOUND, ExecutorState.VOID)
    assert not SESSIONS.leads(SessionState.CLOSED, SessionState.OPEN)
    assert SESSIONS.leads(SessionState.CLOSED, SessionState.CLOSED), "to stay is no move"
    assert NODES.leads(NodeLife.SILENT, None)
    assert not NODES.leads(NodeLife.EXPIRED, NodeLife.AWAITED), "a node that was forgotten is another one"
    assert not TASKS.leads(TaskPlace.FAILED, TaskPlace.QUEUED)


def test_all_published_states_that_exist_are_in_a_table() -> None:
    assert set(SESSIONS.states) == set(SessionState)
    unused = (ExecutorState.UNKNOWN, ExecutorState.RELEASING)
    assert set(EXECUTORS.states) == {state for state in ExecutorState if state not in unused}
    ends = [(state.name, int(state)) for state in TaskState if state.terminal]
    assert [(place.name, int(place)) for place in TaskPlace if place.name in dict(ends)] == ends


def _assigned(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Attributes that are assigned to, with their lines."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []
        for target in targets:
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(part, ast.Attribute):
                    yield node.lineno, part.attr


def test_states_change_in_the_methods_that_ask_the_tables_and_nowhere_else() -> None:
    """Counts of what is terminal are read back at a start: `recovery.py` sets them as well."""
    for path in sorted(CONTROL.glob("*.py")):
        for line, attribute in _assigned(ast.parse(path.read_text("utf-8"))):
            where = f"{path.name}:{line} sets .{attribute}"
            if attribute in ("state", "life"):
                assert path.name == "entities.py", where
            elif attribute in ("succeeded", "failed", "cancelled"):
                assert path.name in ("entities.py", "recovery.py"), where
