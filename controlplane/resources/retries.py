"""When Envoy tries a request again, and at which instance."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import Metadata
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    RetryPolicyRateLimitedRetryBackOff,
    RetryPolicyResetHeader,
    RetryPolicyResetHeaderFormat,
    RetryPolicyRetryHostPredicate,
    RetryPolicyRetryPriority,
)
from envoy_data_plane.envoy.extensions.retry.host.omit_host_metadata.v3 import (
    OmitHostMetadataConfig,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.extensions.retry.priority.previous_priorities.v3 import (
    PreviousPrioritiesConfig,
)
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.config import Envoy, Service
from controlplane.resources import names
from controlplane.resources.packing import pack, seconds

_GRPC_RETRIES = "unavailable,resource-exhausted"
HOST_SELECTION_ATTEMPTS = 300
"""How often a retry that picks a host already tried may pick again. Round robin gives a share s its
turn once in 1/s picks, so a retry leaves a dead instance that has 99 % for one that has 1; a pick
costs well below a microsecond."""


def build_retry_policy(
    service: Service, envoy: Envoy, *, fallback: bool, own: bool, grpc: bool
) -> RetryPolicy | None:
    """Build the retry policy of one service; None if nothing is retried or waited for.

    Args:
        service: whose requests they are.
        envoy: the settings of all Envoys.
        fallback: whether endpoints of a lower priority may be tried.
        own: whether the last attempt may go to the own model of the client site, a device.
        grpc: whether the requests are calls of gRPC.
    """
    retries, first_byte = envoy.retries, service.longest_first_byte
    if retries.attempts == 0 and (first_byte is None or service.waits_on):
        return None
    return RetryPolicy(
        retry_on=f"{retries.on},{_GRPC_RETRIES}" if grpc else retries.on,
        num_retries=retries.attempts,
        # Ends with the answer's headers, so it cuts no stream.
        per_try_timeout=None if first_byte is None else seconds(first_byte),
        rate_limited_retry_back_off=_back_off(retries.retry_after),
        retriable_status_codes=list(retries.status_codes),
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=pack(PreviousHostsPredicate()),
            ),
            *([_own_model()] if own else []),
        ],
        host_selection_retry_max_attempts=HOST_SELECTION_ATTEMPTS,
        # The last retry only: until then the better instances are tried.
        retry_priority=RetryPolicyRetryPriority(
            name="envoy.retry_priorities.previous_priorities",
            typed_config=pack(PreviousPrioritiesConfig(update_frequency=retries.attempts)),
        )
        if fallback and retries.attempts
        else None,
    )


def _own_model() -> RetryPolicyRetryHostPredicate:
    """Build what leads a device's retry to its own model: without a link all others fail."""
    remote = Struct(fields={names.REMOTE: Value(bool_value=True)})
    return RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.omit_host_metadata",
        typed_config=pack(
            OmitHostMetadataConfig(
                metadata_match=Metadata(filter_metadata={names.LOAD_BALANCING: remote})
            )
        ),
    )


def _back_off(longest: float) -> RetryPolicyRateLimitedRetryBackOff | None:
    if longest == 0:
        return None
    header = RetryPolicyResetHeader(name="retry-after", format=RetryPolicyResetHeaderFormat.SECONDS)
    return RetryPolicyRateLimitedRetryBackOff(reset_headers=[header], max_interval=seconds(longest))
