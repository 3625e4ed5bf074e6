"""Tables of the SQLite store: what its queries read."""

import sqlite3
from collections.abc import Iterator

import pytest

from flame.stores import sqlite_schema as schema
from tests.stores.conformance import put_segment


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with_schema = sqlite3.connect(":memory:")
    with_schema.executescript(schema.SCHEMA)
    yield with_schema
    with_schema.close()


def plan(connection: sqlite3.Connection, statement: str, parameters: tuple[int, ...]) -> str:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return " | ".join(row[3] for row in rows)


@pytest.mark.parametrize(
    ("statement", "parameters", "expected"),
    [
        (schema.READ_INPUTS, (1, 1, 1), "SEARCH chunk USING PRIMARY KEY (session=? AND first>? AND first<?)"),
        (schema.READ_CREATED, (1, 1), "SEARCH chunk USING PRIMARY KEY (session=? AND first<?)"),
        (schema.READ_SEGMENTS, (1, 0, 0, 1, 10), "SEARCH segment USING PRIMARY KEY (session=? AND sequence>?)"),
        (schema.READ_OUTCOME, (1, 1), "SEARCH segment USING INDEX segment_first (session=? AND first<?)"),
    ],
)
def test_reads_use_a_key_and_sort_nothing(
    connection: sqlite3.Connection, statement: str, parameters: tuple[int, ...], expected: str
) -> None:
    found = plan(connection, statement, parameters)
    assert found.startswith(expected)
    assert "SCAN" not in found
    assert "TEMP B-TREE" not in found


def test_a_segment_becomes_a_row_and_a_segment_again(connection: sqlite3.Connection) -> None:
    write = put_segment(1, 2, 3, 4)
    for statement, parameters in schema.WRITES[type(write)]:
        connection.execute(statement, parameters(write))
    (row,) = connection.execute(schema.READ_OUTCOME, (1, 3))
    assert schema.segment_of(row) == write.record


def test_every_kind_of_write_has_statements_that_fit_the_tables(connection: sqlite3.Connection) -> None:
    from flame.model.records import Write

    assert set(schema.WRITES) == set(Write.__args__)
    for statements in schema.WRITES.values():
        for statement, _ in statements:
            connection.execute(f"EXPLAIN {statement}", (None,) * statement.count("?"))
