"""Stand-ins for the two components, so that the supervisor is tested without them.

Run as `flame COMPONENT --config FILE --data-dir DIR`, the first listens on the socket like a session manager and the
second waits; files in the data directory make them misbehave. Run as `flame drive DIR`, this is the supervisor that
starts them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from flame.supervisor import detached, settings

ORPHAN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
LEAVE_ORPHAN = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {ORPHAN!r}], stdout=2).pid)"


def session_manager(data_dir: Path) -> None:
    """Accept connections."""
    path = settings.Settings(str(data_dir)).socket_path
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            listener.accept()[0].close()


def executor_manager(data_dir: Path) -> None:
    """Wait for a signal; first leave a grandchild that nobody knows and that ignores SIGTERM, if told to."""
    if (data_dir / "leave-orphan").exists():
        made = subprocess.run([sys.executable, "-c", LEAVE_ORPHAN], stdout=subprocess.PIPE, check=True, text=True)
        (data_dir / "orphan").write_text(made.stdout)
    signal.pause()


def main() -> None:
    """Be what the command line says."""
    name = sys.argv[1]
    if name == "drive":
        settings.flame_command = lambda: [sys.executable, sys.argv[0]]
        sys.exit(detached.run(settings.Settings(sys.argv[2])))
    data_dir = Path(sys.argv[sys.argv.index("--data-dir") + 1])
    with open(data_dir / f"{name}.starts", "a", encoding="ascii") as starts:
        starts.write(f"{time.monotonic()} {os.getpid()}\n")
    if (data_dir / f"{name}.fails").exists():
        sys.exit("error: it does not work")
    {"session-manager": session_manager, "executor-manager": executor_manager}[name](data_dir)


if __name__ == "__main__":
    main()
