"""Conditions that no request can meet are errors, with what to write instead."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from controlplane.config.matches import check_match_headers, check_match_host, check_match_path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/*/chat", "elsewhere than at its end"),
        ("/v1/chat?stream=true", "write /v1/chat;"),
        ("/v1/chat#top", "write /v1/chat;"),
        ("/v1//chat", "write /v1/chat;"),
        ("/v1/../chat", "are resolved before"),
        ("/v1/./*", "are resolved before"),
        ("/v1\\chat", "are resolved before"),
        ("/v1/ça", "write /v1/%C3%A7a"),
        ("/v1/%2e%2E/chat", "are resolved before"),
        ("/v1/%63hat", "arrives as /v1/chat;"),
        ("/%7Eme/*", r"arrives as /~me/\*;"),
        ("/v1/{id}/chat", r"arrives as /v1/%7Bid%7D/chat; write that, or /v1/\*"),
        ("/v1/a|b", "arrives as /v1/a%7Cb;"),
        ("/v1/a\x01", "control character"),
        ("/v1/a\x7f", "control character"),
        ("/v1/a%00", "control character"),
        ("/v1/.*", r"regular expression; write /v1/\*,"),
    ],
)
def test_a_path_that_no_request_can_have_is_an_error(path: str, words: str) -> None:
    """With what to write instead."""
    with pytest.raises(PydanticCustomError, match=words):
        check_match_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/*",
        "/v1/chat",
        "/v1/*",
        "/v1/chat*",
        "/a.b/..c",
        "/%C3%A7",
        "/v1/..*",
        "/%2F",
        "/a;b=c,d@e:f",
    ],
)
def test_a_path_that_requests_can_have_is_taken(path: str) -> None:
    """Prefixes, dots within names and percent-encoded bytes among them."""
    assert path == check_match_path(path)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Chat.Example.com.", "chat.example.com"),
        ("*.Example.com", "*.example.com"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:a00:1", "::ffff:10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_a_host_has_one_spelling(text: str, host: str) -> None:
    """Lower case, no final dot, IPv6 as short as can be; so that equal matches are found."""
    assert host == check_match_host(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chat.example.com:8080", "write one such as chat.example.com, without a port"),
        ("[2001:DB8::1]:80", "write one such as 2001:db8::1, without"),
        ("https://chat.example.com/v1", "write one such as chat.example.com, without"),
        ("münchen.example", "write one such as xn--mnchen-3ya.example, without"),
        ("*.10.0.0.1", "is no host name"),
        ("[10.0.0.1]", "is no host name"),
        ("fe80::1%eth0", "is no host name"),
        ("a.*.example.com", "is no host name"),
        ("*", "is no host name"),
        ("", "is no host name"),
    ],
)
def test_a_host_that_no_request_can_ask_for_is_an_error(text: str, words: str) -> None:
    """With what to write instead, where that can be seen."""
    with pytest.raises(PydanticCustomError, match=words):
        check_match_host(text)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-a": " b"}, "write 'b'"),
        ({"x-a": "b\t"}, "write 'b'"),
        ({"X-A": "b", "x-a": "c"}, "is named twice"),
        ({"Connection": "close"}, "choose a header of your own"),
        ({"x-envoy-upstream-rq-timeout-ms": "5"}, "choose a header of your own"),
    ],
)
def test_a_header_that_no_request_can_have_is_an_error(headers: dict[str, str], words: str) -> None:
    """With what to write instead."""
    with pytest.raises(PydanticCustomError, match=words):
        check_match_headers(headers)


def test_headers_that_requests_can_have_are_taken() -> None:
    """An empty value among them, and names that begin as Envoy's own."""
    headers = {"x-a": "", "X-Service": "chat", "x-envoy-peer-metadata-id": "a", "te": "trailers"}
    assert headers == check_match_headers(headers)
