"""`flmctl` with real processes."""

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Home, session_id
from tests.support import wait_until_true


@pytest.fixture
def cluster(home: Home) -> Iterator[Home]:
    """A user whose cluster runs, with two executors."""
    home.up("--executors", "2")
    yield home
    home.ok("flame", "down")


def test_list_of_sessions(cluster: Home) -> None:
    first = session_id(cluster.ok("flmping", "-t", "20", "-P", "5", "-r", "cpu=1,mem=64m"))
    second = session_id(cluster.ok("flmping", "-t", "30"))
    header, *rows = cluster.ok("flmctl", "list").splitlines()
    assert header.split() == [
        *("ID", "State", "App", "Resources", "Priority", "Executors"),
        *("Pending", "Running", "Succeed", "Failed", "Created"),
    ]
    assert [row.split()[0] for row in rows] == [first, second]
    assert rows[0].split()[1:10] == ["Closed", "flmping", "cpu=1,mem=64m", "5", "0", "0", "0", "20", "0"]


def test_bound_executors_and_running_tasks_are_counted(cluster: Home) -> None:
    with subprocess.Popen(
        cluster.command("flmping", "-t", "1000", "-d", "100"), env=cluster.environment, stdout=subprocess.PIPE
    ) as ping:
        (row,) = wait_until_true(lambda: bound(cluster, 2))
        assert row[1] == "Open"
        wait_until_true(lambda: cluster.ok("flmctl", "list", "-e").count("Bound") == 2)
        ping.terminate()


def bound(cluster: Home, executors: int) -> list[list[str]]:
    rows = [line.split() for line in cluster.ok("flmctl", "list").splitlines()[1:]]
    return [row for row in rows if row[5] == str(executors)]


def test_other_lists(cluster: Home) -> None:
    cluster.ok("flmping", "-t", "1")
    assert re.search(
        r"^flmping +Enabled +Host +flame\.service\.flmping:Ping", cluster.ok("flmctl", "list", "-a"), re.MULTILINE
    )
    nodes = cluster.ok("flmctl", "list", "-n")
    assert re.search(rf"^{re.escape(os.uname().nodename)} +Ready +cpu=\d+,mem=", nodes, re.MULTILINE)
    executors = cluster.ok("flmctl", "list", "-e").splitlines()
    log = executors[1].split()[-1]
    assert log.startswith(cluster.data_dir)
    assert Path(log).parent.is_dir()  # the file itself stays where something was printed


def test_piped_output_is_whole_and_a_terminal_is_not_overrun(cluster: Home) -> None:
    cluster.ok("flmping", "-t", "1")
    piped = cluster.ok("flmctl", "list", "-e")
    assert max(map(len, piped.splitlines())) > 80
    ours, theirs = pty.openpty()
    with subprocess.Popen(cluster.command("flmctl", "list", "-e"), env=cluster.environment, stdout=theirs) as shown:
        os.close(theirs)
        text = b""
        try:
            while data := os.read(ours, 65536):
                text += data
        except OSError:
            pass  # the other side is closed
    os.close(ours)
    assert shown.returncode == 0
    assert "Log" in text.decode()
    lines = [line for line in text.decode().splitlines() if cluster.data_dir not in line]
    assert max(map(len, lines)) <= 80


def test_view_close_delete(cluster: Home) -> None:
    session = session_id(cluster.ok("flmping", "-t", "5"))
    view = cluster.ok("flmctl", "view", "-s", session)
    assert re.search(rf"ID +{session}\nState +Closed\nApplication +flmping\n", view)
    assert cluster.ok("flmctl", "close", "-s", session) == f"session {session} is closed\n"
    assert cluster.ok("flmctl", "delete", "-s", session) == f"session {session} is deleted\n"
    done = cluster.run("flmctl", "view", "-s", session)
    assert done.returncode == 1
    assert session in done.stderr


def test_close_ends_an_open_session_and_delete_wants_it_closed(cluster: Home) -> None:
    with cluster.start("flmping", "-t", "1000", "-d", "100") as ping:
        assert ping.stdout is not None
        session = session_id(ping.stdout.readline())
        done = cluster.run("flmctl", "delete", "-s", session)
        assert done.returncode == 1
        assert "close" in done.stderr
        cluster.ok("flmctl", "close", "-s", session)
        assert ping.wait(60) == 1
    assert re.search(r"Cancelled +[1-9]", cluster.ok("flmctl", "view", "-s", session))


def test_a_session_that_fits_no_node_is_warned_about_in_its_view(cluster: Home) -> None:
    with cluster.start("flmping", "-t", "1", "-r", "mem=9999t") as ping:
        assert ping.stdout is not None
        session = session_id(ping.stdout.readline())
        (warning,) = wait_until_true(lambda: re.findall(r"Warning +(.*)", cluster.ok("flmctl", "view", "-s", session)))
        assert "9999t" in warning
        ping.terminate()


@pytest.mark.parametrize("arguments", [["list"], ["list", "-n"], ["view", "-s", "x"], ["delete", "-s", "x"]])
def test_it_never_starts_a_cluster_and_says_how_to(home: Home, arguments: list[str]) -> None:
    done = home.run("flmctl", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no cluster of yours runs on this machine")
    assert "`flame up`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = home.run("flmctl", *arguments, FLAME_ENDPOINT="embedded")
    assert done.returncode == 1


def test_wrong_usage(home: Home) -> None:
    for arguments in (["view"], ["frobnicate"], ["list", "--colour"]):
        done = home.run("flmctl", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert "--help" in done.stderr


@pytest.mark.parametrize("program", ["flame", "flmctl", "flmping"])
def test_version_and_help_everywhere(home: Home, program: str) -> None:
    assert re.fullmatch(rf"{program} \d+\.\d+\.\d+\S*\n", home.ok(program, "--version"))
    text = home.ok(program, "--help")
    assert "Exit codes" in text
    assert max(map(len, text.splitlines())) <= 80
