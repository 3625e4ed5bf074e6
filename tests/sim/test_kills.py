"""A session manager is killed where it is meant to be, and nowhere else."""

from random import Random

from flame.model.records import DeleteBinding, DeleteSession, PutSegment
from flame.sim.kills import POINTS, WRITES, Aim


def test_at_a_point_and_at_no_other() -> None:
    aim = Aim()
    assert not aim.hit("in commit")
    aim.at = "in commit"
    assert aim.slowest_ns(5) == 5
    assert [aim.hit(point) for point in POINTS] == ["", "killed in commit", "", ""]
    aim.ended()
    assert not aim.hit("in commit")


def test_again_in_the_next_start() -> None:
    aim = Aim()
    aim.then = "in grace"
    assert not aim.waits
    aim.ended()
    assert aim.waits
    assert aim.hit("in grace") == "killed in grace"
    aim.ended()
    assert not aim.waits


def test_with_a_kind_of_write_each_in_a_life_of_its_own() -> None:
    aim, random = Aim(), Random(1)
    aim.kinds = [DeleteBinding, PutSegment, DeleteSession]
    aim.look_at([], random)
    assert aim.slowest_ns(5) == 5
    for kind, write in ((DeleteSession, DeleteSession(1)), (DeleteBinding, DeleteBinding("e"))):
        aim.look_at([write], random)
        assert aim.slowest_ns(5) > 5
        assert [aim.hit(point) for point in POINTS if point == aim.at] == [f"killed with {kind.__name__}"]
        aim.ended()
        assert aim.waits
    assert aim.kinds == [PutSegment]
    aim.clear()
    assert not aim.waits


def test_it_ends_around_a_write_before_anybody_is_answered() -> None:
    chosen = set()
    for seed in range(20):
        aim = Aim()
        aim.kinds = [DeleteSession]
        aim.look_at([DeleteSession(1)], Random(seed))
        chosen.add(aim.at)
    assert chosen == set(POINTS) - {"between effects"}
    assert len(set(WRITES)) == len(WRITES)
