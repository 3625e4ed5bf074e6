"""The session manager's process: what it serves, what survives kill -9, and what it says when it cannot start."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flame
from flame.config.components import SessionManagerConfig
from flame.session_manager.main import make_store, settings_of
from flame.stores.memory import MemoryStore
from flame.stores.sqlite import SqliteStore
from tests.support import wait_until_true


@contextmanager
def running(data_dir: Path, **fields: Any) -> Iterator["subprocess.Popen[str]"]:
    """A session manager's process."""
    config = data_dir / "session-manager.yaml"
    config.write_text(json.dumps({"data_dir": str(data_dir), **fields}))
    command = [sys.executable, "-m", "flame.cli.flame", "session-manager", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def endpoint(data_dir: Path) -> str:
    return f"unix://{data_dir}/run/session-manager.sock"


def test_kill_9_loses_no_acknowledged_task(short_tmp: Path) -> None:
    with running(short_tmp) as process:
        wait_until_true((short_tmp / "run/session-manager.sock").exists)
        with flame.connect(endpoint(short_tmp)) as connection:
            session = connection.create_session("flmping", session_id="s")
            futures = [session.run(b"%d" % number) for number in range(3_000)]
            session.flush(timeout=60)
            process.send_signal(signal.SIGKILL)
            process.wait()
            with running(short_tmp):
                shown = connection.get_session("s", timeout=60)
                assert shown.pending == 3_000
                late = session.run(b"late")
                assert late.acknowledged(timeout=60)
                assert late.task_id == 3_001
                session.close(wait=False)
                assert all(future.cancelled() for future in futures if future.exception(timeout=60))


def test_a_port_in_use_is_named(short_tmp: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(short_tmp, grpc=f"127.0.0.1:{port}") as process:
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"127.0.0.1:{port}" in errors
    assert "in use" in errors
    assert "Traceback" not in errors


def test_other_addresses_than_loopback_are_refused(short_tmp: Path) -> None:
    with running(short_tmp, frames="frames://0.0.0.0:0") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "refusing to listen on 0.0.0.0" in errors


def test_sigterm_ends_it_in_order(short_tmp: Path) -> None:
    with running(short_tmp) as process:
        wait_until_true((short_tmp / "run/session-manager.sock").exists)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert not (short_tmp / "run/session-manager.sock").exists()


def test_the_configuration_chooses_store_and_settings(tmp_path: Path) -> None:
    memory = SessionManagerConfig(data_dir=str(tmp_path), mode="memory", default_resources="cpu=2,mem=2g")
    store = make_store(memory)
    assert isinstance(store, MemoryStore)
    store.open()
    settings = settings_of(memory, store)
    assert str(settings.default_resources) == "cpu=2,mem=2g,gpu=0"
    assert settings.store_id == store.store_id
    assert isinstance(make_store(SessionManagerConfig(data_dir=str(tmp_path))), SqliteStore)
