"""How Envoys speak TLS to instances: what they show, whom they trust, by which names.

Only paths and names are written here: a key is read by the Envoy whose it is, and by no one else.
Certificates come from files by SDS, since only then does Envoy take rotated ones without a restart.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import ClusterTransportSocketMatch
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    PathConfigSource,
    TransportSocket,
    WatchedDirectory,
)
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.config import InstanceTls
from controlplane.config.addresses import is_ip
from controlplane.resources import names
from controlplane.resources.packing import pack


def build_transports(tls: InstanceTls) -> dict[str, Any]:
    """Build the fields of a cluster that say how its endpoints are spoken to.

    TLS is what an endpoint gets that says nothing, so that one whose metadata is lost is not
    spoken to in clear text.
    """
    return {
        "transport_socket": TransportSocket(
            name="envoy.transport_sockets.tls", typed_config=pack(_context(tls))
        ),
        "transport_socket_matches": [
            ClusterTransportSocketMatch(
                name=names.TRANSPORT_PLAIN,
                match=Struct(fields={names.TRANSPORT_PLAIN: Value(bool_value=True)}),
                transport_socket=TransportSocket(
                    name="envoy.transport_sockets.raw_buffer", typed_config=pack(RawBuffer())
                ),
            )
        ],
    }


def _context(tls: InstanceTls) -> UpstreamTlsContext:
    # Envoy's clients speak TLS 1.2 at most by default, and are not: in 1.3 a handshake
    # is over before the instance has looked at the certificate, so that a check of the connection
    # would find an instance healthy that is about to refuse every request.
    own = [] if tls.cert is None else [_secret(names.INSTANCES_OWN, tls.secrets)]
    return UpstreamTlsContext(
        common_tls_context=CommonTlsContext(
            tls_certificate_sds_secret_configs=own,
            combined_validation_context=CommonTlsContextCombinedCertificateValidationContext(
                default_validation_context=CertificateValidationContext(
                    match_typed_subject_alt_names=[_name(each) for each in tls.names]
                ),
                validation_context_sds_secret_config=_secret(names.INSTANCES_CA, tls.secrets),
            ),
        )
    )


def _secret(name: str, directory: str) -> SdsSecretConfig:
    return SdsSecretConfig(
        name=name,
        sds_config=ConfigSource(
            path_config_source=PathConfigSource(
                path=posixpath.join(directory, f"{name}.yaml"),
                # A mounted ConfigMap changes by a link that is swapped in its directory.
                watched_directory=WatchedDirectory(path=directory),
            ),
            resource_api_version=ApiVersion.V3,
        ),
    )


def _name(pattern: str) -> SubjectAltNameMatcher:
    if "://" in pattern:
        kind = SubjectAltNameMatcherSanType.URI
    elif is_ip(pattern):
        kind = SubjectAltNameMatcherSanType.IP_ADDRESS
    else:
        kind = SubjectAltNameMatcherSanType.DNS
    if "*" not in pattern:
        return SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=pattern))
    regex = "[^/]*".join(map(re.escape, pattern.split("*")))
    return SubjectAltNameMatcher(
        san_type=kind, matcher=StringMatcher(safe_regex=RegexMatcher(regex=regex))
    )
