from flame.cli.tables import local_time, pairs, render


def test_columns_line_up_and_numbers_stand_right() -> None:
    text = render(["ID", "Pending"], [["a", 5], ["long-name", 12345678]])
    assert text.splitlines() == ["ID          Pending", "a                 5", "long-name  12345678"]


def test_without_width_nothing_is_cut() -> None:
    assert "x" * 500 in render(["A", "B"], [["x" * 500, "y" * 300]])


def test_a_wide_table_folds_and_nothing_is_cut() -> None:
    columns = ["ID", "State", "App", "Resources", "Priority", "Executors", "Pending"]
    columns += ["Running", "Succeed", "Failed", "Created"]
    row = [
        "flmping-a1b2c3",
        "Open",
        "flmping",
        "cpu=1,mem=1g,gpu=0",
        0,
        2,
        100000,
        64,
        1000000,
        0,
        "2025-01-01 10:00:00",
    ]
    text = render(columns, [row, row], 80)
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) == 6
    for value in (*columns, *map(str, row)):
        assert value in text


def test_a_narrow_terminal_gets_one_column_a_line() -> None:
    assert render(["ID", "State"], [["a", "Open"]], 4).splitlines() == ["ID", "  State", "a", "  Open"]


def test_empty_table_is_its_header() -> None:
    assert render(["ID", "State"], []) == "ID  State"


def test_pairs_line_up() -> None:
    assert pairs([("ID", "x"), ("Application", "")]) == "ID           x\nApplication"


def test_time_zero_is_empty() -> None:
    assert local_time(0) == ""
    assert len(local_time(1_700_000_000_000)) == 19
