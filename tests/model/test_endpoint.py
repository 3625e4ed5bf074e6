"""Endpoints are read strictly, and by one reader for listeners and clients."""

import pytest

from flame.model.endpoint import MAX_UNIX_PATH_BYTES, Endpoint, split_address
from flame.model.errors import InvalidArgument


@pytest.mark.parametrize(
    "text", ["unix:///run/x.sock", "frames://127.0.0.1:0", "frames://[::1]:65535", "http://localhost:8080"]
)
def test_endpoints_are_shown_as_they_were_read(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


def test_parts_of_an_endpoint() -> None:
    place = Endpoint.parse("frames://[::1]:7")
    assert (place.scheme, place.host, place.port, place.address) == ("frames", "::1", 7, "[::1]:7")
    assert Endpoint.parse("http://h:1/").port == 1
    assert str(Endpoint.parse("http://[::1]")) == "http://[::1]:8080"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "http://host:port"),
        ("x", "http://host:port"),
        ("/run/x.sock", "unix:///"),
        ("localhost:8080", "http://host:port"),
        ("tcp://h:1", "http://host:port"),
        ("unix://", "not absolute"),
        ("unix://run/x", "not absolute"),
        ("unix:///a\0b", "not absolute"),
        ("frames://", "host name"),
        ("frames://:1", "host name"),
        ("frames://h/x:1", "host name"),
        ("http://user@h:80", "host name"),
        ("http://[::1:80", "host name"),
        ("http://[::1]80", "host name"),
        ("frames://host", "port"),
        ("frames://h:x", "port"),
        ("frames://h:-1", "port"),
        ("frames://h:1/x", "port"),
        ("frames://h:٣", "port"),
        ("frames://h:65536", "port"),
        (f"frames://h:{'1' * 5_000}", "port"),
        ("frames://::1:5", "host name"),
        ("frames://a..b:1", "host name"),
        (f"frames://{'a' * 64}:1", "host name"),
        (f"frames://{'a.' * 200}b:1", "host name"),
        ("frames://a\nb:1", "host name"),
        ("frames://[[a]:1", "host name"),
        ("frames://\udcff:1", "host name"),
        ("unix:///\ud800", "no Unicode"),
        ("https://h:1", "TLS"),
        ("grpcs://h:1", "TLS"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_its_name_and_a_hint(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        Endpoint.parse(text, "VARIABLE")
    assert caught.value.message.startswith(f"VARIABLE: endpoint {text!r}")
    assert caught.value.hint


def test_a_host_may_have_a_name_in_any_script() -> None:
    assert Endpoint.parse("http://münchen.example").host == "münchen.example"


def test_the_longest_unix_path() -> None:
    path = "/" + "x" * (MAX_UNIX_PATH_BYTES - 1)
    assert Endpoint.parse(f"unix://{path}").path == path
    with pytest.raises(InvalidArgument, match="108 bytes"):
        Endpoint.parse(f"unix://{path}x")


def test_addresses() -> None:
    assert split_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("h", default=5) == ("h", 5)
    with pytest.raises(InvalidArgument, match="'h': '' is not a port"):
        split_address("h")
