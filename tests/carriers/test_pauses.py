"""Pauses between attempts to connect."""

from itertools import islice

import pytest

from flame.carriers.pauses import pauses


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
    found = list(islice(pauses(endpoint), 200))
    assert 0.01 <= found[0] <= 0.02
    assert longest_s / 2 <= min(found[10:])
    assert max(found) <= longest_s


def test_no_two_peers_come_at_one_moment() -> None:
    assert len({sum(islice(pauses("unix:///run/flame.sock"), 8)) for _ in range(50)}) == 50
