"""How what a cluster has is put into words; the tables are in `test_flmctl.py`, with a real cluster."""

import pytest

from flame.cli.inventory import Probe, _shown, _words, connect
from flame.model.errors import Unavailable
from flame.model.resources import Resources
from flame.model.states import NodeState, SessionState


def test_states_in_words() -> None:
    assert _words(NodeState.NOT_READY) == "NotReady"
    assert _words(SessionState.OPEN) == "Open"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cpu=1,mem=1g", "cpu=1,mem=1g"),
        ("cpu=2,mem=512m,gpu=1", "cpu=2,mem=512m,gpu=1"),
        ("cpu=2,mem=24684096k", "cpu=2,mem=23.5g"),
        ("", "cpu=1,mem=0"),
    ],
)
def test_resources_in_words(text: str, shown: str) -> None:
    assert _shown(Resources.parse(text)) == shown


def test_default_resources() -> None:
    assert _shown(None) == "default"


def test_without_a_cluster(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Unavailable, match="flame up"):
        connect(None)
    with Probe() as probe:
        assert not probe.has_node(f"unix://{tmp_path}/none")
        assert probe.nodes == 0
