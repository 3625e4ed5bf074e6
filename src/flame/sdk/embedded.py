"""An embedded cluster: processes that live as long as the connection that started them.

The cluster is started by command line and holds the read end of a pipe. When every write end is closed, in whatever
way this process ends, it ends too; so forked children of this process must not keep a write end.
"""

import os
import sys
import weakref
from typing import IO, TYPE_CHECKING

from flame.model.errors import FailedPrecondition, Unavailable

if TYPE_CHECKING:
    import subprocess

STOP_TIMEOUT_S = 10.0

_clusters: "weakref.WeakSet[EmbeddedCluster]" = weakref.WeakSet()


class EmbeddedCluster:
    """A cluster that ends with this process.

    Attributes:
        endpoint: of its session manager.
        data_dir: its temporary directory, removed when it ends.
    """

    def __init__(self, lifeline: int) -> None:
        self.endpoint = ""
        self.data_dir = ""
        self._lifeline = lifeline
        self._process: subprocess.Popen[bytes] | None = None
        _clusters.add(self)

    @classmethod
    def start(cls, mode: str, timeout: float) -> "EmbeddedCluster":
        """Start a cluster and wait until it answers.

        Args:
            mode: `durable` or `memory`.
            timeout: longest wait in seconds.

        Raises:
            FailedPrecondition: not on Linux.
            Unavailable: it does not start; the message has its output.
        """
        import subprocess

        if sys.platform != "linux":
            raise FailedPrecondition(
                f"an embedded cluster needs Linux, this is {sys.platform}",
                hint="connect to a cluster that runs on Linux",
            )
        read_end, write_end = os.pipe()
        cluster = cls(write_end)
        try:
            command = [
                sys.executable,
                "-P",  # a module beside the user's script must not stand in for one of the cluster's
                "-m",
                "flame.cli.flame",
                "embedded",
                "--parent-fd",
                str(read_end),
                "--mode",
                mode,
            ]
            cluster._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=(read_end,),
                start_new_session=True,  # Ctrl-C is for this program; the cluster ends when it does
            )
            assert cluster._process.stdout is not None
            cluster._read_answer(cluster._process.stdout, timeout)
        except BaseException:
            cluster.stop()
            raise
        finally:
            os.close(read_end)
        return cluster

    def _read_answer(self, output: IO[bytes], timeout: float) -> None:
        import json
        import select
        import time

        deadline = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([output], [], [], left_s)[0]:
                raise Unavailable(f"the embedded cluster did not start within {timeout:g} s")
            data = os.read(output.fileno(), 65536)
            if not data:
                raise Unavailable("the embedded cluster ended while it started", hint="standard error may say why")
            line += data
        answer = json.loads(line)
        if "error" in answer:
            raise Unavailable("\n".join(filter(None, (answer["error"], answer.get("log", "")))))
        self.endpoint, self.data_dir = answer["endpoint"], answer["data_dir"]

    def ended(self) -> str:
        """Why there is no cluster any more, or an empty text."""
        code = None if self._process is None else self._process.poll()
        return "" if code is None else f"the embedded cluster has ended (exit code {code})"

    def stop(self) -> None:
        """End it and wait until it is gone; idempotent."""
        import subprocess

        self.release()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def release(self) -> None:
        """Close this process's end of the pipe."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def _after_fork_in_child() -> None:
    for cluster in list(_clusters):
        cluster.release()
        cluster._process = None


os.register_at_fork(after_in_child=_after_fork_in_child)
