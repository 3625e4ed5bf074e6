"""What every store has to do: one check per clause of `flame.stores.port`.

A check takes a `Place`, opens stores on it and asserts what the port promises. `test_memory.py` and `test_sqlite.py`
run all checks; `test_port.py` shows that broken stores are found out.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import pytest

from flame.model.errors import Aborted, FailedPrecondition, FlameError, NotFound, ResourceExhausted
from flame.model.limits import BLOCK_TASKS, KIB, MIB
from flame.model.records import (
    ApplicationRecord,
    BindingRecord,
    BlockRecord,
    ChunkHeader,
    ChunkRecord,
    DeathsRecord,
    DeleteApplication,
    DeleteBinding,
    DeleteSession,
    PutApplication,
    PutBinding,
    PutBlock,
    PutChunk,
    PutDeaths,
    PutSegment,
    PutSession,
    SegmentHeader,
    SegmentRecord,
    SessionRecord,
    Snapshot,
    Write,
)
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import ApplicationState, SessionState, Shim, TaskState
from flame.stores.port import Store

SMALL_BYTES: Final = 2 * MIB
"""About what fits into a small store."""

LARGE_BYTES: Final = 1 << 30


class Place(Protocol):
    """Where records are: every store of it sees those of the stores before."""

    def store(self) -> Store:
        """A store on this place, not open."""

    def small_store(self) -> Store:
        """The same with room for about `SMALL_BYTES`."""


# --- records ---------------------------------------------------------------------------------------------------------


def columns(payloads: Sequence[bytes | None]) -> tuple[bytes, bytes]:
    """Payloads as a `lengths` column and a blob."""
    lengths = (0xFFFFFFFF if payload is None else len(payload) for payload in payloads)
    return b"".join(n.to_bytes(4, "little") for n in lengths), b"".join(payload or b"" for payload in payloads)


def payload(session: int, task: int) -> bytes:
    """What task `task` has as its input: of various lengths, 0 among them."""
    return f"{session}/{task};".encode() * (task % 4)


def put_session(number: int, name: str = "", created_ms: int = 1) -> PutSession:
    """A session with little in it."""
    spec = SessionSpec(application="app")
    return PutSession(SessionRecord(number=number, name=name or f"session-{number}", spec=spec, created_ms=created_ms))


def put_chunk(session: int, first: int, count: int, created_ms: int = 1, attributes: bytes = b"") -> PutChunk:
    """Tasks whose inputs are `payload`."""
    lengths, blob = columns([payload(session, task) for task in range(first, first + count)])
    return PutChunk(
        ChunkRecord(
            session=session,
            first=first,
            count=count,
            created_ms=created_ms,
            lengths=lengths,
            blob=blob,
            attributes=attributes,
        )
    )


def put_segment(session: int, sequence: int, first: int, count: int, finished_ms: int = 1) -> PutSegment:
    """Succeeded tasks whose outputs are their inputs reversed, None for empty ones."""
    outputs = [payload(session, task)[::-1] or None for task in range(first, first + count)]
    lengths, blob = columns(outputs)
    return PutSegment(
        SegmentRecord(
            session=session,
            sequence=sequence,
            first=first,
            count=count,
            state=TaskState.SUCCEED,
            lengths=lengths,
            blob=blob,
            finished_ms=finished_ms,
        )
    )


def put_cancelled(session: int, sequence: int, first: int, count: int) -> PutSegment:
    """A cancelled range without payload."""
    record = SegmentRecord(
        session=session, sequence=sequence, first=first, count=count, state=TaskState.CANCELLED, finished_ms=1
    )
    return PutSegment(record)


def put_blob(session: int, first: int, nbytes: int) -> PutChunk:
    """One task with a large input."""
    lengths, blob = columns([b"\x5a" * nbytes])
    return PutChunk(ChunkRecord(session=session, first=first, count=1, created_ms=1, lengths=lengths, blob=blob))


def put_output(session: int, sequence: int, first: int, nbytes: int) -> PutSegment:
    """One succeeded task with a large output."""
    lengths, blob = columns([b"\xa5" * nbytes])
    record = SegmentRecord(
        session=session,
        sequence=sequence,
        first=first,
        count=1,
        state=TaskState.SUCCEED,
        lengths=lengths,
        blob=blob,
        finished_ms=1,
    )
    return PutSegment(record)


def read_all(store: Store, session: int, after: int = 0, block: range | None = None) -> list[SegmentRecord]:
    """All segments, read in steps of about 1 KiB."""
    found: list[SegmentRecord] = []
    while rows := store.read_segments(session, after, KIB, block):
        found += rows
        after = rows[-1].sequence
    return found


def purge_all(store: Store, limit_bytes: int = 64 * KIB) -> int:
    """Purge until nothing is left; return the number of calls."""
    calls = 1
    while store.purge(limit_bytes):
        calls += 1
        assert calls < 10_000, "purge finds more and more to do"
    return calls


def reopened(place: Place, store: Store) -> Store:
    """Another session manager's store on the same records."""
    store.close()
    again = place.store()
    again.open()
    return again


