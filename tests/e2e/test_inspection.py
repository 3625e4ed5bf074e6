"""What the command lines show: nodes, executors, applications, sessions, logs, warnings."""

import logging
import re
import signal
import time
from pathlib import Path

import pytest

import flame
from tests.e2e.cluster import Cluster, bound, ready_nodes, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


def rows(output: str) -> list[list[str]]:
    """The rows of a table, split where two spaces are, its head first."""
    return [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]


def test_two_nodes_share_the_work(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    cluster.start_node("n2", 1)
    with cluster.connect() as connection:
        assert sorted(ready_nodes(connection)) == ["n1", "n2"]
        register(connection, "Sleep")
        with connection.create_session("sleep") as session:
            wait_until_true(lambda: list(session.map([b"5"] * 100)) and bound(connection, session.id) == 2)
            executors = connection.list_executors()
            assert sorted(view.node for view in executors) == ["n1", "n2"]
            assert len({view.id for view in executors}) == 2
            shown = rows(cluster.cli("flmctl", "list", "-e").stdout)
            assert shown[0] == ["ID", "State", "Node", "Resources", "Session", "Log"]
            assert {(row[0], row[1], row[2], row[4]) for row in shown[1:]} == {
                (view.id, "Bound", view.node, session.id) for view in executors
            }
            assert all(Path(row[5]).is_file() for row in shown[1:])
            shown = rows(cluster.cli("flmctl", "list", "-n").stdout)
            assert [row[:4] for row in shown] == [
                ["Name", "State", "Capacity", "Allocatable"],
                ["n1", "Ready", "cpu=1,mem=8g", shown[1][3]],
                ["n2", "Ready", "cpu=1,mem=8g", shown[2][3]],
            ]
            assert shown[1][3].startswith("cpu=0,")
            # One node goes: the other does all of it.
            cluster.stop("n2")
            assert len(list(session.map([b"1"] * 100, timeout=60))) == 100
            wait_until_true(lambda: ready_nodes(connection) == ["n1"])
            shown = rows(cluster.cli("flmctl", "list", "-n").stdout)
            assert ["n2", "NotReady"] not in [row[:2] for row in shown] or len(shown) == 3


def test_sessions_and_applications(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        register(connection, "Mortal")
        with connection.create_session("mortal", priority=3, session_id="shown") as session:
            outcomes = list(session.map([b"1", b"2", b"raise"], return_exceptions=True))
            assert len(outcomes) == 3
            shown = rows(cluster.cli("flmctl", "list").stdout)
            assert shown[0][:6] == ["ID", "State", "App", "Resources", "Priority", "Executors"]
            assert shown[0][6:] == ["Pending", "Running", "Succeed", "Failed", "Created"]
            (row,) = [row for row in shown if row[0] == "shown"]
            assert row[1:3] == ["Open", "mortal"]
            assert row[4] == "3"
            assert row[6:10] == ["0", "0", "2", "1"]
            view = dict(rows(cluster.cli("flmctl", "view", "-s", "shown").stdout))
            assert (view["State"], view["Succeed"], view["Failed"]) == ("Open", "2", "1")
            assert cluster.cli("flmctl", "delete", "-s", "shown").returncode == 1
        assert cluster.cli("flmctl", "delete", "-s", "shown").returncode == 0
        done = cluster.cli("flmctl", "view", "-s", "shown")
        assert done.returncode == 1
        assert "shown" in done.stderr
        shown = rows(cluster.cli("flmctl", "list", "-a").stdout)
        assert "flmping" in [row[0] for row in shown]
        assert ["mortal", "Enabled", "Host", "services:Mortal"] in [row[:4] for row in shown]


def test_the_log_of_an_executor(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        register(connection, "Talker")
        with connection.create_session("talker", max_instances=1) as session:
            session.invoke("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}ezi".encode(), timeout=60)
            (view,) = [view for view in connection.list_executors() if view.session_id == session.id]
            log = Path(view.log_path)
            wait_until_true(lambda: "err: gr" in log.read_text(encoding="utf-8"))
            assert "out: gr\N{LATIN SMALL LETTER U WITH DIAERESIS}ezi\n" in log.read_text(encoding="utf-8")


def test_the_log_of_an_executor_is_bounded(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(0)
    cluster.start_node("n1", 1, max_log_bytes=100_000)
    with cluster.session("Talker") as session:
        for _ in range(20):
            session.invoke(b"50000", timeout=60)
        session.invoke(b"the end", timeout=60)
        (view,) = session.connection.list_executors()
        log = Path(view.log_path)
        wait_until_true(lambda: "out: the end" in log.read_text())
        kept = sum(path.stat().st_size for path in log.parent.glob(f"{log.name}*"))
        assert kept <= 110_000


def test_a_session_that_fits_no_node_warns(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with cluster.connect() as connection, caplog.at_level(logging.WARNING, "flame"):
        started_s = time.monotonic()
        session = connection.create_session("flmping", resources="cpu=64,mem=1g")
        session.run(b"")
        wait_until_true(lambda: "cpu=64" in caplog.text)
        assert time.monotonic() - started_s < 5
        assert "cpu=2" in caplog.text
        assert session.id in caplog.text
        assert "cpu=64" in session.warning
        view = cluster.cli("flmctl", "view", "-s", session.id).stdout
        (line,) = [line for line in view.splitlines() if line.startswith("Warning")]
        assert "cpu=64" in line
        assert "cpu=2" in line
        session.close(wait=False)


def test_flmping_warns_when_it_fits_no_node(cluster: Cluster) -> None:
    process = cluster.start_cli("flmping", "-t", "1", "-r", "cpu=64,mem=1g")
    assert process.stdout is not None
    assert process.stderr is not None
    assert "was created" in process.stdout.readline()
    started_s = time.monotonic()
    line = ""
    while "warning" not in line:
        line = process.stderr.readline()
        assert line
    assert time.monotonic() - started_s < 5
    assert "cpu=64" in line
    assert "cpu=2" in line
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_flmping_on_a_running_cluster(cluster: Cluster) -> None:
    done = cluster.cli("flmping", "-t", "2000", "-p", "-i", "100", "-o", "100", "-c", "text")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    created = r"Session <flmping-\w{6}> was created in <\d+ ms>, start to run <2,000> tasks in the session:"
    assert re.fullmatch(created, lines[0])
    assert any(re.fullmatch(r"<2,000> tasks was completed in <[\d,]+ ms>\.", line) for line in lines)
    assert re.search(r"Succeeded\s+2,000", done.stdout)
    done = cluster.cli("flmping", "-t", "3", "-m", "20m", "-d", "5")
    assert done.returncode == 0
    with cluster.connect() as connection:
        assert isinstance(connection, flame.Connection)
        newest = max(connection.list_sessions(), key=lambda view: view.created_ms)
        outputs = [result.output or b"" for result in connection.results(newest.id)]
    assert len(outputs) == 3
    assert all(b'"host"' in output for output in outputs)
