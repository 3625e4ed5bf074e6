import os

from flame.executor_manager.capacity import cpus as node_cpus
from flame.executor_manager.capacity import memory_bytes as node_memory_bytes
from flame.supervisor import machine
from tests.support import ROOT


def test_agrees_with_what_a_node_registers() -> None:
    root = ROOT.__class__("/")
    assert machine.cpus() == node_cpus(root, len(os.sched_getaffinity(0)))
    assert 0.9 < machine.memory_bytes() / node_memory_bytes(root) < 1.1
