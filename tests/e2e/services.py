"""Services that the tests register: what a user would write, with gates and notes for the tests to look at.

This file is imported by executors from its own directory, as `services`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flame

_PAUSE_S = 0.005
_PATIENCE_S = 60.0


def note(path: Path, line: str) -> None:
    """Append a line in one system call, so that lines of several executors never mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not path.exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{path} did not come")
        time.sleep(_PAUSE_S)


class Directed(flame.FlameService):
    """A service whose common data is a directory for its notes and gates."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        self.directory = Path((context.common_data or b"/nowhere").decode())


class Echo(flame.FlameService):
    """Answers with its input."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        return context.input


class Mirror(flame.FlameService):
    """Answers with its input reversed, so that an output cannot be mistaken for an input."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        return context.input[::-1]


class Sleep(flame.FlameService):
    """Sleeps as many milliseconds as the input says; answers with its process id."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        time.sleep(int(context.input) / 1000)
        return str(os.getpid()).encode()


class Filler(flame.FlameService):
    """Answers with as many bytes as the input says."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        return b"." * int(context.input)


class Noted(Directed):
    """Notes each task before and after it; the input says how many milliseconds it takes."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        notes = self.directory / "notes"
        note(notes, f"begin {context.task_id} {os.getpid()}")
        time.sleep(int(context.input) / 1000)
        note(notes, f"end {context.task_id} {os.getpid()}")
        return f"{context.task_id}".encode()


class Gated(Directed):
    """A task named by its input notes that it began, and ends once there is a file of the name `<input>.go`."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        name = context.input.decode()
        note(self.directory / "notes", f"begin {name} {os.getpid()}")
        wait_for(self.directory / f"{name}.go")
        note(self.directory / "notes", f"end {name} {os.getpid()}")
        return str(os.getpid()).encode()


class Doomed(Directed):
    """Each invocation notes itself and waits for the file `go.<number of the invocation>`; then the process exits."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        notes = self.directory / "notes"
        note(notes, f"begin {context.task_id} {os.getpid()}")
        wait_for(self.directory / f"go.{len(notes.read_text().splitlines())}")
        os._exit(3)


class Mortal(flame.FlameService):
    """Does what its input says: `abort`, `exit`, `orphan` (end the fork server), `raise`, or else echoes."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        match context.input:
            case b"abort":
                os.abort()
            case b"exit":
                os._exit(3)
            case b"orphan":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            case b"sys.exit":
                sys.exit("enough")
            case b"raise":
                raise ValueError("no such thing as a \N{SNOWMAN}")
            case b"number":
                return 42  # type: ignore[return-value]
        return context.input


class Parent(flame.FlameService):
    """Starts a child and a grandchild in a session of their own; answers with the ids of all three."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        script = "sleep 1000 & echo $!; exec sleep 1000"
        child = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout is not None
        self.pids = f"{os.getpid()} {child.pid} {int(child.stdout.readline())}"

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        time.sleep(int(context.input or b"0") / 1000)
        return self.pids.encode()


class Untidy(flame.FlameService):
    """Answers with what it finds of another of its kind: in its environment, temporary files and directory."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        left = Path(tempfile.gettempdir(), "left")
        found = [os.environ.get("LEFT", ""), str(left.exists()), os.getcwd()]
        os.environ["LEFT"] = "something"
        left.touch()
        os.chdir("/")
        return "\n".join(found).encode()


class Talker(flame.FlameService):
    """Prints its input, and a lot more where the input is a number."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        text = context.input.decode()
        if text.isdecimal():
            for _ in range(int(text) // 100):
                print("x" * 99)  # noqa: T201
        else:
            print(f"out: {text}")  # noqa: T201
            print(f"err: {text}", file=sys.stderr)  # noqa: T201
        return b""


class ExitsAtStart(Echo):
    """Its process exits while it is made."""

    def __init__(self) -> None:
        os._exit(9)


class RaisesInEnter(Echo):
    """Cannot enter a session."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        raise RuntimeError("the model is missing")


class HangsInEnter(Echo):
    """Never enters a session."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        time.sleep(1000)


class NotAService:
    """No `FlameService`."""


class Incomplete(flame.FlameService):
    """Has no `on_task_invoke`."""


def _spoil_shared_table(word: bytes) -> None:
    """Write over the memory that the executor shares with its node, as a wild pointer does."""
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "r+b", buffering=0) as memory:
        for line in maps:
            if "memfd:flame-executor" in line:
                first, _, last = line.split()[0].partition("-")
                memory.seek(int(first, 16))
                memory.write(word * ((int(last, 16) - int(first, 16)) // 8))


class Breaker(flame.FlameService):
    """Does to its executor what no task should."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        word = context.input
        if word == b"close all":
            os.closerange(3, 1024)
        elif word == b"write all":
            for descriptor in range(3, 64):
                with contextlib.suppress(OSError):
                    os.set_blocking(descriptor, False)
                    os.write(descriptor, b"garbage!" * 1000)
        elif word.startswith(b"write memory: "):
            _spoil_shared_table(word[-8:])
        elif word == b"takes a while":
            time.sleep(0.02)
        elif word in (b"child raises", b"child exits", b"child returns"):
            child = os.fork()
            if child == 0:
                if word == b"child raises":
                    raise ValueError("in the child")
                if word == b"child exits":
                    sys.exit(0)
                return b"child"
            os.waitpid(child, 0)
            return b"parent"
        elif word == b"surrogate":
            raise ValueError("bad file caf\udce9")
        return word
