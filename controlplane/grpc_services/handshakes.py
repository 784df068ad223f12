"""Says which services' instances Envoys cannot speak TLS with, and what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.log import Logger, get_logger

_REMEDIES: Mapping[str, str] = {
    "authority": "give the instance a certificate that envoy.instance_tls.ca signed, and that has"
    " not expired",
    "name": "add a name of the instance's certificate to envoy.instance_tls.names, or give it one",
    "no certificate": "let the instance show a certificate",
    "handshake": "see that the instance speaks TLS, or has tls: false, and takes the certificate"
    " of envoy.instance_tls.cert",
}


class FailedHandshakes:
    """Counts them all and logs a few.

    Args:
        on_failed: takes service, reason and how many.
        clock: seconds, monotonic.
        log: takes one line a minute for each service, site and reason.
    """

    def __init__(
        self,
        on_failed: Callable[[str, str, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        log: Logger | None = None,
    ) -> None:
        self._on_failed = on_failed
        self._log = ClientLog(get_logger(part="observation") if log is None else log, clock=clock)

    def receive(self, envoy: str, site: str, failed: Mapping[tuple[str, str], float]) -> None:
        """Count (service, reason) -> failures of one Envoy; services and sites are configured."""
        for (service, reason), count in failed.items():
            self._on_failed(service, reason, count)
            self._log.warning(
                "TLS handshake with instance failed",
                (service, site, reason),
                service=service,
                site=site,
                envoy=envoy[:256],
                reason=reason,
                remedy=_REMEDIES[reason],
            )
