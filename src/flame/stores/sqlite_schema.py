"""Tables of the SQLite store, and how records become rows and rows records.

Chunks and segments are clustered by their keys (`WITHOUT ROWID`), with the small columns first: a scan of headers reads
the start of each row and none of the pages that its payload overflows into. The other records are few and stand as
MessagePack with field names, so that a newer version can add fields with defaults. What the tables mean as a whole has
a version, `FORMAT`, in table `meta`.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from flame.model.records import (
    ApplicationRecord,
    BindingRecord,
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
    SegmentRecord,
    SessionRecord,
)
from flame.model.states import TaskState

FORMAT: Final = 1

SCHEMA: Final = """
-- format, store_id, epoch, last_session, time_ms: the last two outlive the rows that they came from
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE application (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE session (number INTEGER PRIMARY KEY, record BLOB NOT NULL);

-- sessions whose rows are not purged yet
CREATE TABLE deleted (session INTEGER PRIMARY KEY);

CREATE TABLE block (
    session INTEGER, first INTEGER, key TEXT NOT NULL,
    PRIMARY KEY (session, first)
) WITHOUT ROWID;

CREATE TABLE chunk (
    session INTEGER, first INTEGER, count INTEGER NOT NULL, created_ms INTEGER NOT NULL, attributes BLOB NOT NULL,
    lengths BLOB NOT NULL, blob BLOB NOT NULL,
    PRIMARY KEY (session, first)
) WITHOUT ROWID;

CREATE TABLE segment (
    session INTEGER, sequence INTEGER, first INTEGER NOT NULL, count INTEGER NOT NULL, state INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL, states BLOB NOT NULL, lengths BLOB NOT NULL, blob BLOB NOT NULL,
    PRIMARY KEY (session, sequence)
) WITHOUT ROWID;

CREATE UNIQUE INDEX segment_first ON segment (session, first);

CREATE TABLE binding (executor TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE deaths (
    session INTEGER, task INTEGER, count INTEGER NOT NULL,
    PRIMARY KEY (session, task)
) WITHOUT ROWID
"""

TASK_STATES: Final = {int(state): state for state in TaskState}

encode = msgspec.msgpack.encode
decode_application = msgspec.msgpack.Decoder(ApplicationRecord).decode
decode_session = msgspec.msgpack.Decoder(SessionRecord).decode
decode_binding = msgspec.msgpack.Decoder(BindingRecord).decode

Parameters = tuple[int | str | bytes, ...]
Statements = tuple[tuple[str, Callable[[Any], Parameters]], ...]


def _chunk_row(write: PutChunk) -> Parameters:
    row = write.record
    return row.session, row.first, row.count, row.created_ms, row.attributes, row.lengths, row.blob


def _segment_row(write: PutSegment) -> Parameters:
    row = write.record
    return (
        row.session,
        row.sequence,
        row.first,
        row.count,
        int(row.state),
        row.finished_ms,
        row.states,
        row.lengths,
        row.blob,
    )


def _block_row(write: PutBlock) -> Parameters:
    return write.record.session, write.record.first, write.record.key


def _deaths_row(write: PutDeaths) -> Parameters:
    return write.record.session, write.record.task, write.record.count


def _session_time(write: PutSession) -> Parameters:
    return (max(write.record.created_ms, write.record.closed_ms or 0),)


def _created(write: PutApplication | PutBinding) -> Parameters:
    return (write.record.created_ms,)


SEEN: Final = "UPDATE meta SET value = max(value, ?) WHERE key = 'time_ms'"

WRITES: Final[dict[type, Statements]] = {
    PutApplication: (
        ("REPLACE INTO application VALUES (?, ?)", lambda write: (write.record.name, encode(write.record))),
        (SEEN, _created),
    ),
    DeleteApplication: (("DELETE FROM application WHERE name = ?", lambda write: (write.name,)),),
    PutSession: (
        ("REPLACE INTO session VALUES (?, ?)", lambda write: (write.record.number, encode(write.record))),
        (
            "UPDATE meta SET value = max(value, ?) WHERE key = 'last_session'",
            lambda write: (write.record.number,),
        ),
        (SEEN, _session_time),
    ),
    DeleteSession: (
        ("DELETE FROM session WHERE number = ?", lambda write: (write.number,)),
        ("REPLACE INTO deleted VALUES (?)", lambda write: (write.number,)),
    ),
    PutBlock: (("REPLACE INTO block VALUES (?, ?, ?)", _block_row),),
    PutChunk: (("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)", _chunk_row),),
    PutSegment: (("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _segment_row),),
    PutBinding: (
        ("REPLACE INTO binding VALUES (?, ?)", lambda write: (write.record.executor, encode(write.record))),
        (SEEN, _created),
    ),
    DeleteBinding: (("DELETE FROM binding WHERE executor = ?", lambda write: (write.executor,)),),
    PutDeaths: (("REPLACE INTO deaths VALUES (?, ?, ?)", _deaths_row),),
}
"""For each kind of write its statements; they touch different tables, so a run of equal writes is done by statement."""

READ_INPUTS: Final = (
    "SELECT first, count, lengths, blob FROM chunk WHERE session = ?1 AND first < ?2 + ?3 AND first >="
    " ifnull((SELECT max(first) FROM chunk WHERE session = ?1 AND first <= ?2), ?2) ORDER BY first"
)

READ_CREATED: Final = (
    "SELECT created_ms, first + count FROM chunk WHERE session = ? AND first <= ? ORDER BY first DESC LIMIT 1"
)

_SEGMENT: Final = "SELECT session, sequence, first, count, state, finished_ms, states, lengths, blob FROM segment"

# The plus keeps SQLite from the index by first, whose rows it would have to sort.
READ_SEGMENTS: Final = (
    f"{_SEGMENT} WHERE session = ? AND sequence > ? AND +first BETWEEN ? AND ? ORDER BY sequence LIMIT ?"
)

READ_OUTCOME: Final = f"{_SEGMENT} WHERE session = ? AND first <= ? ORDER BY first DESC LIMIT 1"


def segment_of(row: tuple[Any, ...]) -> SegmentRecord:
    """A row of READ_SEGMENTS or READ_OUTCOME as a record."""
    session, sequence, first, count, state, finished_ms, states, lengths, blob = row
    return SegmentRecord(
        session=session,
        sequence=sequence,
        first=first,
        count=count,
        state=TASK_STATES[state],
        states=states,
        lengths=lengths,
        blob=blob,
        finished_ms=finished_ms,
    )