# --- open, epochs, close ---------------------------------------------------------------------------------------------


def check_open_raises_the_epoch(place: Place) -> None:
    """Each open has an epoch higher by one, and the same store id."""
    store = place.store()
    epoch = store.open()
    store_id = store.store_id
    store.close()
    again = place.store()
    assert again.open() == epoch + 1
    assert again.store_id == store_id
    assert len(store_id) >= 16
    again.close()


def check_new_store_is_empty(place: Place) -> None:
    """A new store has nothing."""
    store = place.store()
    store.open()
    assert store.recover() == Snapshot()
    assert list(store.read_segments(1, 0, LARGE_BYTES)) == []
    assert store.read_outcome(1, 1) is None
    assert store.purge(LARGE_BYTES) is False
    store.close()


def check_close_is_idempotent(place: Place) -> None:
    """Close may be called before open and twice; a closed store says so."""
    store = place.store()
    store.close()
    epoch = store.open()
    store.close()
    store.close()
    with pytest.raises(FailedPrecondition):
        store.commit(epoch, [put_session(1)])
    with pytest.raises(FailedPrecondition):
        store.recover()


def check_old_epoch_is_fenced_off(place: Place) -> None:
    """A commit with an epoch that is not the store's any more stores nothing."""
    store = place.store()
    old = store.open()
    store.commit(old, [put_session(1)])
    store.close()
    store = place.store()
    new = store.open()
    for epoch in (old, new + 1, 0):
        with pytest.raises(Aborted):
            store.commit(epoch, [put_session(2)])
    store.commit(new, [put_session(3)])
    assert [session.number for session in store.recover().sessions] == [1, 3]
    store.close()


def check_open_again_is_a_take_over(place: Place) -> None:
    """Opening an open store raises its epoch too, and the one before is fenced off."""
    store = place.store()
    old = store.open()
    new = store.open()
    assert new == old + 1
    with pytest.raises(Aborted):
        store.commit(old, [put_session(1)])
    store.commit(new, [put_session(1)])
    assert len(store.recover().sessions) == 1
    store.close()


# --- commit ----------------------------------------------------------------------------------------------------------


