"""Target: columns of lengths and blobs, as they come from peers, and as rows of the store are put together."""

from collections.abc import Iterator
from itertools import islice

from flame.model.chunk import (
    NONE_LENGTH,
    blob_bytes,
    check_columns,
    pack,
    pack_optional,
    sizes,
    slice_columns,
    unpack,
)
from flame.model.errors import InvalidArgument, NotFound
from flame.stores.columns import gather

_Row = tuple[int, int, bytes, bytes]
_NONE = 255


def columns(data: bytes) -> None:
    """Read `data` as columns, as payloads, or as rows, by its first byte.

    Columns are refused with `InvalidArgument`, or are those of the payloads they are cut into. Payloads come back
    equal, whole and in any two pieces. A run of tasks over rows is what stands in them, or is not found.
    """
    (_from_a_peer, _from_payloads, _from_rows)[data[0] % 3 if data else 0](data[1:])


def columns_seeds() -> Iterator[bytes]:
    """Columns that fit and that do not, payloads of equal and different lengths, and rows with and without gaps."""
    for payloads in ([b"ab", b"", None, b"c"], [b"abc"] * 3, [None], [None, None], [b"x"], []):
        lengths, blob = pack_optional(payloads)
        yield bytes([0, len(payloads)]) + lengths + blob
        yield bytes([0, len(payloads)]) + lengths + blob + b"x"
        yield bytes([1, *(_NONE if payload is None else len(payload) for payload in payloads)])
    yield bytes([2, 1, 9, 1, 3, 0, 4, 6, 0, 10, 1, 0])
    yield bytes([2, 2, 4, 1, 3, 0, 5, 6, 1, 1, 1, 0])


def _from_a_peer(data: bytes) -> None:
    count = data[0] if data else 0
    lengths, blob = data[1 : 1 + 4 * count], data[1 + 4 * count :]
    try:
        check_columns(count, lengths, blob)
    except InvalidArgument:
        return
    payloads = unpack(lengths, blob)
    assert len(payloads) == count
    assert pack_optional(payloads) == (lengths, blob)
    _check_payloads(payloads)


def _from_payloads(data: bytes) -> None:
    payloads = [None if size == _NONE else bytes([at % 256]) * (size % 16) for at, size in enumerate(data[:1100])]
    _check_payloads(payloads)


def _check_payloads(payloads: list[bytes | None]) -> None:
    lengths, blob = pack_optional(payloads)
    check_columns(len(payloads), lengths, blob)
    assert unpack(lengths, blob) == payloads
    assert blob_bytes(lengths) == len(blob)
    assert sizes(lengths) == tuple(NONE_LENGTH if payload is None else len(payload) for payload in payloads)
    if None not in payloads:
        assert pack([payload for payload in payloads if payload is not None]) == (lengths, blob)
    for start in range(0, len(payloads) + 1, max(1, len(payloads) // 4)):
        head = slice_columns(lengths, blob, 0, start)
        tail = slice_columns(lengths, blob, start, len(payloads) - start)
        assert unpack(*head) == payloads[:start]
        assert unpack(*tail) == payloads[start:]
        assert (head[0] + tail[0], head[1] + tail[1]) == (lengths, blob)


def _from_rows(data: bytes) -> None:
    first, count = (data[0], data[1]) if len(data) > 1 else (1, 1)
    rows = list(islice(_rows(data[2:], first), 40))
    stored = {
        row_first + at: payload
        for row_first, _, lengths, blob in rows
        for at, payload in enumerate(unpack(lengths, blob))
    }
    try:
        found = gather(1, first, count, rows)
    except NotFound:
        assert any(task not in stored for task in range(first, first + count))
        return
    assert found == pack_optional([stored[task] for task in range(first, first + count)])


def _rows(data: bytes, first: int) -> Iterator[_Row]:
    """Rows that overlap the tasks from `first` on, ascending, as a store reads them; three bytes make one."""
    end = 0
    for at in range(0, len(data) - 2, 3):
        row_first, count, gap = max(end, data[at]), 1 + data[at + 1] % 32, data[at + 2] % 4
        row_first += gap // 2
        end = row_first + count
        if end > first:
            payloads = [None if task % 5 == gap else bytes([task % 256]) * (task % 3) for task in range(row_first, end)]
            yield row_first, count, *pack_optional(payloads)
