"""Certificates that are read again when their files change, so that a rotation needs no restart."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from controlplane.config import Tls
from controlplane.errors import StartError
from controlplane.runtime.log import Logger, get_logger

RENEW_PERIOD = 10.0
"""Seconds between two looks at the files of ports that no client connects to."""


class CertificateFiles:
    """The certificate, key and authority of one port, read again when their files change.

    A handshake is answered with the newest that fit; where a rotation left a pair that does not,
    or a file is missing, the last good ones serve and it is reported.

    Args:
        tls: the files.
        section: where the configuration names them.
        alpn: the protocol that the port speaks.
        verify: whether clients must show a certificate, if there is an authority.
        on_state: called with whether the newest files are in use.
        log: where a change of that is reported.

    Attributes:
        tls: the files.

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
        log: Logger | None = None,
    ) -> None:
        self.tls, self._alpn, self._verify = tls, alpn, verify
        self._section = section
        self._on_state = on_state
        self._log: Logger = get_logger() if log is None else log
        self._files = (tls.cert, tls.key, *((tls.client_ca,) if tls.client_ca else ()))
        try:
            self._seen: tuple[int, ...] | str = _stamps(self._files)
            self._newest = self.context = self._build()
        except ssl.SSLError as error:
            raise StartError(
                f"{section}: {tls.cert}, {tls.key}: not a certificate and its key ({error.reason});"
                " give PEM files, and the key that the certificate was made with"
            ) from error
        except OSError as error:
            raise StartError(
                f"{section}: {error.filename}: {error.strerror};"
                " name a file that is there and that the user of the control plane may read"
            ) from error
        self.context.sni_callback = self._answer
        on_state(True)

    def _build(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.tls.cert, self.tls.key)
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
        handshake.context = self._newest

    def renew(self) -> None:
        """Read the files if they changed; keep the last good ones where they do not fit."""
        seen: tuple[int, ...] | str
        try:
            seen = _stamps(self._files)
            if seen == self._seen:
                return
            self._newest = self._build()
        except ssl.SSLError as error:
            reason = f"certificate and key do not fit ({error.reason})"
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            seen = reason
            if seen == self._seen:
                return
        else:
            self._seen = seen
            self._on_state(True)
            self._log.info("certificates reloaded", section=self._section, file=self.tls.cert)
            return
        self._seen = seen  # tried once, not in each handshake
        self._on_state(False)
        self._log.warning(
            "certificates not reloaded; the last good ones serve",
            section=self._section,
            reason=reason,
            remedy="write certificate and key of one pair to the files that the section names",
        )


async def follow_certificates(files: Iterable[CertificateFiles]) -> None:
    """Look at the files of all ports now and then, so that errors show before a handshake."""
    followed = tuple(files)
    while True:
        await asyncio.sleep(RENEW_PERIOD)
        for each in followed:
            each.renew()


def _stamps(files: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(Path(file).stat().st_mtime_ns for file in files)
