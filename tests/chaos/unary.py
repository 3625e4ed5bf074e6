"""A client of a chaos run that speaks the published interface as any program in the field may: one call after another.

An answer that was lost is no answer: the task may have been made or not, and the client goes on with another one. Whom
a session or a task belongs to, the log says in the words of the other clients.
"""

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import grpc

from flame.model.errors import EXECUTOR_DIED, NO_EXECUTOR
from flame.sim.history import CANCELLED, DIED, NOT_STARTED, RAISED, digest
from flame.wire.published import FRONTEND_METHODS, frontend, types
from tests.chaos.facts import INDEXES, Log, input_of

_PATIENCE_S: Final = 240.0
_CALL_S: Final = 5.0
"""A call that a broken connection has swallowed is asked again after so long."""
_PAUSE_S: Final = 0.05
_BACKOFF: Final = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
_FOR_NOW: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # a full disk
)
_ENDED: Final = (types.TaskState.Succeed, types.TaskState.Failed, types.TaskState.Cancelled)


class Unary:
    """Creates sessions and tasks one by one, and watches or asks for each until it has ended.

    Args:
        address: `host:port` of the frontend.
        name: of the client: a letter and a number.
        directory: of the logs.
        seed: what its chances follow from.
    """

    def __init__(self, address: str, name: str, directory: Path, seed: int) -> None:
        self._channel = grpc.insecure_channel(address, _BACKOFF)
        self._name = name
        self._directory = directory
        self._chance = Random(seed)
        self._log = Log(directory, name)
        self._index = int(name[1:]) * INDEXES

    def run(self) -> None:
        """Use one session after another until there is a file `stop`."""
        count = 0
        while not (self._directory / "stop").exists():
            count += 1
            self._use(f"{self._name}-{count}")

    def _use(self, session: str) -> None:
        spec = types.SessionSpec(application="chaos", common_data=str(self._directory).encode())
        self._log.write("create", session, 0)
        self._until_answered("OpenSession", frontend.OpenSessionRequest(session_id=session, session=spec))
        for _ in range(self._chance.randrange(1, 30)):
            self._task(session)
        self._log.write("close", session)
        self._until_answered("CloseSession", frontend.CloseSessionRequest(session_id=session))
        self._log.write("closed", session)

    def _task(self, session: str) -> None:
        index, self._index = self._index, self._index + 1
        self._log.write("intent", session, index, 1)
        request = types.TaskSpec(session_id=session, input=input_of(session, index))
        try:
            task = self._call("CreateTask", frontend.CreateTaskRequest(task=request))
        except grpc.RpcError as error:
            _only_for_now(error)
            return
        number = int(task.metadata.id)
        self._log.write("sub", session, number, index, 1)
        self._log.write("ack", session, number, 1)
        ways = (self._watch, self._ask)
        ended = self._until(lambda: self._chance.choice(ways)(session, task.metadata.id))
        self._log.write("saw", session, number, _outcome_of(ended), 0)

    def _watch(self, session: str, task: str) -> Any:
        changes = self._call("WatchTask", frontend.WatchTaskRequest(session_id=session, task_id=task))
        return next((change for change in changes if change.status.state in _ENDED), None)

    def _ask(self, session: str, task: str) -> Any:
        found = self._call("GetTask", frontend.GetTaskRequest(session_id=session, task_id=task))
        return found if found.status.state in _ENDED else None

    # --- calls -------------------------------------------------------------------------------------------------------

    def _call(self, name: str, request: Any) -> Any:
        path = f"/flame.v1.Frontend/{name}"
        method = FRONTEND_METHODS[path]
        make = self._channel.unary_stream if method.streams else self._channel.unary_unary
        stub = make(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=method.response.FromString,
        )
        return stub(request, timeout=_CALL_S, wait_for_ready=True)

    def _until_answered(self, name: str, request: Any) -> Any:
        return self._until(lambda: self._call(name, request))

    def _until(self, attempt: Callable[[], Any]) -> Any:
        """What an attempt gives in the end, which may be made any number of times."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                if (found := attempt()) is not None:
                    return found
            except grpc.RpcError as error:
                _only_for_now(error)
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(_PAUSE_S)


def _only_for_now(error: grpc.RpcError) -> None:
    """Raise an error that says more than that it did not work this time."""
    if error.code() not in _FOR_NOW:
        raise error


def _outcome_of(task: types.Task) -> int:
    """The end of a task, as a number of a `History`."""
    if task.status.state == types.TaskState.Cancelled:
        return CANCELLED
    if task.status.state == types.TaskState.Succeed:
        return digest(task.spec.output if task.spec.HasField("output") else None)
    said = " ".join(event.message for event in task.status.events)
    return DIED if EXECUTOR_DIED in said else NOT_STARTED if NO_EXECUTOR in said else RAISED
