"""A turn collects: rows that grow together, and effects in the right order."""

from flame.core.control.effects import SendToClient, SendToExecutor
from flame.core.control.state import Turn
from flame.model.chunk import pack
from flame.model.client_messages import SubmitChunk
from flame.model.limits import MAX_CHUNK_BYTES, MAX_CHUNK_TASKS
from flame.model.node_messages import PingNode
from flame.model.records import PutChunk
from tests.core.harness import Core, one_session


def rows(turn: Turn) -> list[tuple[int, int, int]]:
    turn.finish_rows()
    return [(w.record.session, w.record.first, w.record.count) for w in turn.writes if isinstance(w, PutChunk)]


def test_single_tasks_of_one_turn_become_one_row() -> None:
    turn = Turn(5)
    for task in range(1, 101):
        turn.store_chunk(1, task, 1, *pack([b"%d" % task]), b"")
    assert rows(turn) == [(1, 1, 100)]
    (write,) = turn.writes
    assert isinstance(write, PutChunk)
    assert (write.record.lengths, write.record.blob) == pack([b"%d" % task for task in range(1, 101)])


def test_a_row_ends_at_a_gap_other_attributes_and_the_limits() -> None:
    turn = Turn(5)
    turn.store_chunk(1, 1, 1, *pack([b"a"]), b"")
    turn.store_chunk(2, 1, 1, *pack([b"a"]), b"")
    turn.store_chunk(1, 3, 1, *pack([b"b"]), b"")
    turn.store_chunk(1, 4, 1, *pack([b"c"]), b"x")
    turn.store_chunk(1, 5, MAX_CHUNK_TASKS, *pack([b""] * MAX_CHUNK_TASKS), b"x")
    turn.store_chunk(2, 2, 1, *pack([bytes(MAX_CHUNK_BYTES)]), b"")
    assert sorted(rows(turn)) == [(1, 1, 1), (1, 3, 1), (1, 4, 1), (1, 5, MAX_CHUNK_TASKS), (2, 1, 1), (2, 2, 1)]


def test_nothing_is_sent_to_who_is_not_there() -> None:
    core = one_session(cpu=1, tasks=1)
    core.lose_node("n1")
    core.take()
    turn = Turn(5)
    turn.node(core.state.nodes["n1"], PingNode(1))  # type: ignore[arg-type]
    turn.executor(core.binding("1-1"), PingNode(1), stored=True)  # type: ignore[arg-type]
    assert (turn.now, turn.after) == ([], [])


def test_executors_hear_of_a_commit_before_clients_do() -> None:
    core = one_session(cpu=1, tasks=1)
    core.start("1-1")
    turn = Turn(5)
    turn.client(1, PingNode(1))  # type: ignore[arg-type]
    turn.executor(core.binding("1-1"), PingNode(2), stored=False)  # type: ignore[arg-type]
    turn.executor(core.binding("1-1"), PingNode(3), stored=True)  # type: ignore[arg-type]
    assert [type(effect) for effect in turn.now] == [SendToExecutor]
    assert [type(effect) for effect in turn.after_commit] == [SendToExecutor, SendToClient]


def test_attempts_rise_within_an_epoch_and_over_epochs() -> None:
    core = Core()
    first = core.state.next_attempt()
    assert core.state.next_attempt() > first
    core.restart()
    assert core.state.next_attempt() > first + 1_000_000


def test_a_row_is_stored_before_its_acknowledgement() -> None:
    core = Core()
    core.attach("a")
    core.take()
    core.client("a", SubmitChunk(attachment=1, first=1, count=1, lengths=b"\1\0\0\0", blob=b"x"))
    assert [type(write).__name__ for write in core.writes] == ["PutChunk"]
    batch = core.turn()
    assert not batch.writes
