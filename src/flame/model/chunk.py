"""Columns of a chunk: a packed column of lengths, and one blob with the payloads back to back.

A length is a little-endian unsigned 32-bit integer; `NONE_LENGTH` stands for None and takes no byte of the blob.
Nothing here handles one task at a time where it can be avoided: packing and unpacking cost tens of nanoseconds a task.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Final

from flame.model.errors import InvalidArgument

NONE_LENGTH: Final = 0xFFFFFFFF
"""The length of an output that is None."""
_NONE: Final = b"\xff\xff\xff\xff"


def pack(payloads: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The `lengths` column and the blob of payloads.

    Example:
        >>> pack([b"ab", b"", b"c"])
        (b'\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01\\x00\\x00\\x00', b'abc')
    """
    return struct.pack(f"<{len(payloads)}I", *map(len, payloads)), b"".join(payloads)


def pack_optional(payloads: Sequence[bytes | None]) -> tuple[bytes, bytes]:
    """As `pack`, for payloads some of which may be None."""
    if None not in payloads:
        return pack(payloads)  # type: ignore[arg-type]
    lengths = [NONE_LENGTH if payload is None else len(payload) for payload in payloads]
    return struct.pack(f"<{len(lengths)}I", *lengths), b"".join(filter(None, payloads))


def sizes(lengths: bytes) -> tuple[int, ...]:
    """The column as integers; `NONE_LENGTH` stays as it is."""
    return struct.unpack(f"<{len(lengths) // 4}I", lengths)


def blob_bytes(lengths: bytes) -> int:
    """How many bytes of blob a column stands for."""
    total = sum(sizes(lengths))
    return total - NONE_LENGTH * _count_none(lengths) if _NONE in lengths else total


def unpack(lengths: bytes, blob: bytes) -> list[bytes | None]:
    """The payloads, one by one.

    Example:
        >>> unpack(*pack([b"ab", b"", b"c"]))
        [b'ab', b'', b'c']
    """
    count = len(lengths) // 4
    if count == 1:
        return [None] if lengths == _NONE else [blob]
    if _NONE in lengths:
        return _unpack_optional(lengths, blob)
    if lengths == lengths[:4] * count and blob:
        return list(chain.from_iterable(struct.iter_unpack(f"{len(blob) // count}s", blob)))
    ends = list(accumulate(sizes(lengths)))
    return [blob[start:end] for start, end in zip(chain((0,), ends), ends, strict=False)]


def slice_columns(lengths: bytes, blob: bytes, start: int, count: int) -> tuple[bytes, bytes]:
    """The columns of payloads [start, start + count), counted from the first one.

    Example:
        >>> slice_columns(*pack([b"ab", b"c", b"de"]), 1, 2) == pack([b"c", b"de"])
        True
    """
    if start == 0 and 4 * count == len(lengths):
        return lengths, blob
    low = blob_bytes(lengths[: 4 * start])
    part = lengths[4 * start : 4 * (start + count)]
    return part, blob[low : low + blob_bytes(part)]


def check_columns(count: int, lengths: bytes, blob: bytes) -> None:
    """Check that columns that came from a peer belong together.

    Raises:
        InvalidArgument: the column has not one length per task, or does not add up to the blob.
    """
    if len(lengths) != 4 * count:
        raise InvalidArgument(f"a chunk of {count} tasks has a column of {len(lengths)} bytes instead of {4 * count}")
    total = blob_bytes(lengths)
    if total != len(blob):
        raise InvalidArgument(f"a chunk's lengths add up to {total} bytes, its blob has {len(blob)}")


def _count_none(lengths: bytes) -> int:
    return sizes(lengths).count(NONE_LENGTH)


def _unpack_optional(lengths: bytes, blob: bytes) -> list[bytes | None]:
    payloads: list[bytes | None] = []
    start = 0
    for length in sizes(lengths):
        if length == NONE_LENGTH:
            payloads.append(None)
        else:
            payloads.append(blob[start : start + length])
            start += length
    return payloads
