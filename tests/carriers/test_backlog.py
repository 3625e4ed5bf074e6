"""Peers that do not read, together."""

import pytest

from flame.carriers.backlog import Backlog

MOST = 1600


class Slow:
    """A link of which a test says what waits."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.waiting = 0
        self.looks = 0
        self.reasons: list[str] = []

    def queue(self, nbytes: int) -> None:
        """Queue something behind what waits."""
        self.waiting += nbytes
        self.backlog.queued(self, nbytes)

    def buffered_bytes(self) -> int:
        """What waits."""
        self.looks += 1
        return self.waiting

    def fail(self, reason: str) -> None:
        """Its end."""
        self.waiting = 0
        self.reasons.append(reason)


def test_the_one_for_which_most_waits_goes_where_all_have_too_much() -> None:
    backlog = Backlog(MOST)
    small, large, last = Slow(backlog), Slow(backlog), Slow(backlog)
    small.queue(MOST // 4)
    large.queue(MOST // 2)
    last.queue(MOST // 4)
    assert not large.reasons
    last.queue(1)
    assert "does not read" in large.reasons[0]
    assert f"{MOST + 1} bytes that wait for all peers" in large.reasons[0]
    assert small.reasons == last.reasons == []


@pytest.mark.parametrize("count", [1, 10, 100])
def test_the_bound_is_kept_to_a_sixteenth(count: int) -> None:
    backlog = Backlog(MOST)
    links = [Slow(backlog) for _ in range(count)]
    for turn in range(2000):
        links[turn % count].queue(7)
        assert sum(link.waiting for link in links) <= MOST + MOST // 16 + 7
    assert any(link.reasons for link in links)


def test_who_reads_is_not_counted() -> None:
    backlog = Backlog(MOST)
    reads, slow = Slow(backlog), Slow(backlog)
    slow.queue(MOST // 2)
    for _ in range(100):
        reads.queue(MOST // 2)
        reads.waiting = 0
        backlog.caught_up(reads)
    assert reads.reasons == slow.reasons == []


def test_peers_that_keep_below_the_bound_are_seldom_looked_at() -> None:
    backlog = Backlog(MOST)
    link = Slow(backlog)
    link.queue(MOST - 1)
    for _ in range(1000):
        link.waiting -= 1
        link.queue(1)
    assert link.looks <= 11
    assert not link.reasons


def test_the_end_of_a_link_is_told() -> None:
    ended: list[bool] = []
    backlog = Backlog(MOST, lambda: ended.append(True))
    one, other = Slow(backlog), Slow(backlog)
    one.queue(MOST)
    other.queue(1)
    assert ended == [True]
