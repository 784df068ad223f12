"""What happens on the xDS streams, into metrics and the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prometheus_client.metrics import MetricWrapperBase

from controlplane.controller.metrics import Metrics
from controlplane.grpc_services.envoys import XdsEvent, XdsEventKind
from controlplane.resources.generations import OLDEST_SUPPORTED, UNSUPPORTED
from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.log import Logger
from controlplane.xds.types import PUSH_ORDER, short_type

LINES_PER_MINUTE = 600.0
"""Lines of the log that Envoys together can cause by coming and going."""

Family = TypeVar("Family", bound=MetricWrapperBase)


class _ByType(dict[str, Family]):
    """A family's child for each type, looked up once: a push to a thousand streams is two
    thousand events. Types that we do not serve share one child, since clients invent them.
    """  # noqa: D205

    def __init__(self, family: Family) -> None:
        self._other = family.labels("other")
        super().__init__({url: family.labels(short_type(url)) for url in PUSH_ORDER})

    def __missing__(self, type_url: str) -> Family:
        return self._other


class XdsObserver:
    """Counts and says each event."""

    def __init__(
        self, metrics: Metrics, log: Logger, on_change: Callable[[XdsEvent], None]
    ) -> None:
        self._metrics = metrics
        self._log = ClientLog(log, lines_per_minute=LINES_PER_MINUTE)
        self._on_change = on_change
        self._pushes = _ByType(metrics.pushes)
        self._bytes = _ByType(metrics.pushed_bytes)
        self._acks = _ByType(metrics.acks)
        self._nacks = _ByType(metrics.nacks)
        self._ack_seconds = _ByType(metrics.ack_seconds)

    def __call__(self, event: XdsEvent) -> None:
        """Receive one event."""
        match event.what:
            case XdsEventKind.SENT:
                self._pushes[event.type_url].inc()
                self._bytes[event.type_url].inc(event.size)
            case XdsEventKind.ACKED:
                self._acks[event.type_url].inc()
                if event.latency is not None:
                    self._ack_seconds[event.type_url].observe(event.latency)
            case XdsEventKind.NACKED:
                self._nacks[event.type_url].inc()
            case XdsEventKind.STALE:
                return
            case _:
                self._log_rare(event)
        self._on_change(event)

    def _log_rare(self, event: XdsEvent) -> None:
        match event.what:
            case XdsEventKind.CONNECTED:
                self._metrics.streams.labels("delta" if event.delta else "sotw").inc()
                self._log.info("Envoy connected", event.envoy, envoy=event.envoy, site=event.site)
                if event.role == UNSUPPORTED.role:
                    self._log.warning(
                        "Envoy version not supported",
                        event.envoy,
                        envoy=event.envoy,
                        site=event.site,
                        version=event.text,
                        oldest=OLDEST_SUPPORTED,
                        remedy=f"upgrade it to {OLDEST_SUPPORTED} or newer; its requests are not"
                        " observed until then",
                    )
            case XdsEventKind.DISCONNECTED:
                self._log.info(
                    "Envoy disconnected", event.envoy, envoy=event.envoy, site=event.site
                )
            case XdsEventKind.UNKNOWN_SITE:
                self._metrics.unknown_sites.inc()
            case XdsEventKind.SEND_TIMEOUT:
                self._metrics.stream_faults.labels(event.what.value).inc()
                self._log.warning(
                    "stream closed because Envoy does not read it",
                    event.envoy,
                    envoy=event.envoy,
                    site=event.site,
                    remedy="check whether it hangs or its network drops packets",
                )
            case _:
                self._metrics.stream_faults.labels(event.what.value).inc()
