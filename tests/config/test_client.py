from pathlib import Path

import pytest

from flame.config.client import client_file, current_context
from flame.model.errors import ConfigurationError

PUBLISHED = """\
current-context: flame
contexts:
  - name: other
  - name: flame
    cluster: {endpoint: "http://127.0.0.1:8080", tls: {ca_file: a, cert_file: b, key_file: c}}
    cache: {endpoint: "grpc://127.0.0.1:9090", storage: /tmp/x, tls: {ca_file: a}}
    package: {storage: s, excludes: ["*.log"]}
    runner: {template: flmrun}
    app: flmrun
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flame.yaml"
    path.write_text(text)
    return path


def test_published_file_of_both_dialects(tmp_path: Path) -> None:
    context = current_context(write(tmp_path, PUBLISHED))
    assert context is not None
    assert context.cluster.endpoint == "http://127.0.0.1:8080"
    assert context.cache is not None
    assert context.cache.endpoint == "grpc://127.0.0.1:9090"


def test_no_file_and_no_contexts_are_no_context(tmp_path: Path) -> None:
    assert current_context(tmp_path / "none.yaml") is None
    assert current_context(write(tmp_path, "")) is None


def test_only_context_needs_no_name(tmp_path: Path) -> None:
    context = current_context(write(tmp_path, "contexts: [{name: a, cluster: {endpoint: 'http://h'}}]"))
    assert context is not None
    assert context.name == "a"


def test_current_context_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no context 'c' \(one of a, b\)"):
        current_context(write(tmp_path, "current-context: c\ncontexts: [{name: a}, {name: b}]"))


def test_several_contexts_and_none_current(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="current-context"):
        current_context(write(tmp_path, "contexts: [{name: a}, {name: b}]"))


def test_home_is_read_at_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert client_file() == Path("/somewhere/.flame/flame.yaml")
