"""`flmping` with real processes."""

import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from flame.cli.flmping import task_input
from flame.config import processes
from flame.service.flmping import PingRequest
from tests.cli.commands import Home, session_id
from tests.support import wait_until_true


@pytest.fixture
def cluster(home: Home) -> Iterator[Home]:
    """A user whose cluster runs, with two executors."""
    home.up("--executors", "2")
    yield home
    home.ok("flame", "down")


def embedded_directories(home: Home) -> list[Path]:
    return [path for path in home.path.iterdir() if path.name.startswith("flame-")]


def nothing_left(home: Home, directories: list[Path]) -> bool:
    return not embedded_directories(home) and not any(processes.find(str(path)) for path in directories)


class TestEmbedded:
    def test_starts_and_ends_its_own_cluster(self, home: Home) -> None:
        done = home.run("flmping", "-t", "10000", "--embedded")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert re.fullmatch(
            r"Session <[\w.-]+> was created in <[\d,]+ ms>, start to run <10,000> tasks in the session:", lines[0]
        )
        assert re.fullmatch(r"\[100%\] =+   10000/10000", lines[1])
        assert re.fullmatch(r"<10,000> tasks was completed in <[\d,]+ ms>\.", lines[2])
        assert len(lines) == 3
        assert len(done.stderr.splitlines()) == 1
        assert "embedded" in done.stderr
        assert embedded_directories(home) == []

    def test_is_what_happens_where_no_cluster_runs(self, home: Home) -> None:
        assert "embedded" in home.run("flmping", "-t", "1").stderr

    def test_memory_mode(self, home: Home) -> None:
        done = home.run("flmping", "-t", "10", "--embedded", "--mode", "memory")
        assert done.returncode == 0
        assert "memory" in done.stderr

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
    def test_nothing_is_left_however_it_ends(self, home: Home, signal_number: int) -> None:
        with subprocess.Popen(
            home.command("flmping", "-t", "1000", "-d", "100", "--embedded"),
            env=home.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as ping:
            assert ping.stdout is not None
            assert b"was created" in ping.stdout.readline()
            directories = embedded_directories(home)
            assert len(directories) == 1
            assert processes.find(str(directories[0]))
            os.killpg(ping.pid, signal_number)  # as a terminal does it
            code = ping.wait(60)
        assert code == (-signal_number if signal_number == signal.SIGKILL else 128 + signal_number)
        wait_until_true(lambda: nothing_left(home, directories))


class TestOutput:
    def test_summary(self, cluster: Home) -> None:
        output = cluster.ok("flmping", "-t", "100", "-p")
        assert re.search(r"Succeeded +100\n +Failed +0\n", output)
        assert re.search(r"Duration +[\d,]+ ms\n", output)
        assert re.search(r"Tasks/s +[\d,.]+\n", output)
        p50, p90, p99 = (float(value) for value in re.findall(r"Latency p\d\d +([\d.]+) ms", output))
        assert 0 < p50 <= p90 <= p99
        assert max(map(len, output.splitlines())) <= 100

    def test_piped_output_has_no_control_characters(self, cluster: Home) -> None:
        assert re.search(r"[\r\x1b]", cluster.ok("flmping", "-t", "100", "-d", "5")) is None

    def test_bar_moves_on_a_terminal(self, cluster: Home) -> None:
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            cluster.command("flmping", "-t", "100", "-d", "20"), env=cluster.environment, stdout=theirs
        ) as ping:
            os.close(theirs)
            shown = b""
            while data := read(ours):
                shown += data
        os.close(ours)
        assert ping.returncode == 0
        drawings = [text for text in shown.decode().split("\r") if "%]" in text]
        assert len(drawings) > 3
        assert "[100%]" in drawings[-1]
        assert "100/100" in drawings[-1]


