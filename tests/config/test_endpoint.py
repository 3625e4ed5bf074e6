import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from flame.config import paths
from flame.config.endpoint import parse_endpoint, resolve
from flame.config.runtime import Cluster
from flame.model.errors import ConfigurationError, InvalidArgument, Unavailable


@pytest.fixture
def home(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory."""
    monkeypatch.setenv("HOME", str(short_tmp))
    return short_tmp


def write_file(home: Path, endpoint: str = "http://from-file:1") -> None:
    (home / ".flame").mkdir(exist_ok=True)
    (home / ".flame/flame.yaml").write_text(f"contexts: [{{name: a, cluster: {{endpoint: '{endpoint}'}}}}]")


@contextmanager
def running_cluster(home: Path) -> Iterator[str]:
    """A runtime file, and a socket that somebody listens on."""
    endpoint = f"unix://{home}/s"
    path = Path(paths.pointer_file())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(Cluster(data_dir=str(home), endpoint=endpoint)))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{home}/s")
        listener.listen()
        yield endpoint


def test_argument_over_environment_over_file_over_running_over_embedded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_cluster(home) as endpoint:
        write_file(home)
        monkeypatch.setenv("FLAME_ENDPOINT", "http://from-environment:1")
        assert resolve("frames://argument:1", allow_embedded=True).url == "frames://argument:1"
        assert resolve("embedded", allow_embedded=True).kind == "embedded"
        assert resolve(allow_embedded=True).url == "http://from-environment:1"
        monkeypatch.delenv("FLAME_ENDPOINT")
        assert resolve(allow_embedded=True).url == "http://from-file:1"
        (home / ".flame/flame.yaml").unlink()
        assert resolve(allow_embedded=True).url == endpoint
    assert resolve(allow_embedded=True).kind == "embedded"  # the file is still there, the cluster is not


def test_without_any_the_error_says_how_to_start_one(home: Path) -> None:
    with pytest.raises(Unavailable, match="flame up"):
        resolve(allow_embedded=False)


def test_embedded_is_refused_where_it_is_no_answer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="flame up"):
        resolve("embedded", allow_embedded=False)
    monkeypatch.setenv("FLAME_ENDPOINT", "embedded")
    assert resolve(allow_embedded=True).kind == "embedded"
    with pytest.raises(InvalidArgument, match="FLAME_ENDPOINT"):
        resolve(allow_embedded=False)


def test_empty_variable_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAME_ENDPOINT", "")
    assert resolve(allow_embedded=True).source == "default"


def test_file_without_endpoint_is_passed_over(home: Path) -> None:
    (home / ".flame").mkdir()
    (home / ".flame/flame.yaml").write_text("contexts: [{name: a}]")
    assert resolve(allow_embedded=True).kind == "embedded"


def test_errors_name_who_said_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(home, "ftp://x")
    with pytest.raises(ConfigurationError, match=r"flame\.yaml: endpoint 'ftp://x'"):
        resolve(allow_embedded=True)
    monkeypatch.setenv("FLAME_ENDPOINT", "nonsense")
    with pytest.raises(ConfigurationError, match="FLAME_ENDPOINT: endpoint 'nonsense'"):
        resolve(allow_embedded=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_runtime_file_of_another_user_is_not_believed(home: Path) -> None:
    with running_cluster(home):
        os.chown(paths.pointer_file(), 12345, 12345)
        assert resolve(allow_embedded=True).kind == "embedded"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost", "http://localhost:8080"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://[::1]", "http://[::1]:8080"),
        ("frames://localhost:1", "frames://localhost:1"),
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("embedded", "embedded"),
    ],
)
def test_endpoints_in_their_normal_form(text: str, url: str) -> None:
    assert str(parse_endpoint(text, "argument")) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://localhost:8080", "TLS"),
        ("localhost:8080", "http://host:port"),
        ("", "http://host:port"),
        ("ftp://x:1", "http://host:port"),
        ("unix://relative", "not absolute"),
        ("frames://localhost", "port"),
        ("http://:80", "host name"),
        ("http://host:0", "port"),
        ("http://host:65536", "port"),
        ("http://host:80x", "port"),
        ("http://user@host:80", "host name"),
        ("http://[::1:80", "host name"),
        ("http://[::1]80", "host name"),
    ],
)
def test_what_is_no_endpoint_says_why(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        parse_endpoint(text, "argument")


def test_only_a_running_local_cluster_is_supervised() -> None:
    assert not parse_endpoint("http://127.0.0.1:1", "argument").supervised
    assert parse_endpoint("unix:///run/flame.sock", "running cluster").supervised
