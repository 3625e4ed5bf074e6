"""The command lines as processes, each test with a home directory and a data directory of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from flame.config import processes
from flame.supervisor import loop

TIMEOUT_S = 100.0


class Home:
    """A user of this machine, and the cluster in the default data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_dir = str(path / ".local/share/flame")
        self.environment = {**os.environ, "HOME": str(path), "TMPDIR": str(path), "COLUMNS": "80"}

    def command(self, program: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", f"flame.cli.{program}", *arguments]

    def run(self, program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(program, *arguments),
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd=self.path,
        )

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a command whose output the test reads."""
        return subprocess.Popen(
            self.command(program, *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ok(self, program: str, *arguments: str) -> str:
        """Run a command that has to succeed; return its output."""
        done = self.run(program, *arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def up(self, *arguments: str) -> str:
        """`flame up` on a free port."""
        return self.ok("flame", "up", "--port", "0", *arguments)

    def pids(self, component: str) -> list[int]:
        """Processes of a component."""
        return [found.pid for found in processes.find(self.data_dir) if found.component == component]

    def pid(self, component: str) -> int:
        """The process of a component that runs."""
        (pid,) = self.pids(component)
        return pid

    def log(self, component: str) -> str:
        """A component's log."""
        return (Path(self.data_dir) / "log" / f"{component}.log").read_text()

    def end(self) -> None:
        """Kill what a failed test has left."""
        for found in sorted(processes.find(self.data_dir), key=lambda found: found.component != "supervisor"):
            loop.kill(found.pid)


def session_id(output: str) -> str:
    """The session that `flmping` names."""
    match = re.search(r"Session <(\S+)> was created", output)
    assert match, output
    return match[1]