class TestOptions:
    def test_duration_memory_sizes_common_data_priority_and_resources(self, cluster: Home) -> None:
        options = ["-t", "4", "-d", "50", "-m", "8m", "-i", "10k", "-o", "1k", "-c", "te\udcffxt", "-P", "3"]
        output = cluster.ok("flmping", *options, "-r", "cpu=1,mem=64m")
        assert "<4> tasks was completed" in output
        view = cluster.ok("flmctl", "view", "-s", session_id(output))
        assert re.search(r"Priority +3\n", view)
        assert re.search(r"Resources +cpu=1,mem=64m\n", view)
        assert re.search(r"Succeed +4\n", view)

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["-t", "many"], "'many' is not a valid integer"),
            (["-t", "0"], "0 is not in the range"),
            (["-m", "much"], "'much' is not a size"),
            (["-r", "cpus=1"], "cpu=1,mem=1g"),
            (["--endpoint", "http://h:1", "--embedded"], "exclude each other"),
            (["--mode", "fast"], "'durable', 'memory'"),
            (["--colour"], "No such option"),
            (["surplus"], "unexpected extra argument"),
        ],
    )
    def test_wrong_usage(self, home: Home, arguments: list[str], why: str) -> None:
        done = home.run("flmping", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert why in done.stderr
        assert "flmping --help" in done.stderr

    @pytest.mark.parametrize("request_fields", [(0, 0, 0), (5, 0, 0), (5, 6, 7)])
    @pytest.mark.parametrize("input_bytes", [0, 1, 500])
    def test_the_application_can_read_the_input(self, request_fields: tuple[int, int, int], input_bytes: int) -> None:
        duration_ms, memory_bytes, output_bytes = request_fields
        payload = task_input(duration_ms, memory_bytes, input_bytes, output_bytes)
        assert len(payload) >= input_bytes
        request = msgspec.json.decode(payload, type=PingRequest) if payload else PingRequest()
        assert request == PingRequest(duration_ms=duration_ms, memory_bytes=memory_bytes, output_bytes=output_bytes)


class TestFailures:
    def test_failed_tasks_are_exit_code_1_with_the_first_reason(self, cluster: Home) -> None:
        done = cluster.run("flmping", "-t", "3", "-m", "1024t", "-p")
        assert done.returncode == 1
        assert "error: 3 of 3 tasks failed; the first: task " in done.stderr
        assert "Memory" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert re.search(r"Failed +3\n", done.stdout)
        assert "<3> tasks was completed" in done.stdout

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_ctrl_c_and_what_is_like_it_close_the_session(self, cluster: Home, signal_number: int) -> None:
        with subprocess.Popen(
            cluster.command("flmping", "-t", "1000", "-d", "200"),
            env=cluster.environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as ping:
            assert ping.stdout is not None
            session = session_id(ping.stdout.readline())
            os.killpg(ping.pid, signal_number)
            assert ping.wait(60) == 128 + signal_number
        view = cluster.ok("flmctl", "view", "-s", session)
        assert re.search(r"State +Closed\n", view)
        wait_until_true(lambda: re.search(r"Running +0\n", cluster.ok("flmctl", "view", "-s", session)))

    def test_a_terminal_that_goes_closes_the_session(self, cluster: Home) -> None:
        child, terminal = pty.fork()
        if not child:
            command = cluster.command("flmping", "-t", "1000", "-d", "200")
            os.execve(command[0], command, cluster.environment)
        shown = b""
        while b"[" not in shown:  # the bar
            shown += os.read(terminal, 65536)
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
        assert re.search(r"State +Closed\n", cluster.ok("flmctl", "view", "-s", session_id(shown.decode())))

    def test_a_session_that_fits_no_node_warns_with_both_figures(self, cluster: Home) -> None:
        with subprocess.Popen(
            cluster.command("flmping", "-t", "1", "-r", "cpu=9999,mem=1g"),
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as ping:
            assert ping.stdout is not None
            assert ping.stderr is not None
            session = session_id(ping.stdout.readline())
            warning = ping.stderr.readline()
            ping.send_signal(signal.SIGINT)
            assert ping.wait(60) == 130
        assert warning.startswith("warning: ")
        assert "9999" in warning
        assert f"cpu={len(os.sched_getaffinity(0))}" in warning
        assert session in warning

    def test_no_cluster_at_the_endpoint(self, home: Home) -> None:
        done = home.run("flmping", "-t", "1", "--endpoint", f"unix://{home.path}/none")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert f"{home.path}/none" in done.stderr

    def test_client_configuration_that_cannot_be_read(self, home: Home) -> None:
        (home.path / ".flame").mkdir()
        (home.path / ".flame/flame.yaml").write_text("contexts:\n  - nam: a\n")
        done = home.run("flmping", "-t", "1")
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {home.path}/.flame/flame.yaml:2: unknown key")


def read(descriptor: int) -> bytes:
    """What a terminal shows; nothing once it is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