def _one_of_each() -> tuple[Snapshot, list[Write]]:
    """Records with every field set, and the writes that make them."""
    application = ApplicationRecord(
        name="app",
        spec=ApplicationSpec(
            shim=Shim.WASM,
            service="package:Class",
            description="d\u00e9",
            labels=("a", "b"),
            environments=(("K", "V"),),
            max_instances=7,
            delay_release_ms=3,
            input_schema="{}",
        ),
        state=ApplicationState.DISABLED,
        created_ms=11,
    )
    spec = SessionSpec(
        application="app",
        common_data=b"\x00\xff" * 100,
        min_instances=1,
        max_instances=8,
        batch_size=2,
        priority=5,
        resources=Resources(cpu=2, memory_bytes=1 << 40, gpu=1),
    )
    session = SessionRecord(
        number=4,
        name="four",
        spec=spec,
        state=SessionState.CLOSED,
        created_ms=12,
        closed_ms=13,
        tenant="t",
        labels=("x",),
    )
    block = BlockRecord(session=4, first=1 + 3 * BLOCK_TASKS, key="random")
    chunk = put_chunk(4, 1 + 3 * BLOCK_TASKS, 10, created_ms=14, attributes=b"\x01attributes")
    lengths, blob = columns([b"out", None, b""])
    segment = SegmentRecord(
        session=4,
        sequence=1,
        first=2 + 3 * BLOCK_TASKS,
        count=3,
        state=TaskState.SUCCEED,
        states=bytes([TaskState.SUCCEED, TaskState.SUCCEED, TaskState.FAILED]),
        lengths=lengths,
        blob=blob,
        finished_ms=15,
    )
    binding = BindingRecord(executor="e-1", node="n", session=4, binding=(9 << 32) + 1, created_ms=16)
    deaths = DeathsRecord(session=4, task=1 + 3 * BLOCK_TASKS, count=2)
    snapshot = Snapshot(
        applications=(application,),
        sessions=(session,),
        blocks=(block,),
        chunks=(
            ChunkHeader(
                session=4,
                first=chunk.record.first,
                count=10,
                created_ms=14,
                nbytes=len(chunk.record.blob),
                attributes=b"\x01attributes",
            ),
        ),
        segments=(
            SegmentHeader(
                session=4,
                sequence=1,
                first=segment.first,
                count=3,
                state=TaskState.SUCCEED,
                states=segment.states,
                nbytes=3,
            ),
        ),
        bindings=(binding,),
        deaths=(deaths,),
        last_session=4,
        time_ms=16,
    )
    writes: list[Write] = [
        PutApplication(application),
        PutSession(session),
        PutBlock(block),
        chunk,
        PutSegment(segment),
        PutBinding(binding),
        PutDeaths(deaths),
    ]
    return snapshot, writes


def check_every_record_survives(place: Place) -> None:
    """Each kind of record is there again after a reopen, with all its fields, and so are the last of the writes."""
    snapshot, writes = _one_of_each()
    for count in range(1, len(writes) + 1):
        last = place.store()
        epoch = last.open()
        last.commit(epoch, writes[count - 1 : count])
        last.close()
    store = place.store()
    store.open()
    assert store.recover() == snapshot
    (segment,) = store.read_segments(4, 0, LARGE_BYTES)
    assert PutSegment(segment) == writes[4]
    chunk = put_chunk(4, 1 + 3 * BLOCK_TASKS, 10).record
    assert store.read_inputs(4, chunk.first, chunk.count) == (chunk.lengths, chunk.blob)
    store.close()


def check_one_commit_takes_all_kinds(place: Place) -> None:
    """One commit with every kind of write is stored as a whole; an empty one is fine."""
    snapshot, writes = _one_of_each()
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [])
    store.commit(epoch, writes)
    assert store.recover() == snapshot
    store = reopened(place, store)
    assert store.recover() == snapshot
    store.close()


def check_writes_apply_in_order(place: Place) -> None:
    """Of writes to the same record the last one counts, whatever stands between them."""
    store = place.store()
    epoch = store.open()
    app = ApplicationRecord(name="app", spec=ApplicationSpec(), created_ms=1)
    binding = BindingRecord(executor="e", node="n", session=1, binding=1, created_ms=1)
    store.commit(
        epoch,
        [
            PutApplication(app),
            DeleteApplication("app"),
            put_session(1, "before"),
            PutBinding(binding),
            DeleteBinding("e"),
            put_session(1, "after"),
            PutDeaths(DeathsRecord(session=1, task=5, count=1)),
            PutBlock(BlockRecord(session=1, first=1, key="old")),
            PutDeaths(DeathsRecord(session=1, task=5, count=2)),
            PutBlock(BlockRecord(session=1, first=1, key="new")),
        ],
    )
    found = store.recover()
    assert (found.applications, found.bindings) == ((), ())
    assert [session.name for session in found.sessions] == ["after"]
    assert [deaths.count for deaths in found.deaths] == [2]
    assert [block.key for block in found.blocks] == ["new"]
    store.commit(epoch, [DeleteApplication("app"), PutApplication(app), DeleteBinding("e"), PutBinding(binding)])
    found = store.recover()
    assert (found.applications, found.bindings) == ((app,), (binding,))
    store.close()


