"""Whether certificates fit their keys, and when they end."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator

from controlplane.config import Config, Tls
from controlplane.diagnostics.finding import Finding
from controlplane.runtime.tls import dates_of, load_pair

EXPIRY_WARNING = 14 * 86400.0
"""Seconds before a certificate's end from which it is reported."""


def examine_certificates(config: Config, *, unix_now: float) -> Iterator[Finding]:
    """Look at the files of ``server.tls`` and ``server.admin.tls``."""
    for name, tls in (
        ("server.tls", config.server.tls),
        ("server.admin.tls", config.server.admin.tls),
    ):
        if tls is not None:
            yield from _examine_tls(name, tls, unix_now=unix_now)


def _examine_tls(name: str, tls: Tls, *, unix_now: float) -> Iterator[Finding]:
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls.cert, tls.key)
    except ssl.SSLError as error:
        yield Finding(
            "bad", f"{name}: {tls.cert} and {tls.key} do not fit ({error.reason})",
            "put a certificate and its own key there; they are read again without a restart",
        )  # fmt: skip
        return
    except OSError as error:
        yield Finding(
            "bad", f"{name}: {error.filename or tls.cert}: {error.strerror}",
            "fix the path, and let the server's user read it",
        )  # fmt: skip
        return
    for file in filter(None, (tls.cert, tls.client_ca)):
        dates = dates_of(file)
        if dates is None:
            yield Finding("bad", f"{name}: {file}: no certificate in it", "put a PEM file there")
            continue
        starts, ends = dates
        if starts > unix_now:
            remedy = "wait until then, or set the clock"
            yield Finding("bad", f"{name}: {file} begins {_day(starts)}", remedy)
        elif ends <= unix_now:
            yield Finding("bad", f"{name}: {file} ended {_day(ends)}", "renew it now")
        elif ends - unix_now < EXPIRY_WARNING:
            yield Finding("warning", f"{name}: {file} ends {_day(ends)}", "renew it")


def _day(unix: float) -> str:
    return dt.datetime.fromtimestamp(unix, dt.UTC).date().isoformat()
