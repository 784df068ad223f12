"""Overviews of the last day, so that a page can show any moment of it; in bounded memory.

One every five seconds for a quarter of an hour and one a minute for a day, compressed; the oldest
go when there are too many bytes of them. Shares, which change with plans only, are kept once for
all moments that have the same. Instants are Unix seconds.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from controlplane.admin_api.keyed import Document
from controlplane.controller.history import COARSE_SPAN, COARSE_STEP, FINE_SPAN, FINE_STEP
from controlplane.runtime.json_text import dump_in_parts
from controlplane.runtime.kept_files import KeptFile, inflate_json, instant_of

MAX_BYTES = 24_000_000
"""Of compressed overviews and shares together."""
MAX_OVERVIEW = 64_000_000
"""Bytes of one inflated overview."""
TOLERANCE = 0.5
"""Seconds that a cycle may come too early for its moment."""
_FORMAT = b"cats moments 1\n"


@dataclass(frozen=True, slots=True)
class Moment:
    """One packed overview."""

    at: float
    content: bytes
    """Compressed JSON of everything but the shares."""
    shares: str
    """Digest of the shares."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A moment with its shares, as `pack` makes it."""

    moment: Moment
    shares: bytes


def pack(document: Document) -> Packed:
    """Compress a keyed overview; pure, so it may run in another thread."""
    shares = dump_in_parts(document["shares"])
    rest = {name: value for name, value in document.items() if name != "shares"}
    return Packed(
        Moment(
            float(document["at"]),
            zlib.compress(dump_in_parts(rest), 6),
            hashlib.blake2b(shares, digest_size=12).hexdigest(),
        ),
        zlib.compress(shares, 6),
    )


class Moments:
    """The packed overviews of one control plane. Belongs to the event loop's thread."""

    file: ClassVar = KeptFile("moments.bin", max_bytes=4 * MAX_BYTES, save_period=300.0)

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._fine: deque[Moment] = deque()
        self._coarse: deque[Moment] = deque()
        self._shares: dict[str, bytes] = {}
        self._uses: dict[str, int] = {}
        self._bytes = 0

    def due(self, at: float) -> bool:
        """Return whether an overview of the Unix time *at* would be kept."""
        if not self._fine:
            return True
        # A clock that was set back is no reason to wait until it is there again.
        return not -FINE_STEP <= at - self._fine[-1].at < FINE_STEP - TOLERANCE

    def add(self, packed: Packed) -> None:
        """Keep a moment, and drop what is too old, too much, or in the future."""
        moment = packed.moment
        for series in (self._fine, self._coarse):
            while series and series[-1].at > moment.at + FINE_STEP:  # the clock was set back
                self._drop(series.pop())
        self._append(self._fine, moment, packed.shares)
        if not self._coarse or moment.at - self._coarse[-1].at >= COARSE_STEP - TOLERANCE:
            self._append(self._coarse, moment, packed.shares)
        for series, span in ((self._fine, FINE_SPAN), (self._coarse, COARSE_SPAN)):
            while series and series[0].at < moment.at - span:
                self._drop(series.popleft())
        while self._bytes > self._max_bytes and len(self._fine) + len(self._coarse) > 1:
            oldest = self._coarse if len(self._coarse) > 1 else self._fine
            self._drop(oldest.popleft())

    def _append(self, series: deque[Moment], moment: Moment, shares: bytes) -> None:
        if moment.shares not in self._shares:
            self._shares[moment.shares] = shares
            self._bytes += len(shares)
        self._uses[moment.shares] = self._uses.get(moment.shares, 0) + 1
        series.append(moment)
        self._bytes += len(moment.content)

    def _drop(self, moment: Moment) -> None:
        """Account for a moment that has left its series."""
        self._bytes -= len(moment.content)
        self._uses[moment.shares] -= 1
        if not self._uses[moment.shares]:
            del self._uses[moment.shares]
            self._bytes -= len(self._shares.pop(moment.shares))

    @property
    def size(self) -> int:
        """Return the bytes that are held."""
        return self._bytes

    @property
    def reach(self) -> tuple[float, float] | None:
        """Return the oldest and the newest instant; None if there is none."""
        ends = [each.at for series in (self._coarse, self._fine) for each in _ends(series)]
        return (min(ends), max(ends)) if ends else None

    def nearest(self, at: float) -> Callable[[], Document | None]:
        """Return what gives the overview nearest to *at*; it may be called in another thread."""
        known = [*self._coarse, *self._fine]
        if not known:
            return lambda: None
        moment = min(known, key=lambda each: abs(each.at - at))
        shares, reach = self._shares[moment.shares], self.reach

        def unpack() -> Document:
            document: Document = {
                **inflate_json(moment.content, MAX_OVERVIEW),
                "shares": inflate_json(shares, MAX_OVERVIEW),
            }
            return {**document, "reach": reach}

        return unpack

    def encode(self) -> Callable[[], bytes]:
        """Return what makes the file's content; it may be called in another thread."""
        shares = dict(self._shares)
        series = [(b"f", tuple(self._fine)), (b"c", tuple(self._coarse))]

        def make() -> bytes:
            pieces = [_piece(b"s", name, content) for name, content in shares.items()]
            pieces += [
                _piece(kind, each.shares, each.content) for kind, many in series for each in many
            ]
            return _FORMAT + b"".join(pieces)

        return make

    def restore(self, content: bytes) -> str:
        """Restore what `encode` made, as far as it can be read.

        Returns:
            What is wrong with the rest; empty if nothing is.
        """
        if not content.startswith(_FORMAT):
            return "no moments of this format"
        shares: dict[str, bytes] = {}
        try:
            for kind, name, piece in _pieces(content):
                if kind == b"s":
                    inflate_json(piece, MAX_OVERVIEW)  # else it fails when it is shown
                    shares[name] = piece
                    continue
                series = self._fine if kind == b"f" else self._coarse
                moment = Moment(instant_of(inflate_json(piece, MAX_OVERVIEW)), piece, name)
                self._append(series, moment, shares[name])
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            return f"moment unreadable: {error}"
        return ""


def _ends(series: deque[Moment]) -> tuple[Moment, ...]:
    return (series[0], series[-1]) if series else ()


def _piece(kind: bytes, name: str, content: bytes) -> bytes:
    return kind + bytes.fromhex(name) + len(content).to_bytes(4, "big") + content


def _pieces(content: bytes) -> Iterator[tuple[bytes, str, bytes]]:
    """Yield kind, digest and content of each piece.

    Raises:
        ValueError: the last one is cut.
    """
    at = len(_FORMAT)
    while at < len(content):
        kind, name = content[at : at + 1], content[at + 1 : at + 13].hex()
        size = int.from_bytes(content[at + 13 : at + 17], "big")
        piece = content[at + 17 : at + 17 + size]
        if len(piece) < size or kind not in (b"s", b"f", b"c"):
            raise ValueError("cut")
        at += 17 + size
        yield kind, name, piece
