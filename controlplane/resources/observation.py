"""What Envoys are informed to observe: per service and instance, counts and times of real requests.

Builds the access loggers that turn each upstream attempt into statistics; the bootstrap sends
these to the control plane. Nothing in the path of a request waits for it.

An attempt is logged, not a request: when an instance refuses and a retry succeeds elsewhere, the
one that refused is charged. See Envoy's ``envoy.access_loggers.stats`` and
``envoy.stat_sinks.metrics_service``.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    LogTypeFilter,
    OrFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.stats.v3 import (
    Config,
    ConfigCounter,
    ConfigGauge,
    ConfigGaugePairedAddSubtract,
    ConfigHistogram,
    ConfigHistogramUnit,
    ConfigStat,
    ConfigTag,
)
from envoy_data_plane.envoy.type.v3 import Scope

from controlplane.resources import names
from controlplane.resources.generations import StatsLog
from controlplane.resources.packing import pack

_LATENCY = "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%"
_TTFT = "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%"

_SERVICE = ConfigTag(name=names.TAG_SERVICE, value_format="%ROUTE_NAME%")
_INSTANCE = ConfigTag(
    name=names.TAG_INSTANCE,
    value_format=f"%UPSTREAM_METADATA({names.METADATA}:{names.METADATA_INSTANCE})%",
)
_CODE = ConfigTag(name=names.TAG_CODE, value_format="%RESPONSE_CODE%")
_FLAGS = ConfigTag(name=names.TAG_FLAGS, value_format="%RESPONSE_FLAGS%")

_ENDED = AccessLogFilter(log_type_filter=LogTypeFilter(types=[AccessLogType.UpstreamEnd]))
_STARTED = AccessLogFilter(log_type_filter=LogTypeFilter(types=[AccessLogType.UpstreamPoolReady]))


def _status(op: ComparisonFilterOp, value: int) -> AccessLogFilter:
    return AccessLogFilter(
        status_code_filter=StatusCodeFilter(
            comparison=ComparisonFilter(
                op=op, value=RuntimeUInt32(default_value=value, runtime_key="cats.unused")
            )
        )
    )


_GOT_HEADERS = _status(ComparisonFilterOp.GE, 200)
_SUCCEEDED = AccessLogFilter(
    and_filter=AndFilter(
        filters=[
            _ENDED,
            _GOT_HEADERS,
            _status(ComparisonFilterOp.LE, 399),
            # Set once the last byte came. A client that left before has no such time, and its
            # request says nothing of how long the instance would have taken.
            AccessLogFilter(
                extension_filter=ExtensionFilter(
                    name="envoy.access_loggers.extension_filters.cel",
                    typed_config=pack(ExpressionFilter(expression="has(response.backend_latency)")),
                )
            ),
        ]
    )
)
_RUNNING = AccessLogFilter(
    or_filter=OrFilter(
        filters=[
            _STARTED,
            # An attempt that found no connection was never added. One that broke before its
            # headers is subtracted by Envoy when its stream closes.
            AccessLogFilter(and_filter=AndFilter(filters=[_ENDED, _GOT_HEADERS])),
        ]
    )
)
_REPEATED_CUT_OR_UNSENT = AccessLogFilter(
    or_filter=OrFilter(
        filters=[
            AccessLogFilter(
                extension_filter=ExtensionFilter(
                    name="envoy.access_loggers.extension_filters.cel",
                    typed_config=pack(
                        ExpressionFilter(expression="upstream.request_attempt_count > 1u")
                    ),
                )
            ),
            AccessLogFilter(
                response_flag_filter=ResponseFlagFilter(flags=["UT", "SI", "DT", "UH"])
            ),
        ]
    )
)


def build_request_loggers(log: StatsLog = StatsLog.SCOPE) -> list[AccessLog]:
    """Build the connection manager's logger of clients' requests.

    The log of attempts does not number them, does not see a route's timeout cut an answer, and has
    none of a request for which there was no instance.
    """
    if log is StatsLog.NONE:
        return []
    tags = [
        *(_SERVICE, _INSTANCE, _CODE, _FLAGS),
        ConfigTag(name=names.TAG_ATTEMPTS, value_format="%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ]
    stat = ConfigStat(name=names.STAT_CLIENT_REQUESTS, tags=tags)
    config = _config(counters=[ConfigCounter(stat=stat, value_fixed=1)])
    return [_logger(_scoped(config, log), _REPEATED_CUT_OR_UNSENT)]


def build_upstream_loggers(log: StatsLog = StatsLog.SCOPE) -> list[AccessLog]:
    """Build the loggers for the router's ``upstream_log``; they need its log at pool ready."""
    if log is StatsLog.NONE:
        return []
    loggers = [(_attempts(), _ENDED), (_times(), _SUCCEEDED)]
    if log is not StatsLog.PREFIX_WITHOUT_GAUGES:
        loggers.append((_in_progress(), _RUNNING))
    return [_logger(_scoped(config, log), only) for config, only in loggers]


def _scoped(config: Config, log: StatsLog) -> Config:
    # Envoy rejects a log that has both.
    if log is StatsLog.SCOPE:
        config.stats_scope = Scope(prefix=names.STATS_PREFIX)
    else:
        config.stat_prefix = names.STATS_PREFIX
    return config


def _attempts() -> Config:
    tags = [_SERVICE, _INSTANCE, _CODE, _FLAGS]
    return _config(
        counters=[
            ConfigCounter(stat=ConfigStat(name=names.STAT_REQUESTS, tags=tags), value_fixed=1)
        ]
    )


def _times() -> Config:
    tags = [_SERVICE, _INSTANCE]
    return _config(
        counters=[
            ConfigCounter(stat=ConfigStat(name=names.STAT_ANSWERS, tags=tags), value_fixed=1),
            ConfigCounter(
                stat=ConfigStat(name=names.STAT_LATENCY, tags=tags), value_format=_LATENCY
            ),
            ConfigCounter(stat=ConfigStat(name=names.STAT_TTFT, tags=tags), value_format=_TTFT),
        ],
        # Per service only: what was promised is promised for a service, and a histogram for each
        # instance would be most of what is sent.
        histograms=[
            ConfigHistogram(
                stat=ConfigStat(name=name, tags=[_SERVICE]),
                unit=ConfigHistogramUnit.Microseconds,
                value_format=value,
            )
            for name, value in (
                (names.STAT_LATENCY_HISTOGRAM, _LATENCY),
                (names.STAT_TTFT_HISTOGRAM, _TTFT),
            )
        ],
    )


def _in_progress() -> Config:
    return _config(
        gauges=[
            ConfigGauge(
                stat=ConfigStat(name=names.STAT_IN_PROGRESS, tags=[_SERVICE, _INSTANCE]),
                value_fixed=1,
                add_subtract=ConfigGaugePairedAddSubtract(
                    add_log_type=AccessLogType.UpstreamPoolReady,
                    sub_log_type=AccessLogType.UpstreamEnd,
                ),
            )
        ]
    )


def _config(
    *,
    counters: list[ConfigCounter] | None = None,
    gauges: list[ConfigGauge] | None = None,
    histograms: list[ConfigHistogram] | None = None,
) -> Config:
    return Config(
        counters=counters or [],
        gauges=gauges or [],
        histograms=histograms or [],
    )


def _logger(config: Config, only: AccessLogFilter) -> AccessLog:
    return AccessLog(name="envoy.access_loggers.stats", filter=only, typed_config=pack(config))
