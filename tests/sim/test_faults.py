"""Each kind of fault happens, and the cluster gets over it."""

from random import Random

import pytest

from flame.sim.faults import FAULTS, Faults, kinds_of
from flame.sim.workload import Size
from flame.sim.world import World

SMALL = Size(nodes=3, sessions=3, tasks=150)


@pytest.mark.parametrize("kind", FAULTS)
def test_the_cluster_gets_over_it(kind: str) -> None:
    happened = seed = 0
    while seed < 3 or (not happened and seed < 20):
        world = World(seed, SMALL, kinds=(kind,), faults=6)
        world.run()
        happened += world.counts[f"fault {kind}"]
        assert not any(world.counts[f"fault {other}"] for other in FAULTS if other != kind)
        seed += 1
    assert happened


def test_a_fault_that_can_happen_to_nobody_is_none() -> None:
    world = World(1, SMALL, kinds=())
    faults = Faults(world, Random(1))
    for node in world.nodes:
        node.kill()
    faults.happen("node")
    faults.happen("executor")
    assert not world.counts["fault node"]
    assert not world.counts["fault executor"]


def test_kinds_by_name() -> None:
    assert kinds_of("all") == tuple(FAULTS)
    assert kinds_of("none") == ()
    assert kinds_of("cut,node") == ("cut", "node")
    with pytest.raises(ValueError, match="no fault 'flood'"):
        kinds_of("cut,flood")
