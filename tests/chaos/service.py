"""The service of a chaos run; executors import it from its own directory. Its log is read by `tests.chaos.facts`."""

import os
import time
from pathlib import Path

import flame
from flame.sim.history import RAISED, digest

_HOLD_STEPS = 30
"""Additions per microsecond, about."""


class Chaos(flame.FlameService):
    """Logs each task before it begins and before it is answered, and does what its input says.

    The common data is the directory of the log.
    """

    def on_session_enter(self, context: flame.SessionContext) -> None:
        directory = Path((context.common_data or b"").decode())
        name = f"service-{os.getpid()}-{time.monotonic_ns()}.facts"
        self._descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._session = context.session_id
        self._log("enter")

    def _log(self, text: str) -> None:
        os.write(self._descriptor, f"{time.monotonic_ns()} {text} {self._session}\n".encode())

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        _, index, duration_us, kind, _ = context.input.split(b" ", 4)
        self._log(f"start {context.task_id} {int(index)} {digest(context.input)}")
        if kind == b"hold":  # one step of the interpreter: no other thread of this process runs meanwhile
            sum(range(_HOLD_STEPS * int(duration_us)))
        else:
            time.sleep(int(duration_us) / 1_000_000)
        if kind == b"die":
            os._exit(3)
        if kind == b"raise":
            self._log(f"end {context.task_id} {RAISED}")
            raise ValueError("as it was told")
        output = b"%d" % digest(context.input) + bytes(50_000 if kind == b"big" else 0)
        self._log(f"end {context.task_id} {digest(output)}")
        return output

    def on_session_leave(self) -> None:
        self._log("leave")