def check_put_replaces(place: Place) -> None:
    """A record with the same key replaces the one before, in a later commit too."""
    store = place.store()
    epoch = store.open()
    for turn in (1, 2, 3):
        store.commit(
            epoch,
            [
                PutApplication(
                    ApplicationRecord(name="app", spec=ApplicationSpec(description=str(turn)), created_ms=1)
                ),
                put_session(1, f"name-{turn}"),
                PutBlock(BlockRecord(session=1, first=1, key=str(turn))),
                PutBinding(BindingRecord(executor="e", node=str(turn), session=1, binding=turn, created_ms=1)),
                PutDeaths(DeathsRecord(session=1, task=1, count=turn)),
            ],
        )
    store = reopened(place, store)
    found = store.recover()
    store.close()
    assert [application.spec.description for application in found.applications] == ["3"]
    assert [session.name for session in found.sessions] == ["name-3"]
    assert [block.key for block in found.blocks] == ["3"]
    assert [binding.node for binding in found.bindings] == ["3"]
    assert [deaths.count for deaths in found.deaths] == [3]


def check_deletes_of_nothing_are_fine(place: Place) -> None:
    """Deleting what is not there does nothing."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [DeleteApplication("none"), DeleteBinding("none"), DeleteSession(77)])
    purge_all(store)
    assert store.recover() == Snapshot()
    store.close()


def check_full_store_stays_usable(place: Place) -> None:
    """A commit that finds no room stores nothing of it; results still fit, and deleting makes room."""
    store = place.small_store()
    epoch = store.open()
    store.commit(epoch, [put_session(1), put_session(2)])
    assert 0 < store.free_bytes() <= 4 * SMALL_BYTES
    first = 1
    try:
        while first < 1000:
            store.commit(epoch, [put_blob(1, first, 64 * KIB)])
            first += 1
    except ResourceExhausted:
        pass
    assert first < 1000, "never full"
    assert first * 64 * KIB > SMALL_BYTES // 8, "refused long before it was full"
    assert store.free_bytes() < SMALL_BYTES // 4
    before = store.recover()
    with pytest.raises(ResourceExhausted):
        store.commit(epoch, [put_session(3), put_output(1, 1, 1, 16), put_blob(2, 1, SMALL_BYTES), put_session(4)])
    assert store.recover() == before
    store.commit(epoch, [put_output(1, 1, 1, 32 * KIB), put_session(5)])
    assert store.read_inputs(1, first - 1, 1) == columns([b"\x5a" * 64 * KIB])
    assert store.read_outcome(1, 1) == put_output(1, 1, 1, 32 * KIB).record
    store.commit(epoch, [DeleteSession(1)])
    purge_all(store)
    store.maintain()
    assert store.free_bytes() > SMALL_BYTES // 8
    store.commit(epoch, [put_blob(2, 1, 64 * KIB)])
    assert store.read_inputs(2, 1, 1) == columns([b"\x5a" * 64 * KIB])
    store.close()


# --- recover ---------------------------------------------------------------------------------------------------------


def check_recover_orders_rows(place: Place) -> None:
    """Chunk headers come by (session, first), segment headers by (session, sequence), whatever order they came in."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [put_session(2), put_session(1)])
    high = 1 + BLOCK_TASKS
    store.commit(epoch, [put_chunk(2, high, 5), put_chunk(1, 9, 2), put_chunk(2, 1, 4), put_chunk(1, 1, 8)])
    store.commit(epoch, [put_chunk(2, high + 5, 5), put_chunk(2, 5, 4)])
    store.commit(epoch, [put_segment(2, 1, high, 2), put_segment(1, 1, 9, 1), put_segment(2, 2, 1, 4)])
    store.commit(epoch, [put_segment(1, 2, 1, 8), put_segment(2, 3, high + 2, 1)])
    _check_order(store.recover())
    store = reopened(place, store)
    _check_order(store.recover())
    store.close()


def _check_order(found: Snapshot) -> None:
    high = 1 + BLOCK_TASKS
    assert [(row.session, row.first, row.count) for row in found.chunks] == [
        (1, 1, 8),
        (1, 9, 2),
        (2, 1, 4),
        (2, 5, 4),
        (2, high, 5),
        (2, high + 5, 5),
    ]
    assert [(row.session, row.sequence, row.first, row.count) for row in found.segments] == [
        (1, 1, 9, 1),
        (1, 2, 1, 8),
        (2, 1, high, 2),
        (2, 2, 1, 4),
        (2, 3, high + 2, 1),
    ]


