"""Certificates that are read again when their files change, so that a rotation needs no restart."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from controlplane.config import Tls
from controlplane.errors import StartError
from controlplane.runtime.files import stat_file
from controlplane.runtime.log import Logger, get_logger
from controlplane.runtime.tls import dates_of, load_pair

RENEW_PERIOD = 10.0
"""Seconds between two looks at the files of ports that no client connects to."""


class CertificateFiles:
    """The certificate, key and authority of one port, read again when their files change.

    A handshake is answered with the newest that fit and are valid today; where a rotation left
    others, or a file is missing, the last good ones serve and it is reported.

    Args:
        tls: the files.
        section: where the configuration names them.
        alpn: the protocol that the port speaks.
        verify: whether clients must show a certificate, if there is an authority.
        on_state: called with whether the newest files are in use, and have not expired.
        unix_time: what certificates are dated by.
        log: where a change of that is reported.

    Attributes:
        tls: the files.
        context: what the port listens with; it hands each handshake on to `answering`.
        answering: what handshakes are answered with.

    Raises:
        StartError: they cannot be used at first.
    """

    def __init__(
        self,
        tls: Tls,
        *,
        section: str,
        alpn: str,
        verify: ssl.VerifyMode,
        on_state: Callable[[bool], None] = lambda _: None,
        unix_time: Callable[[], float] = time.time,
        log: Logger | None = None,
    ) -> None:
        self.tls, self._alpn, self._verify = tls, alpn, verify
        self._section = section
        self._on_state = on_state
        self._log: Logger = get_logger() if log is None else log
        self._files = (tls.cert, tls.key, *((tls.client_ca,) if tls.client_ca else ()))
        self._unix_time = unix_time
        self._reason = ""
        """Why the newest files are not in use; empty if they are."""
        self._look_again_at = math.inf
        self._looked_at = -math.inf
        """Until when what the files said holds if they do not change (Unix time)."""
        try:
            self._seen = _stamps(self._files)
            self.answering = self.context = self._build()
        except ssl.SSLError as error:
            raise StartError(
                f"{section}: {tls.cert}, {tls.key}: not a certificate and its key ({error.reason});"
                " use PEM files, and the private key of that certificate"
            ) from error
        except OSError as error:
            raise StartError(
                f"{section}: {error.filename}: {error.strerror};"
                " name an existing file that the control plane's user may read"
            ) from error
        self.context.sni_callback = self._answer
        _, self._ends = dates_of(tls.cert) or (0.0, math.inf)
        """When the certificate in use expires (Unix time)."""
        # Served even if it has expired: other files repair that without another start.
        self._note(self._find_fault(self.context))

    def _build(self) -> ssl.SSLContext:
        for file in self._files:
            stat_file(Path(file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        load_pair(context, self.tls.cert, self.tls.key)
        context.set_alpn_protocols([self._alpn])
        if self.tls.client_ca:
            context.load_verify_locations(self.tls.client_ca)
            context.verify_mode = self._verify
            # A resumed session is not held to an authority that has changed since.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    def _answer(
        self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        self.renew()
        handshake.context = self.answering

    def renew(self) -> None:
        """Read the files if they changed; keep the last good ones where they do not fit."""
        seen = _stamps(self._files)
        now = self._unix_time()
        # A clock that was set back does not put the next look off by as much.
        changed, due = seen != self._seen, not self._looked_at <= now < self._look_again_at
        if not (changed or due):
            return
        self._looked_at = now
        self._seen = seen  # tried once, not in each handshake
        if isinstance(seen, str):
            self._note(seen)
            return
        try:
            newest = self._build()
        except ssl.SSLError as error:
            self._note(f"certificate and key do not fit ({error.reason})")
        except OSError as error:
            self._note(f"{error.filename}: {error.strerror}")
        else:
            self._note(self._find_fault(newest), changed=changed)

    def _find_fault(self, newest: ssl.SSLContext) -> str:
        """Use *newest* if its certificate is valid today, or return why it is not."""
        now = self._unix_time()
        starts, ends = dates_of(self.tls.cert) or (-math.inf, math.inf)
        if starts <= now < ends:
            self.answering, self._ends = newest, ends
            self._look_again_at = ends
            return ""
        # A clock may be wrong, and is set right without a change of the files.
        self._look_again_at = now + RENEW_PERIOD
        word, day = ("begins", starts) if now < starts else ("ended", ends)
        date = dt.datetime.fromtimestamp(day, dt.UTC).isoformat(timespec="seconds")
        return f"the validity of {self.tls.cert} {word} {date}"

    def _note(self, reason: str, *, changed: bool = False) -> None:
        """Report that the newest files are in use, or why they are not, when that changes."""
        self._on_state(not reason)
        before, self._reason = self._reason, reason
        if reason and reason != before:
            expired = self._ends <= self._unix_time()
            self._log.warning(
                "certificates not reloaded; the last good ones serve",
                section=self._section,
                reason=reason,
                in_use="expired" if expired else "valid",
                remedy="write certificate and key of one pair, valid today, to the files that the"
                " section names",
            )
        elif not reason and (changed or before):
            self._log.info("certificates reloaded", section=self._section, file=self.tls.cert)


async def follow_certificates(files: Iterable[CertificateFiles]) -> None:
    """Look at the files of all ports now and then, so that errors show before a handshake."""
    followed = tuple(files)
    while True:
        await asyncio.sleep(RENEW_PERIOD)
        for each in followed:
            each.renew()


def _stamps(files: tuple[str, ...]) -> tuple[tuple[int, ...], ...] | str:
    """Return what changes with the files, or why one of them cannot be read."""
    try:
        found = [stat_file(Path(file)) for file in files]
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)
