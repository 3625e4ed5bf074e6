"""Executors run on a node: the node's fixtures."""

from tests.executor_manager.conftest import manager, service, start_node

__all__ = ["manager", "service", "start_node"]
