"""What user code sees: the service class and its contexts. Imports no connection code."""

from flame.service.base import FlameService, SessionContext, TaskContext

__all__ = ["FlameService", "SessionContext", "TaskContext"]
