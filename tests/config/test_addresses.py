"""Addresses of instances, listeners and metrics."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from controlplane.config.addresses import (
    canonical_endpoint,
    check_endpoint,
    check_instance_address,
    check_ip,
    check_url,
    is_loopback,
)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_usable_address_is_taken(ip: Any, port: int) -> None:
    """IPv4 as it is, IPv6 in brackets; refused are any-address, multicast and one link's own."""
    text = f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"
    reached = getattr(ip, "ipv4_mapped", None) or ip
    of_one_link = reached.version == 6 and reached.is_link_local
    if reached.is_unspecified or reached.is_multicast or of_one_link:
        with pytest.raises(PydanticCustomError, match=r"cannot be connected to|one link only"):
            check_endpoint(text)
    else:
        assert canonical_endpoint(text) == check_endpoint(text)


@given(st.text() | st.from_regex(r"\A[\[\]0-9a-f:.%]{0,20}\Z"))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Each check passes its text on or says what is wrong, nothing else."""
    for check in (check_endpoint, check_ip, check_url):
        with contextlib.suppress(PydanticCustomError):
            assert check(text) in {text, canonical_endpoint(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("localhost:80", "does not start with an IP address", id="name"),
        pytest.param("10.0.0.1", "has no port; write 10.0.0.1:8000", id="no port"),
        pytest.param("::1", "has no port; write [::1]:8000", id="IPv6 alone"),
        pytest.param("::ffff:10.0.0.1", "write [::ffff:10.0.0.1]:8000", id="mapped IPv4 alone"),
        pytest.param("[::1]", "is not IP:PORT", id="brackets, no port"),
        pytest.param("fe80::1%eth0:80", "write a routed address", id="zone"),
        pytest.param("[fe80::1%25eth0]:80", "write a routed address", id="zone in brackets"),
        pytest.param("[fe80::1]:80", "write a routed address", id="zone missing"),
        pytest.param("[::ffff:0.0.0.0]:80", "cannot be connected to", id="mapped any-address"),
        pytest.param("[10.0.0.1]:80", "write 10.0.0.1:80", id="IPv4 in brackets"),
        pytest.param("10.0.0.1:99999", "between 1 and 65535", id="port too large"),
        pytest.param("10.0.0.1:8e3", "between 1 and 65535", id="port not decimal"),
        pytest.param("10.0.0.256:80", "does not start with an IP", id="octet too large"),
        pytest.param("", "is not IP:PORT", id="nothing"),
    ],
)
def test_a_wrong_address_is_reported_with_the_right_form(text: str, expected: str) -> None:
    """The message holds what to write instead."""
    with pytest.raises(PydanticCustomError) as caught:
        check_endpoint(text)

    assert expected in caught.value.message()


@pytest.mark.parametrize(
    "url",
    ["ftp://10.0.0.1/", "http://", "http://:80/", "http://a b/", "10.0.0.1", "http://[::1/",
     "http://h:99999/", "http://u@h/", "http://u:p@h/"],
)  # fmt: skip
def test_a_wrong_url_is_refused(url: str) -> None:
    """Only what can be fetched without a secret in the file is taken."""
    with pytest.raises(PydanticCustomError):
        check_url(url)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("[2001:DB8:0:0::1]:80", "[2001:db8::1]:80"),
        ("[2001:db8::0001]:080", "[2001:db8::1]:80"),
        ("10.0.0.1:8000", "10.0.0.1:8000"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
        ("[::FFFF:a00:1]:80", "10.0.0.1:80"),
    ],
)
def test_an_address_has_one_spelling(text: str, canonical: str) -> None:
    """So that two spellings of one address are known for one instance."""
    assert canonical == check_endpoint(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("vllm.example.org:8000", "vllm.example.org:8000"),
        ("GPU-1.svc.:80", "gpu-1.svc:80"),
        ("localhost:080", "localhost:80"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
    ],
)
def test_an_instance_may_have_a_name(text: str, canonical: str) -> None:
    """In lower case and without its final dot."""
    assert canonical == check_instance_address(text)


@pytest.mark.parametrize("text", ["10.0.0:80", "1.2.3.4.5:80", "a..b:80", "-a.b:80", "a.b", "a:0"])
def test_a_slip_in_an_address_is_no_name(text: str) -> None:
    """A last label of digits alone is an IP address that went wrong."""
    with pytest.raises(PydanticCustomError):
        check_instance_address(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("cp", False)],
)
def test_loopback_is_distinguished_from_the_rest(host: str, expected: bool) -> None:
    """Only addresses that no one else reaches count."""
    assert expected == is_loopback(host)
