"""Envelopes that wait go out together, in order and in messages of bounded size."""

from collections import deque

from flame.carriers.batches import BATCH_BYTES, OPTIONS, take_batch
from flame.model.limits import MAX_MESSAGE_BYTES


def test_what_fits_goes_together() -> None:
    outbox = deque([b"a", b"b", b"c"])
    assert take_batch(outbox) == [b"a", b"b", b"c"]
    assert not outbox


def test_a_batch_is_bounded_at_its_edge() -> None:
    half = bytes(BATCH_BYTES // 2)
    outbox = deque([half, half, b"x"])
    assert take_batch(outbox) == [half, half]
    assert take_batch(outbox) == [b"x"]
    assert take_batch(outbox) == []


def test_a_large_envelope_goes_alone() -> None:
    large = bytes(BATCH_BYTES + 1)
    outbox = deque([large, b"x", large])
    assert [len(take_batch(outbox)) for _ in range(3)] == [1, 1, 1]


def test_the_largest_message_fits_with_its_batch_around_it() -> None:
    assert all(limit > MAX_MESSAGE_BYTES + 6 for _, limit in OPTIONS)
