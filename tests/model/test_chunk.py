"""Columns of a chunk: what is packed comes back, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model import chunk
from flame.model.chunk import pack_optional
from flame.model.errors import InvalidArgument

payloads = st.lists(st.binary(max_size=20), max_size=40)
optional = st.lists(st.none() | st.binary(max_size=20), max_size=40)


@given(payloads)
def test_what_is_packed_comes_back(values: list[bytes]) -> None:
    assert chunk.unpack(*chunk.pack(values)) == values


@given(optional)
def test_none_is_kept_apart_from_empty(values: list[bytes | None]) -> None:
    lengths, blob = pack_optional(values)
    assert chunk.unpack(lengths, blob) == values
    assert chunk.blob_bytes(lengths) == len(blob)


@given(st.integers(0, 9), st.integers(1, 50))
def test_equal_lengths_take_the_fast_way_and_come_back(size: int, count: int) -> None:
    values = [bytes([index % 256]) * size for index in range(count)]
    assert chunk.unpack(*chunk.pack(values)) == values


@given(optional, st.data())
def test_cut_anywhere_both_ends_are_there(values: list[bytes | None], data: st.DataObject) -> None:
    columns = pack_optional(values)
    cut = data.draw(st.integers(0, len(values)))
    left = chunk.slice_columns(*columns, 0, cut)
    right = chunk.slice_columns(*columns, cut, len(values) - cut)
    assert chunk.unpack(*left) == values[:cut]
    assert chunk.unpack(*right) == values[cut:]
    assert (left[0] + right[0], left[1] + right[1]) == columns


def test_columns_that_do_not_belong_together_are_refused() -> None:
    lengths, blob = chunk.pack([b"ab", b"c"])
    chunk.check_columns(2, lengths, blob)
    with pytest.raises(InvalidArgument, match="column of 8 bytes instead of 12"):
        chunk.check_columns(3, lengths, blob)
    with pytest.raises(InvalidArgument, match="add up to 3 bytes, its blob has 2"):
        chunk.check_columns(2, lengths, blob[:2])
