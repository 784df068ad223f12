"""The exception by which a served call ends itself with a status."""

from __future__ import annotations

import grpc


class Refused(Exception):  # noqa: N818 -- says what happens to the call
    """Ends a call or stream with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