def check_last_session_survives_a_delete(place: Place) -> None:
    """A session number is never issued again: the largest one outlives its session and the purge."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [put_session(1), put_session(9), put_session(4)])
    assert store.recover().last_session == 9
    store.commit(epoch, [DeleteSession(9)])
    purge_all(store)
    store = reopened(place, store)
    assert store.recover().last_session == 9
    assert [session.number for session in store.recover().sessions] == [1, 4]
    store.close()


def check_time_is_the_largest_of_all_records(place: Place) -> None:
    """`time_ms` is the largest time in any record, and does not fall when records go."""
    store = place.store()
    epoch = store.open()
    session = SessionRecord(
        number=1, name="s", spec=SessionSpec(application="a"), state=SessionState.CLOSED, created_ms=30, closed_ms=35
    )
    steps: list[tuple[Write, int]] = [
        (PutApplication(ApplicationRecord(name="a", spec=ApplicationSpec(), created_ms=20)), 20),
        (PutSession(session), 35),
        (put_chunk(1, 1, 1, created_ms=40), 40),
        (put_segment(1, 1, 1, 1, finished_ms=50), 50),
        (PutBinding(BindingRecord(executor="e", node="n", session=1, binding=1, created_ms=60)), 60),
        (put_chunk(1, 2, 1, created_ms=5), 60),
        (DeleteBinding("e"), 60),
        (put_chunk(1, 3, 1, created_ms=70), 70),
        (DeleteApplication("a"), 70),
    ]
    for write, expected in steps:
        store.commit(epoch, [write])
        assert store.recover().time_ms == expected
    store.commit(epoch, [DeleteSession(1)])
    purge_all(store)
    store = reopened(place, store)
    assert store.recover().time_ms == 70
    store.close()


# --- reads -----------------------------------------------------------------------------------------------------------


def check_inputs_across_rows(place: Place) -> None:
    """Inputs are read in any cut, whatever rows they stand in."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [put_session(1), put_session(2), put_chunk(1, 1, 3), put_chunk(1, 4, 1), put_chunk(2, 1, 9)])
    store.commit(epoch, [put_chunk(1, 5, 6), put_chunk(1, 1 + BLOCK_TASKS, 4)])
    for first in range(1, 11):
        for last in range(first, 11):
            expected = columns([payload(1, task) for task in range(first, last + 1)])
            assert store.read_inputs(1, first, last - first + 1) == expected
    high = 2 + BLOCK_TASKS
    assert store.read_inputs(1, high, 2) == columns([payload(1, high), payload(1, high + 1)])
    assert store.read_inputs(2, 4, 3) == columns([payload(2, task) for task in (4, 5, 6)])
    store.close()


def check_missing_inputs_are_not_found(place: Place) -> None:
    """A range with a task that is not stored is NotFound, wherever the gap is."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [put_session(1), put_chunk(1, 5, 5), put_chunk(1, 12, 5)])
    for session, first, count in ((1, 4, 2), (1, 9, 2), (1, 5, 12), (1, 10, 1), (1, 16, 2), (1, 40, 1), (2, 5, 1)):
        with pytest.raises(NotFound):
            store.read_inputs(session, first, count)
    assert store.read_inputs(1, 5, 5) == columns([payload(1, task) for task in range(5, 10)])
    store.close()


def check_created_of_a_task(place: Place) -> None:
    """The time of a task is that of the row it stands in; a task in no row is NotFound."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [put_session(1), put_chunk(1, 5, 5, created_ms=50), put_chunk(1, 12, 1, created_ms=120)])
    assert [store.read_created(1, task) for task in (5, 9, 12)] == [50, 50, 120]
    for session, task in ((1, 4), (1, 10), (1, 11), (1, 13), (1, 1 << 40), (2, 5)):
        with pytest.raises(NotFound):
            store.read_created(session, task)
    store.close()


