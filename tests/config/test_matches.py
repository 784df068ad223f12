"""Conditions that no request can meet are errors, with what to write instead."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from controlplane.config.matches import check_match_path


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
    ],
)
def test_a_path_that_no_request_can_have_is_an_error(path: str, words: str) -> None:
    """With what to write instead."""
    with pytest.raises(PydanticCustomError, match=words):
        check_match_path(path)


@pytest.mark.parametrize(
    "path", ["/", "/*", "/v1/chat", "/v1/*", "/v1/chat*", "/a.b/..c", "/%C3%A7"]
)
def test_a_path_that_requests_can_have_is_taken(path: str) -> None:
    """Prefixes, dots within names and percent-encoded bytes among them."""
    assert path == check_match_path(path)
