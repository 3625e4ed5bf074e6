"""Payload columns: gathering a run of tasks out of the rows that hold it."""

from collections.abc import Iterable

from flame.model.chunk import slice_columns
from flame.model.errors import NotFound


def gather(session: int, first: int, count: int, rows: Iterable[tuple[int, int, bytes, bytes]]) -> tuple[bytes, bytes]:
    """The columns of tasks [first, first + count), whatever rows they stand in.

    Args:
        rows: (first, count, lengths, blob) of the rows that overlap the range, ascending by first.

    Raises:
        NotFound: the rows leave a gap.
    """
    end = first + count
    task = first
    columns: list[bytes] = []
    blobs: list[bytes] = []
    for row_first, row_count, lengths, blob in rows:
        start, stop = task - row_first, min(end - row_first, row_count)
        if task == end or not 0 <= start < stop:
            break
        part, payloads = slice_columns(lengths, blob, start, stop - start)
        columns.append(part)
        blobs.append(payloads)
        task = row_first + stop
    if task < end:
        raise NotFound(
            f"session {session}: the input of task {task} is not stored",
            hint="the session was deleted, or the task was never submitted",
        )
    if len(columns) == 1:
        return columns[0], blobs[0]
    return b"".join(columns), b"".join(blobs)