def _with_segments(place: Place) -> tuple[Store, list[SegmentRecord]]:
    """A store with ten segments of two blocks, in turns, and a wide cancelled one."""
    store = place.store()
    epoch = store.open()
    writes = [put_segment(1, sequence, 1 + sequence * 10 + sequence % 2 * BLOCK_TASKS, 10) for sequence in range(1, 11)]
    writes.append(put_cancelled(1, 11, 1000, 1_000_000))
    store.commit(epoch, [put_session(1), *writes[:4]])
    store.commit(epoch, writes[4:])
    store.commit(epoch, [put_session(2), put_segment(2, 1, 1, 3)])
    return store, [write.record for write in writes]


def check_segments_come_in_order(place: Place) -> None:
    """Segments above `after` come ascending by sequence, with everything in them."""
    store, segments = _with_segments(place)
    for after in range(12):
        assert list(store.read_segments(1, after, LARGE_BYTES)) == segments[after:]
    assert list(store.read_segments(3, 0, LARGE_BYTES)) == []
    assert read_all(store, 1) == segments
    store.close()


def check_segments_are_limited_in_bytes(place: Place) -> None:
    """At least one segment, then as many as take no more than the limit of a window."""
    store, segments = _with_segments(place)
    sizes = [segment.window_bytes for segment in segments]
    for limit_bytes in (0, 1, sizes[0], sizes[0] + sizes[1] - 1, sizes[0] + sizes[1], sum(sizes) - 1, sum(sizes)):
        found = store.read_segments(1, 0, limit_bytes)
        fitting = max(n for n in range(len(sizes) + 1) if sum(sizes[:n]) <= limit_bytes)
        assert list(found) == segments[: max(1, fitting)]
    store.close()


