"""The cluster of a chaos run: `flame up` on a data directory of its own, proxies before it, clients, and their pids."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import flame
from flame.config import paths, processes
from flame.config.probe import answers
from flame.supervisor.cluster import free_port
from tests.chaos.facts import Log, now_ns
from tests.e2e.cluster import kill_rest
from tests.support import ROOT, wait_until_true

EXECUTORS = 3
LEASE_MS = 8_000
DISK_BYTES = 160 << 20
"""Size of the disk, where it can be one of its own."""
LOW_SPACE_BYTES = 12 << 20
LETTERS = {"load": "c", "grpc load": "g", "unary": "u", "read": "r"}
"""What clients do, and the first letter of the names of those who do it."""
OVER_GRPC = ("grpc load", "unary")
_PATIENCE_S = 120.0
_GONE_S = 1.2
"""How long a component may be missing, or not answer, before its supervisor is made to start it: by a new one."""
_HERE = Path(__file__).resolve().parent


class ChaosCluster:
    """Processes that may be ended and stopped at any time.

    Args:
        directory: an empty one with a short path; `facts` in it takes the logs of facts.

    Attributes:
        no_disk: why the cluster has no disk of its own, which could be filled; or empty.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.facts = directory / "facts"
        self.data_dir = str(directory / "d")
        self.clients: dict[str, subprocess.Popen[bytes]] = {}
        self.proxies: dict[str, subprocess.Popen[bytes]] = {}
        self.facts.mkdir()
        self.log = Log(self.facts, "chaos")
        self._alive = os.open(directory / "alive", os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(self._alive, fcntl.LOCK_EX)  # says that this process lives: see up.py
        self._grpc, self._grpc_proxy = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.no_disk = self._mount()
        self._seed = seed
        self._count = 0
        self._ups: list[subprocess.Popen[bytes]] = []
        self._missing_ns: dict[str, int] = {}
        self._session_manager = 0
        self._answered_ns = 0

    def _mount(self) -> str:
        os.makedirs(f"{self.data_dir}/run", mode=0o700)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "chaos", self.data_dir]
        if os.getuid() != 0 or not shutil.which("mount"):
            return "only root can mount one"
        done = subprocess.run(command, capture_output=True, text=True)
        os.makedirs(f"{self.data_dir}/run", mode=0o700, exist_ok=True)
        return done.stderr.strip()

    # --- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the cluster and its proxies, and register the application."""
        limits = {"lease_ms": LEASE_MS, "delay_release_ms": 300, "low_space_bytes": LOW_SPACE_BYTES}
        node = {"node": "n", "executors": EXECUTORS, "cpu": EXECUTORS, "memory": "8g"}
        changes = {
            "session-manager": {"limits": limits, "default_resources": "cpu=1,mem=64m", "grpc": self._grpc},
            "executor-manager": {"endpoint": self.endpoint("nodes"), **node},
        }
        (self.directory / "chaos.json").write_text(json.dumps(changes))
        socket = paths.socket_path(self.data_dir)
        for name, target in (("clients", socket), ("grpc clients", self._grpc), ("nodes", socket)):
            command = [sys.executable, str(_HERE / "proxy.py"), self._address(name), target, str(self._seed)]
            self.proxies[name] = self._popen(name, command, stdin=subprocess.PIPE)
        self.up()
        wait_until_true(lambda: not self._ups_running(), _PATIENCE_S, "flame up")
        with self.connect() as connection:
            connection.register_application("chaos", service="service:Chaos", working_directory=_HERE)

    def _popen(self, name: str, command: list[str], stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        with open(self.directory / f"{name}.log", "ab") as log:
            environment = {**os.environ, "HOME": str(self.directory)}  # the cluster of the user is left alone
            return subprocess.Popen(command, stdin=stdin, stdout=log, stderr=log, cwd=ROOT, env=environment)

    def endpoint(self, proxy: str) -> str:
        """The endpoint of a proxy."""
        scheme = "http" if proxy == "grpc clients" else "unix"
        return f"{scheme}://{self._address(proxy)}"

    def _address(self, proxy: str) -> str:
        return self._grpc_proxy if proxy == "grpc clients" else str(self.directory / f"{proxy}.sock")

    def connect(self) -> flame.Connection:
        """A connection that no proxy breaks."""
        path = paths.socket_path(self.data_dir)
        wait_until_true(lambda: answers(path), _PATIENCE_S, "the session manager answers")
        return flame.connect(f"unix://{path}", timeout=_PATIENCE_S)

    def up(self) -> None:
        """`flame up`, not waited for."""
        command = [sys.executable, "-P", str(_HERE / "up.py"), "flame.chaos", "up", "--data-dir", self.data_dir]
        self._ups.append(self._popen("up", [*command, "--executors", str(EXECUTORS), "--port", "0"]))

    def _ups_running(self) -> list[subprocess.Popen[bytes]]:
        self._ups = [process for process in self._ups if process.poll() is None]
        return self._ups

    def start_client(self, role: str, former: str = "") -> None:
        """Start a client, perhaps in the place of a former one."""
        name = f"{LETTERS[role]}{self._count}"
        self._count += 1
        endpoint = self.endpoint("grpc clients" if role in OVER_GRPC else "clients")
        word = "load" if role == "grpc load" else role
        command = [sys.executable, "-m", "tests.chaos.client", word, name, endpoint, str(self.facts)]
        command += [str(self._seed * 1000 + self._count), *([former] if former else [])]
        self.clients[name] = self._popen(name, command)

    def down(self) -> None:
        """`flame down`."""
        command = [sys.executable, "-P", "-m", "flame.cli.flame", "down", "--data-dir", self.data_dir]
        environment = {**os.environ, "HOME": str(self.directory)}
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S, env=environment)

    def end(self) -> None:
        """End whatever is left, and give back the disk."""
        for process in (*self.clients.values(), *self.proxies.values(), *self._ups):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        kill_rest(self.data_dir)
        os.close(self._alive)
        if not self.no_disk:
            subprocess.run(["umount", "-l", self.data_dir], check=False, capture_output=True)

    # --- looking after it --------------------------------------------------------------------------------------------

    def pids(self, component: str) -> list[int]:
        """Processes of a component, in the order of their ids."""
        return sorted(found.pid for found in processes.find(self.data_dir) if found.component == component)

    def nurse(self, stopped: set[int]) -> bool:
        """Have started again what is missing for too long, and clients that have ended; `stopped` are no concern.

        Returns:
            Whether the session manager answers.
        """
        for name, process in list(self.clients.items()):
            if process.poll() is not None:
                del self.clients[name]
                stopping = (self.facts / "stop").exists()
                if process.returncode != -signal.SIGKILL and not (stopping and process.returncode == 0):
                    raise AssertionError(f"client {name} ended with {process.returncode}: see {name}.log")
                if not stopping:
                    self.start_client(next(role for role, letter in LETTERS.items() if letter == name[0]), name)
        here = {found.component: found.pid for found in processes.find(self.data_dir)}
        self._note_session_manager(here.get("session-manager", 0))
        if "supervisor" not in here:
            if not self._ups_running():
                self.up()
            return False
        for component in ("session-manager", "executor-manager"):
            if component in here:
                self._missing_ns.pop(component, None)
            elif now_ns() - self._missing_ns.setdefault(component, now_ns()) > _GONE_S * 1e9:
                self._missing_ns.clear()  # it waits longer and longer before it starts again what dies so often
                if here["supervisor"] not in stopped:
                    self.kill(here["supervisor"])
                    self.log.write("fault", "supervisor", here["supervisor"], 0)
        return answers(paths.socket_path(self.data_dir))

    def _note_session_manager(self, pid: int) -> None:
        if pid and pid != self._session_manager and answers(paths.socket_path(self.data_dir)):
            self._session_manager, self._answered_ns = pid, now_ns()
            self.log.write("back", pid)

    def settled(self, pid: int, settle_s: float) -> bool:
        """Whether this is the session manager, and it has answered for so long."""
        return pid == self._session_manager and now_ns() - self._answered_ns > settle_s * 1e9

    def kill(self, pid: int) -> None:
        """`kill -9`."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def tell_proxies(self, whose: str, command: str) -> None:
        """Have the proxies of `clients` or `nodes` break or delay connections."""
        for name, proxy in self.proxies.items():
            if name.endswith(whose):
                assert proxy.stdin is not None
                proxy.stdin.write(f"{command}\n".encode())
                proxy.stdin.flush()

    # --- the disk ----------------------------------------------------------------------------------------------------

    def fill_disk(self) -> None:
        """Leave no room on the disk."""
        with suppress(OSError), open(f"{self.data_dir}/ballast", "ab", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    def empty_disk(self) -> None:
        """Give the room back."""
        with suppress(FileNotFoundError):
            os.unlink(f"{self.data_dir}/ballast")
