"""Resources: read and written the way users write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.errors import InvalidArgument
from flame.model.limits import GIB, KIB, MIB
from flame.model.resources import Resources, format_bytes, round_bytes

amounts = st.builds(
    Resources,
    cpu=st.integers(0, 1_000_000),
    memory_bytes=st.integers(0, 1 << 60),
    gpu=st.integers(0, 1_000),
)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (GIB, "1g"), (9_999 * KIB, "9999k"), (24_684_096 * KIB, "23.5g"), (GIB + 1, "1.0g")]
)
def test_bytes_are_rounded_to_be_read(count: int, text: str) -> None:
    assert round_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu=1,mem=1g,gpu=0", Resources(cpu=1, memory_bytes=GIB)),
        ("mem=512m", Resources(cpu=1, memory_bytes=512 * MIB)),
        (" CPU = 2 , memory = 1GiB ", Resources(cpu=2, memory_bytes=GIB)),
        ("mem=1024", Resources(cpu=1, memory_bytes=1024)),
        ("mem=1gb,", Resources(cpu=1, memory_bytes=GIB)),
        ("gpu=2", Resources(cpu=1, gpu=2)),
        ("", Resources(cpu=1)),
        ("cpu=0,mem=1g", Resources(memory_bytes=GIB)),
    ],
)
def test_resources_are_read(text: str, expected: Resources) -> None:
    assert Resources.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "cpu",
        "cpu=",
        "cpu=-1",
        "cpu=1.5",
        "disk=1",
        "cpu=1,cpu=2",
        "mem=1x",
        "cpu=1g",
        f"cpu={1 << 63}",
        f"gpu={1 << 31}",
        "cpu=٣",
    ],
)
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Resources.parse(text)
    assert text in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["cpu", "mem", "gpu"])
def test_a_number_of_any_length_is_read_or_refused(name: str) -> None:
    assert Resources.parse(f"{name}={'7'.zfill(5_000)}") == Resources.parse(f"{name}=7")
    with pytest.raises(InvalidArgument, match="a value is too large"):
        Resources.parse(f"{name}={'9' * 5_000}")


@given(amounts)
def test_what_is_written_is_read_back(amount: Resources) -> None:
    assert Resources.parse(str(amount)) == amount


@given(amounts, amounts)
def test_adding_and_taking_away_are_opposites(one: Resources, other: Resources) -> None:
    assert one.plus(other).minus(other) == one
    assert one.fits(one.plus(other))


def test_it_fits_only_if_every_part_does() -> None:
    room = Resources(cpu=2, memory_bytes=GIB, gpu=1)
    assert room.fits(room)
    assert not Resources(cpu=3).fits(room)
    assert not Resources(memory_bytes=GIB + 1).fits(room)
    assert not Resources(gpu=2).fits(room)


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (1, "1"), (1024, "1k"), (1025, "1025"), (3 * GIB, "3g")])
def test_bytes_are_written_in_the_largest_exact_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text
