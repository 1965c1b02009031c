from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.config.addresses import (
    Address,
    Target,
    admin_address,
    listen_address,
    overlap,
    service_pattern,
    target_of,
)
from sidecar.config.values import Malformed


def help_of(function: Callable[[str], object], text: str) -> str:
    with pytest.raises(Malformed) as caught:
        function(text)
    return caught.value.help


@pytest.mark.parametrize(
    ("text", "address", "shown", "local"),
    [
        ("127.0.0.1:8443", Address("127.0.0.1", 8443), "127.0.0.1:8443", True),
        ("0.0.0.0:1", Address("0.0.0.0", 1), "0.0.0.0:1", False),
        ("[::1]:0", Address("::1", 0), "[::1]:0", True),
        ("[2001:DB8::1]:80", Address("2001:db8::1", 80), "[2001:db8::1]:80", False),
    ],
)
def test_a_listener_has_an_ip_and_a_port(
    text: str, address: Address, shown: str, local: bool
) -> None:
    found = listen_address(text)
    assert (found, str(found), found.is_local) == (address, shown, local)


@pytest.mark.parametrize(
    ("text", "help_text"),
    [
        (":8443", "`0.0.0.0:8443`"),
        ("127.0.0.1", "`127.0.0.1:8443`"),
        ("localhost:8443", "`127.0.0.1`"),
        ("127.0.0.1:65536", ""),
        ("127.0.0.1:x", ""),
        ("::1:80", ""),
        ("[::1]", ""),
        ("", ""),
        ("1.2.3:80", ""),
        ("127.0.0.1:80\n", ""),
    ],
)
def test_what_is_no_listener_is_refused_with_an_example(text: str, help_text: str) -> None:
    assert help_text in help_of(listen_address, text)
    assert help_of(listen_address, text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:15000", Address("127.0.0.1", 15000)),
        ("unix:/run/sidecar/admin.sock", Address(unix="/run/sidecar/admin.sock")),
    ],
)
def test_the_admin_interface_is_for_this_machine(text: str, address: Address) -> None:
    assert admin_address(text) == address
    assert address.is_local


@pytest.mark.parametrize("text", ["0.0.0.0:15000", "10.0.0.1:15000", "[::]:15000"])
def test_the_admin_interface_is_not_for_others(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        admin_address(text)
    assert caught.value.code == "SC0703"


@pytest.mark.parametrize(
    ("text", "target", "local"),
    [
        (
            "http://127.0.0.1:9000",
            Target("127.0.0.1", "127.0.0.1:9000", "127.0.0.1:9000", 9000),
            True,
        ),
        (
            "http://127.0.0.1:9000/",
            Target("127.0.0.1", "127.0.0.1:9000", "127.0.0.1:9000", 9000),
            True,
        ),
        ("http://127.0.0.1", Target("127.0.0.1", "127.0.0.1", "127.0.0.1:80", 80), True),
        (
            "http://localhost:9000",
            Target("localhost", "localhost:9000", "127.0.0.1:9000", 9000),
            True,
        ),
        ("http://[::1]:9000", Target("::1", "[::1]:9000", "[::1]:9000", 9000), True),
        ("127.0.0.1:9000", Target("127.0.0.1", "127.0.0.1:9000", "127.0.0.1:9000", 9000), True),
        ("http://10.0.0.1:9", Target("10.0.0.1", "10.0.0.1:9", "10.0.0.1:9", 9), False),
        ("unix:/run/a.sock", Target("localhost", "localhost", "unix:/run/a.sock"), True),
        ("files.example", Target("files.example", "files.example"), False),
        ("files.example:81", Target("files.example", "files.example:81", port=81), False),
        ("http://files.example", Target("files.example", "files.example"), False),
        ("http://files.example:81", Target("files.example", "files.example:81", port=81), False),
    ],
)
def test_a_target_is_an_address_or_a_services_host(text: str, target: Target, local: bool) -> None:
    assert target_of(text) == target
    assert target.is_local is local
    assert str(target) == (target.address or target.authority)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "SC0211"),
        ("http://", "SC0211"),
        ("https://127.0.0.1:9000", "SC0304"),
        ("ftp://127.0.0.1", "SC0211"),
        ("http://127.0.0.1:9000/mcp", "SC0211"),
        ("http://user@127.0.0.1:9000", "SC0211"),
        ("http://127.0.0.1:9000?x", "SC0211"),
        ("http://127.0.0.1:99999", "SC0211"),
        ("http://127.0.0.1:0", "SC0211"),
        ("127.0.0.1", "SC0211"),
        ("http://a b", "SC0211"),
        ("a/b", "SC0211"),
        ("unix:", "SC0211"),
        ("unix:a.sock", "SC0211"),
        ("unix:/run/", "SC0211"),
        ("unix:@abstract", "SC0211"),
        ("unix:/" + "é" * 60, "SC0211"),
        ("*.example", "SC0211"),
        ("http://1.2.3.4.5:80x", "SC0211"),
    ],
)
def test_what_is_no_target_is_refused_with_what_to_write(text: str, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        target_of(text)
    assert caught.value.code == code
    assert caught.value.help


def test_who_wants_tls_to_the_server_is_told_how_it_is_had() -> None:
    assert "DestinationRule for it with `tls: {mode: SIMPLE}`" in help_of(target_of, "https://a.b")


def test_a_path_is_told_to_be_left_off() -> None:
    assert help_of(target_of, "http://127.0.0.1:9000/mcp") == "write `http://127.0.0.1:9000`"


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("a.example", "a.example", True),
        ("a.example", "A.example", True),
        ("a.example", "b.example", False),
        ("a.example", "*.example", True),
        ("a.other", "*.example", False),
        ("*.b.example", "*.example", True),
        ("*.b.example", "*.c.example", False),
        ("*b.example", "ab.example", True),
        ("*-b.example", "a-b.example", True),
        ("*-b.example", "b.example", False),
    ],
)
def test_two_patterns_overlap_where_some_name_fits_both(one: str, other: str, both: bool) -> None:
    assert overlap(one, other) is both
    assert overlap(other, one) is both


def test_no_service_has_all_names() -> None:
    assert service_pattern("*.example") == "*.example"
    with pytest.raises(Malformed, match="every host"):
        service_pattern("*")
