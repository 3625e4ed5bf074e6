"""Payload columns: cutting a run of tasks out of the rows that hold it."""

import struct
from collections.abc import Iterable
from typing import Final

from flame.model.errors import NotFound

NO_PAYLOAD: Final = 0xFFFFFFFF
"""The length that stands for None."""

_LENGTH_BYTES: Final = 4


def payload_bytes(lengths: bytes) -> int:
    """How many bytes of blob a `lengths` column describes.

    Example:
        >>> payload_bytes((3).to_bytes(4, "little") + (5).to_bytes(4, "little"))
        8
    """
    values: tuple[int, ...] = struct.unpack(f"<{len(lengths) // _LENGTH_BYTES}I", lengths)
    total = sum(values)
    return total - NO_PAYLOAD * values.count(NO_PAYLOAD) if total >= NO_PAYLOAD else total


def cut(lengths: bytes, blob: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
    """The columns of the tasks at places [start, stop) of a row."""
    begin = payload_bytes(lengths[: start * _LENGTH_BYTES])
    part = lengths[start * _LENGTH_BYTES : stop * _LENGTH_BYTES]
    return part, blob[begin : begin + payload_bytes(part)]


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
        if stop - start < row_count:
            lengths, blob = cut(lengths, blob, start, stop)  # noqa: PLW2901
        columns.append(lengths)
        blobs.append(blob)
        task = row_first + stop
    if task < end:
        raise NotFound(
            f"session {session}: the input of task {task} is not stored",
            hint="the session was deleted, or the task was never submitted",
        )
    if len(columns) == 1:
        return columns[0], blobs[0]
    return b"".join(columns), b"".join(blobs)
