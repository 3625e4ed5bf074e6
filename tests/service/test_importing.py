"""The flag is up while a service is imported, and only then."""

from pathlib import Path

import pytest

from flame.executor.services import ServiceUnusable, load_service
from flame.service import importing


def test_a_script_sees_it_while_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "seen.py").write_text(
        "from flame.service import FlameService, importing\n"
        "class S(FlameService):\n"
        "    seen = (importing.active, importing.source)\n"
        "    def on_task_invoke(self, context): pass\n"
    )
    name = f"{tmp_path}/seen.py:S"
    assert load_service(name).seen == (True, name)  # type: ignore[attr-defined]
    assert (importing.active, importing.source) == (False, "")


def test_it_is_down_after_a_failure() -> None:
    with pytest.raises(ServiceUnusable):
        load_service("no.such.module:S")
    assert not importing.active
