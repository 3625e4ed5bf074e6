"""Gathering payload columns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.errors import NotFound
from flame.stores.columns import gather
from tests.stores.conformance import columns

PAYLOADS = st.lists(st.one_of(st.none(), st.binary(max_size=5)), max_size=20)


@given(PAYLOADS, st.data())
def test_gather_joins_rows_of_any_cut(payloads: list[bytes | None], data: st.DataObject) -> None:
    rows = []
    at = 0
    while at < len(payloads):
        count = data.draw(st.integers(1, len(payloads) - at))
        rows.append((100 + at, count, *columns(payloads[at : at + count])))
        at += count
    start = data.draw(st.integers(0, len(payloads)))
    stop = data.draw(st.integers(start, len(payloads)))
    overlapping = [row for row in rows if row[0] + row[1] > 100 + start]
    assert gather(1, 100 + start, stop - start, overlapping) == columns(payloads[start:stop])


def test_a_gap_names_the_session_and_the_task() -> None:
    rows = [(1, 2, *columns([b"a", b"b"])), (4, 1, *columns([b"d"]))]
    with pytest.raises(NotFound, match="session 7: the input of task 3 is not stored"):
        gather(7, 1, 4, rows)


def test_a_whole_row_is_not_copied() -> None:
    lengths, blob = columns([b"one", b"two"])
    found = gather(1, 5, 2, [(5, 2, lengths, blob)])
    assert found[0] is lengths
    assert found[1] is blob
