"""The built-in application `flmping`: answers where it ran, how long it took and how much memory it used."""

import socket
import time

import msgspec

from flame.service.base import FlameService, TaskContext

_PAGE_BYTES = 4096


class PingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a task, as JSON; an empty input asks for nothing.

    Args:
        duration_ms: how long the task takes.
        memory_bytes: memory it uses meanwhile.
        output_bytes: smallest size of the answer.
    """

    duration_ms: int = 0
    memory_bytes: int = 0
    output_bytes: int = 0


class PingAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Output of a task, as JSON.

    Args:
        host: name of the host it ran on.
        duration_ms: how long it took.
        memory_bytes: resident memory of the executor while it ran.
        padding: fills the answer up to what was asked for.
    """

    host: str
    duration_ms: float
    memory_bytes: int
    padding: str = ""


class Ping(FlameService):
    """The service of `flmping`.

    Example:
        >>> answer = Ping().on_task_invoke(TaskContext("s", 1, b'{"duration_ms": 5}'))
        >>> msgspec.json.decode(answer, type=PingAnswer).duration_ms >= 5
        True
    """

    def __init__(self) -> None:
        self._host = socket.gethostname()

    def on_task_invoke(self, context: TaskContext) -> bytes:
        """Sleep, use memory, and tell about it."""
        started = time.monotonic()
        request = msgspec.json.decode(context.input, type=PingRequest) if context.input else PingRequest()
        ballast = bytearray(request.memory_bytes)
        # Memory counts once it is written to.
        ballast[::_PAGE_BYTES] = b"x" * len(range(0, len(ballast), _PAGE_BYTES))
        if request.duration_ms > 0:
            time.sleep(request.duration_ms / 1000)
        answer = PingAnswer(
            host=self._host, duration_ms=round((time.monotonic() - started) * 1000, 3), memory_bytes=_resident_bytes()
        )
        output = msgspec.json.encode(answer)
        missing = request.output_bytes - len(output) - len(b',"padding":""')
        if missing > 0:
            output = msgspec.json.encode(msgspec.structs.replace(answer, padding="." * missing))
        return output


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * _PAGE_BYTES
