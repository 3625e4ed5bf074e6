import os
import socket
from pathlib import Path

import msgspec
import pytest

from flame.config import paths, runtime
from flame.config.runtime import Cluster


def write(path: str, content: bytes) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    return path


def test_reads_what_was_written(tmp_path: Path) -> None:
    cluster = Cluster(data_dir="/d", endpoint="unix:///s", grpc="http://h:1", supervisor=5)
    assert runtime.read(write(f"{tmp_path}/c", msgspec.json.encode(cluster))) == cluster


def test_a_file_of_a_newer_version_with_more_in_it_is_read(tmp_path: Path) -> None:
    path = write(f"{tmp_path}/c", b'{"data_dir": "/d", "endpoint": "unix:///s", "version": 2, "more": 1}')
    assert runtime.read(path) == Cluster(data_dir="/d", endpoint="unix:///s", version=2)


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", b"[1]", b'{"data_dir": 1}', b'{"x": ' + b"[" * 5_000])
def test_what_cannot_be_read_is_no_cluster(tmp_path: Path, content: bytes) -> None:
    assert runtime.read(write(f"{tmp_path}/c", content)) is None
    assert runtime.read(f"{tmp_path}/none") is None


def test_a_stale_file_names_no_running_cluster(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(short_tmp))
    # The supervisor's number is taken by another process: this one.
    cluster = Cluster(data_dir="/d", endpoint=f"unix://{short_tmp}/s", supervisor=os.getpid())
    write(paths.pointer_file(), msgspec.json.encode(cluster))
    assert runtime.running_cluster() is None


def test_the_default_data_directory_is_looked_at_where_the_pointer_is_gone(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(short_tmp))
    cluster = Cluster(data_dir="/d", endpoint=f"unix://{short_tmp}/s")
    write(paths.cluster_file(str(paths.default_data_dir())), msgspec.json.encode(cluster))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short_tmp}/s")
        listener.listen()
        assert runtime.running_cluster() == cluster
