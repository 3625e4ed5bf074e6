from pathlib import Path

import pytest

from flame.config.client import ClientConfig
from flame.config.components import ExecutorManagerConfig, SessionManagerConfig
from flame.config.files import load, parse
from flame.model.errors import ConfigurationError


def refused(text: str, kind: type = SessionManagerConfig) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, kind, "x.yaml")
    return str(caught.value)


def test_reads_yaml(tmp_path: Path) -> None:
    path = tmp_path / "session-manager.yaml"
    path.write_text("# a comment\ndata_dir: /srv/flame\nmode: memory\nlimits:\n  lease_ms: 5000\n")
    config = load(path, SessionManagerConfig)
    assert (config.data_dir, config.mode, config.limits.lease_ms) == ("/srv/flame", "memory", 5000)


def test_reads_json_as_yaml() -> None:
    text = '{"data_dir": "/a", "endpoint": "unix:///s", "executors": 3}\n'
    assert parse(text, ExecutorManagerConfig, "x").executors == 3


def test_overrides_win_and_may_stand_in_for_a_required_key() -> None:
    assert parse("mode: memory", SessionManagerConfig, "x", {"data_dir": "/a"}).data_dir == "/a"
    assert parse("data_dir: /b", SessionManagerConfig, "x", {"data_dir": "/a"}).data_dir == "/a"
    assert parse("", SessionManagerConfig, "x", {"data_dir": "/a"}).data_dir == "/a"


def test_unknown_key_names_line_and_closest_key() -> None:
    message = refused("data_dir: /a\nlimits:\n  lease_ms: 1\n  laese_ms: 2\n")
    assert message == "x.yaml:4: unknown key 'limits.laese_ms' (did you mean 'lease_ms'?)"


def test_unknown_key_unlike_any_lists_the_keys() -> None:
    message = refused("data_dir: /a\ncolour: red\n")
    assert "x.yaml:2: unknown key 'colour'" in message
    assert "grpc" in message


def test_unknown_key_in_a_list() -> None:
    message = refused("contexts:\n  - name: a\n    cluster: {endpont: x}\n", ClientConfig)
    assert message == "x.yaml:3: unknown key 'contexts[0].cluster.endpont' (did you mean 'endpoint'?)"


def test_wrong_type_names_line_and_key() -> None:
    message = refused("data_dir: /a\nlimits:\n  lease_ms: soon\n")
    assert message == "x.yaml:3: limits.lease_ms: expected `int`, got `str`"


def test_value_outside_a_choice_names_the_choices() -> None:
    message = refused("data_dir: /a\nmode: fast\n")
    assert "x.yaml:2: mode:" in message
    assert "durable, memory" in message


def test_missing_key() -> None:
    assert refused("mode: memory\n") == "x.yaml: the key 'data_dir' is missing"
    assert "'contexts[0].name'" in refused("contexts:\n  - cluster: {}\n", ClientConfig)


def test_repeated_key() -> None:
    assert refused("data_dir: /a\nmode: memory\ndata_dir: /b\n") == "x.yaml:3: the key 'data_dir' stands there twice"


@pytest.mark.parametrize(
    "text", ["a: [1,", "a: b: c", "\tx: 1", "a: !!python/object:os.system x", "{", "a: &x *y", "\x00"]
)
def test_malformed_yaml_names_the_file(text: str) -> None:
    assert refused(text).startswith("x.yaml")


def test_malformed_yaml_names_the_line() -> None:
    assert refused("data_dir: /a\nmode: [1,\n").startswith("x.yaml:3:")


def test_malformed_json_names_the_line_too() -> None:
    assert "did you mean 'mode'" in refused('{"data_dir": "/a",\n"mod": "memory"}')


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "42"])
def test_document_that_is_no_mapping(text: str) -> None:
    assert "write `key: value` lines" in refused(text)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load(tmp_path / "none.yaml", SessionManagerConfig)


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path, SessionManagerConfig)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load(path, SessionManagerConfig)


@pytest.mark.parametrize("value", ["!!bool x", "!!timestamp x", "!!int ''", "!!float ''"])
def test_a_value_that_does_not_fit_its_tag(value: str) -> None:
    assert "x.yaml: not valid YAML: a value does not fit its tag" in refused(f"data_dir: {value}")


def test_json_that_is_nested_too_deeply() -> None:
    assert refused('{"data_dir": ' * 5_000).startswith("x.yaml:")


def test_a_key_that_is_a_list_is_refused_where_it_stands() -> None:
    assert "x.yaml:2: a key is a list or a mapping" in refused("data_dir: /a\n? [a, b]\n: c")


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_of_aliases_take_no_time_and_no_memory(form: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{at}: &a{at} " + form.format(", ".join([f"*a{at - 1}"] * 10)) for at in range(1, 30)]
    assert "holds over 100,000 values" in refused("\n".join(lines))
