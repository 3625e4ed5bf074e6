"""Pauses between attempts to connect."""

import pytest

from flame.carriers.pauses import SHORT_LINK_S, Pauses


class Clock:
    """A time that a test moves on."""

    now_s = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


@pytest.mark.parametrize(
    ("endpoint", "longest_s"),
    [
        ("unix:///run/flame.sock", 0.2),
        ("frames://127.0.0.1:7000", 0.2),
        ("http://localhost:8080", 0.2),
        ("frames://[::1]:7000", 0.2),
        ("frames://cluster.example:7000", 1.0),
        ("http://10.1.2.3:8080", 1.0),
    ],
)
def test_they_grow_up_to_a_bound_that_is_smaller_on_one_machine(endpoint: str, longest_s: float) -> None:
    pauses = Pauses(endpoint)
    found = [pauses.next() for _ in range(200)]
    assert 0.01 <= found[0] <= 0.02
    assert longest_s / 2 <= min(found[10:])
    assert max(found) <= longest_s


def test_no_two_peers_come_at_one_moment() -> None:
    def waited() -> float:
        pauses = Pauses("unix:///run/flame.sock")
        return sum(pauses.next() for _ in range(8))

    assert len({waited() for _ in range(50)}) == 50


def test_they_begin_anew_after_a_link_that_lasted() -> None:
    clock = Clock()
    pauses = Pauses("unix:///run/flame.sock", clock)
    assert pauses.before_first() == 0
    for _ in range(10):
        pauses.next()
    pauses.linked()
    clock.now_s += 1.01 * SHORT_LINK_S
    assert pauses.before_first() == 0
    assert pauses.next() <= 0.02


def test_who_takes_links_and_drops_them_is_asked_less_and_less() -> None:
    clock = Clock()
    pauses = Pauses("unix:///run/flame.sock", clock)
    waited = []
    for _ in range(10):
        waited.append(pauses.before_first())
        pauses.linked()
    assert waited[0] == 0
    assert 0.01 <= waited[1] <= 0.02
    assert waited[9] >= 0.1
