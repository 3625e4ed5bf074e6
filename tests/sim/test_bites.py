"""Faults that hit nobody do not count."""

from random import Random

from flame.sim.bites import LATER, Bites
from flame.sim.faults import FAULTS, Faults
from flame.sim.session_manager import NO_SPACE
from flame.sim.workload import Size
from flame.sim.world import World

SMALL = Size(nodes=2, sessions=2, tasks=40)


def idle() -> World:
    """A world in which nothing is going on any more."""
    world = World(1, SMALL, kinds=())
    world.run()
    return world


def advance(world: World, ms: int) -> None:
    end_ms = world.time.now_ms + ms
    while world.time.now_ms < end_ms:
        world.time.step()


def test_what_waited_counts_once_and_only_if_it_is_enough() -> None:
    world = World(1, SMALL, kinds=())
    waited = Bites(world).waiting("slow-reader", 2)
    waited(0)
    waited(1)
    assert world.counts["fault slow-reader"] == 0
    waited(2)
    waited(5)
    assert world.counts["fault slow-reader"] == 1


def test_what_happens_in_time_counts_once_and_later_not_at_all() -> None:
    world = World(1, SMALL, kinds=())
    begin_ms = world.time.now_ms
    bites = Bites(world)
    bites.when("clock", lambda: world.time.now_ms > begin_ms + 100, 500 * 1_000_000)
    bites.when("full-disk", lambda: world.time.now_ms > begin_ms + 300, 200 * 1_000_000)
    advance(world, 800)
    assert world.counts["fault clock"] == 1
    assert world.counts["fault full-disk"] == 0


def test_faults_that_hit_nobody_are_not_counted() -> None:
    world = idle()
    faults = Faults(world, Random(1))
    for kind in LATER:
        assert kind in FAULTS
        faults.happen(kind)
    advance(world, 1_500)
    assert not any(world.counts[f"fault {kind}"] for kind in LATER if kind != "clock")
    assert not world.session_manager.counts[NO_SPACE]


def test_each_that_hits_somebody_is_counted() -> None:
    counts = dict.fromkeys(LATER, 0)
    for kind in LATER:
        for seed in range(20):
            world = World(seed, SMALL, kinds=(kind,), faults=6)
            world.run()
            counts[kind] += world.counts[f"fault {kind}"]
            if counts[kind]:
                break
    assert all(counts.values()), counts