def check_segments_are_limited_in_rows(place: Place) -> None:
    """At most 1,024 segments at a time, however small."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [put_session(1), *(put_cancelled(1, sequence, sequence, 1) for sequence in range(1, 1201))])
    first = store.read_segments(1, 0, LARGE_BYTES)
    assert [row.sequence for row in first] == list(range(1, 1025))
    assert [row.sequence for row in store.read_segments(1, 1024, LARGE_BYTES)] == list(range(1025, 1201))
    store.close()


def check_segments_of_a_block(place: Place) -> None:
    """With a block only segments that begin in it count, for the limits too."""
    store, segments = _with_segments(place)
    low, high = range(1, 1 + BLOCK_TASKS), range(1 + BLOCK_TASKS, 1 + 2 * BLOCK_TASKS)
    assert read_all(store, 1, block=low) == [row for row in segments if row.first in low]
    assert read_all(store, 1, block=high) == [row for row in segments if row.first in high]
    assert [row.sequence for row in store.read_segments(1, 4, 0, high)] == [5]
    assert [row.sequence for row in store.read_segments(1, 4, 0, low)] == [6]
    assert list(store.read_segments(1, 10, LARGE_BYTES, high)) == []
    edge = segments[3]
    assert read_all(store, 1, block=range(edge.first, edge.first + 1)) == [edge]
    assert read_all(store, 1, block=range(edge.first + 1, edge.first + 10)) == []
    store.close()


def check_outcome_of_a_task(place: Place) -> None:
    """The segment that holds a task is found for each of its tasks, also in a cancelled one wider than a chunk."""
    store, segments = _with_segments(place)
    for segment in segments:
        last = segment.first + segment.count - 1
        for task in (segment.first, (segment.first + last) // 2, last):
            assert store.read_outcome(1, task) == segment
    for task in (1, 10, 999, 1_001_000, 1 + BLOCK_TASKS, 500 + BLOCK_TASKS):
        assert store.read_outcome(1, task) is None
    assert store.read_outcome(2, 3) == put_segment(2, 1, 1, 3).record
    assert store.read_outcome(2, 4) is None
    assert store.read_outcome(3, 1) is None
    store.close()


# --- delete, purge, housekeeping -------------------------------------------------------------------------------------


def _with_deleted_session(place: Place) -> Store:
    store = place.store()
    epoch = store.open()
    for session in (1, 2):
        blocks = [PutBlock(BlockRecord(session=session, first=1, key="k"))]
        deaths = [PutDeaths(DeathsRecord(session=session, task=3, count=1))]
        chunks = [put_chunk(session, 1 + 50 * n, 50) for n in range(40)]
        segments = [put_segment(session, 1 + n, 1 + 50 * n, 50) for n in range(40)]
        store.commit(epoch, [put_session(session), *blocks, *deaths, *chunks, *segments])
    store.commit(epoch, [DeleteSession(1)])
    return store


def _check_only_the_second_is_left(store: Store) -> None:
    found = store.recover()
    for rows in (found.blocks, found.chunks, found.segments, found.deaths):
        assert {row.session for row in rows} == {2}
    assert [session.number for session in found.sessions] == [2]
    assert (len(found.chunks), len(found.segments)) == (40, 40)
    assert list(store.read_segments(1, 0, LARGE_BYTES)) == []
    assert store.read_outcome(1, 3) is None
    with pytest.raises(NotFound):
        store.read_inputs(1, 1, 1)
    with pytest.raises(NotFound):
        store.read_created(1, 1)
    assert [row.sequence for row in read_all(store, 2)] == list(range(1, 41))
    assert store.read_inputs(2, 1, 2000) == columns([payload(2, task) for task in range(1, 2001)])


def check_deleted_session_is_gone_at_once(place: Place) -> None:
    """After a delete nothing of the session is seen, before and during the purge and after a reopen."""
    store = _with_deleted_session(place)
    _check_only_the_second_is_left(store)
    store.purge(8 * KIB)
    _check_only_the_second_is_left(store)
    store = reopened(place, store)
    _check_only_the_second_is_left(store)
    purge_all(store)
    _check_only_the_second_is_left(store)
    store.close()


def check_purge_goes_in_small_steps(place: Place) -> None:
    """Purge deletes about as much as it is told and says whether more is left; nothing deleted, nothing to do."""
    store = _with_deleted_session(place)
    assert purge_all(store, 4 * KIB) > 4
    assert store.purge(LARGE_BYTES) is False
    _check_only_the_second_is_left(store)
    store.close()


def check_purge_goes_on_after_a_reopen(place: Place) -> None:
    """A purge that is interrupted again and again takes as many steps as one that is not."""
    store = _with_deleted_session(place)
    steps = purge_all(store, 4 * KIB)
    store.close()
    store = place.store()
    store.commit(store.open(), [DeleteSession(2)])
    taken = 1
    while store.purge(4 * KIB):
        taken += 1
        store = reopened(place, store)
    assert taken == steps > 4
    assert store.purge(4 * KIB) is False
    store.close()


def check_name_may_be_used_again(place: Place) -> None:
    """A new session may have the name of a deleted one, while that is being purged."""
    store = _with_deleted_session(place)
    epoch = store.open()
    store.commit(epoch, [put_session(3, "session-1"), put_chunk(3, 1, 5)])
    purge_all(store)
    assert [(session.number, session.name) for session in store.recover().sessions] == [
        (2, "session-2"),
        (3, "session-1"),
    ]
    assert store.read_inputs(3, 1, 5) == columns([payload(3, task) for task in range(1, 6)])
    store.close()


def check_maintain_changes_nothing(place: Place) -> None:
    """Housekeeping between commits is not seen."""
    store = place.store()
    epoch = store.open()
    store.commit(epoch, [put_session(1)])
    for n in range(60):
        store.commit(epoch, [put_blob(1, 1 + n, 64 * KIB), put_output(1, 1 + n, 1 + n, 64 * KIB)])
        store.maintain()
    before = store.recover()
    assert [row.first for row in before.chunks] == list(range(1, 61))
    store.maintain()
    assert store.recover() == before
    assert [row.sequence for row in read_all(store, 1)] == list(range(1, 61))
    store.close()


def check_free_bytes_is_a_size(place: Place) -> None:
    """There is room in a new store."""
    store = place.store()
    store.open()
    assert store.free_bytes() > MIB
    store.close()


Check = Callable[[Place], None]

CHECKS: Final[tuple[Check, ...]] = tuple(
    check for name, check in list(globals().items()) if name.startswith("check_") and callable(check)
)


def faults(place_factory: Callable[[], Place]) -> list[str]:
    """The names of the checks that a store fails, each on a fresh place."""
    failed: list[str] = []
    for check in CHECKS:
        try:
            check(place_factory())
        except (AssertionError, FlameError, pytest.fail.Exception):
            failed.append(check.__name__)
    return failed
