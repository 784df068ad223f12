"""Instances behind HTTPS of their own, such as a provider's API: TLS, host, path and credential.

Those behind a gateway that several share have a host and a path alike, without the rest.

Filters of the cluster: each attempt passes them once its endpoint is chosen. Envoy reads a
credential from a file of its own machine, over SDS; here are only paths and names.
All attempts of a request share one set of headers (Envoy 1.37 to 1.40, measured), so what an
instance needs is taken back before the next attempt, which may go to another instance: nothing of
a credential, and no host or path, reaches an instance that it is not for.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from envoy_data_plane.envoy.config.cluster.v3 import ClusterTransportSocketMatch
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    PathConfigSource,
    TransportSocket,
    TypedExtensionConfig,
    WatchedDirectory,
)
from envoy_data_plane.envoy.extensions.filters.http.credential_injector.v3 import CredentialInjector
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.injected_credentials.generic.v3 import Generic
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.config import BehindGateway, Config, Https, Protocol, Service
from controlplane.config.addresses import is_ip
from controlplane.config.serving import protocol_of, serving_model
from controlplane.resources import names
from controlplane.resources.credentials import credential_name, credentials
from controlplane.resources.packing import pack

_CHOSEN = "x-cats-endpoint-instance"
"""Request header from one filter to the next, which removes it."""

_SAVED = "cats.client"
"""Namespace of dynamic metadata: what the client sent, once an attempt has replaced it."""

_PRIVATE = (
    *("authorization", "cookie", "proxy-authorization"),
    *("api-key", "x-api-key", "x-auth-token", "x-goog-api-key"),
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-envoy-external-address"),
    *("cf-connecting-ip", "true-client-ip", "x-client-ip", "x-real-ip"),
)
"""What the client sent for this fleet, and an instance with a credential of its own must not see:
keys, and where the client is, which Envoy and proxies before it add.
"""

_APPLY = """
function envoy_on_request(handle)
  local headers, saved = handle:headers(), handle:streamInfo():dynamicMetadata()
  local chosen = instances[headers:get(CHOSEN) or ""]
  local secret = chosen and chosen.from and headers:get(chosen.from)
  headers:remove(CHOSEN)
  for _, name in ipairs(injected) do headers:remove(name) end
  local client = saved:get(SAVED)
  if client then
    for _, name in ipairs(replaced) do
      if client[name] then headers:replace(name, client[name]) else headers:remove(name) end
    end
  elseif chosen then
    for _, name in ipairs(replaced) do saved:set(SAVED, name, headers:get(name) or false) end
  end
  if not chosen then return end
  if chosen.host then headers:replace(":authority", chosen.host) end
  headers:replace(":path", chosen.path .. headers:get(":path"))
  if not chosen.from then return end
  for _, name in ipairs(private) do headers:remove(name) end
  local bare = secret and secret:match("^%s*(.-)%s*$") or ""
  if bare ~= "" then headers:replace(chosen.header, chosen.prefix .. bare) end
end
"""


def https_instances(service: Service, fleet: Config) -> list[tuple[str, Https]]:
    """Return the instances of *service* that have HTTPS of their own, by name."""
    return [
        (instance.name, instance.https)
        for instance in fleet.instances
        if instance.https is not None and serving_model(service, instance) is not None
    ]


def transport_name(https: Https) -> str:
    """Return what an endpoint's metadata calls its transport."""
    return f"https {https.name} {https.ca}"


def build_https_transports(service: Service, fleet: Config) -> list[ClusterTransportSocketMatch]:
    """Build the transports of a cluster's HTTPS instances: one for each name and authority."""
    protocol = protocol_of(service, {model.name: model for model in fleet.models})
    http2 = protocol in (Protocol.HTTP2, Protocol.GRPC)
    by_name = {transport_name(https): https for _, https in https_instances(service, fleet)}
    return [
        ClusterTransportSocketMatch(
            name=name,
            match=Struct(fields={names.TRANSPORT_HTTPS: Value(string_value=name)}),
            transport_socket=TransportSocket(
                name="envoy.transport_sockets.tls", typed_config=pack(_context(https, http2=http2))
            ),
        )
        for name, https in sorted(by_name.items())
    ]


def _context(https: Https, *, http2: bool) -> UpstreamTlsContext:
    kind = (
        SubjectAltNameMatcherSanType.IP_ADDRESS
        if is_ip(https.name)
        else SubjectAltNameMatcherSanType.DNS
    )
    return UpstreamTlsContext(
        sni="" if is_ip(https.name) else https.name,
        common_tls_context=CommonTlsContext(
            alpn_protocols=["h2" if http2 else "http/1.1"],
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(filename=https.ca),
                match_typed_subject_alt_names=[
                    SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=https.name))
                ],
            ),
        ),
    )


def build_https_filters(service: Service, fleet: Config) -> list[HttpFilter]:
    """Build the filters of a cluster's instances behind HTTPS or a gateway; none without such."""
    found = https_instances(service, fleet)
    behind = [
        (instance.name, instance.gateway)
        for instance in fleet.instances
        if instance.gateway is not None and serving_model(service, instance) is not None
    ]
    if not found and not behind:
        return []
    return [
        *(_injector(name, https) for name, https in found if https.credential is not None),
        HttpFilter(
            name="cats.endpoint_instance",
            typed_config=pack(
                HeaderMutation(
                    mutations=Mutations(
                        request_mutations=[
                            Mutation(
                                append=HeaderValueOption(
                                    header=HeaderValue(
                                        key=_CHOSEN,
                                        value=f"%UPSTREAM_METADATA({names.METADATA}"
                                        f":{names.METADATA_INSTANCE})%",
                                    ),
                                    append_action=(
                                        HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
                                    ),
                                )
                            )
                        ]
                    )
                )
            ),
        ),
        HttpFilter(
            name="cats.https",
            typed_config=pack(
                Lua(default_source_code=DataSource(inline_string=_script(found, behind)))
            ),
        ),
    ]


def injected_headers(fleet: Config) -> list[str]:
    """Return the request headers in which Envoy hands on credentials; no client may send them."""
    return [_injected(each.name) for each in credentials(fleet)]


def _injected(instance: str) -> str:
    return f"x-cats-credential-{instance.lower()}"


def _injector(name: str, https: Https) -> HttpFilter:
    credential = https.credential
    assert credential is not None  # noqa: S101 -- narrowed by the caller
    secret = SdsSecretConfig(
        name=credential_name(name),
        sds_config=ConfigSource(
            path_config_source=PathConfigSource(
                path=posixpath.join(credential.secrets, f"{credential_name(name)}.yaml"),
                watched_directory=WatchedDirectory(path=credential.secrets),
            ),
            resource_api_version=ApiVersion.V3,
        ),
    )
    return HttpFilter(
        name=f"cats.{credential_name(name)}",
        typed_config=pack(
            CredentialInjector(
                overwrite=True,
                # Without its file only this instance rejects requests, and not the whole service.
                allow_request_without_credential=True,
                credential=TypedExtensionConfig(
                    name="envoy.http.injected_credentials.generic",
                    typed_config=pack(Generic(credential=secret, header=_injected(name))),
                ),
            )
        ),
    )


def _script(found: Sequence[tuple[str, Https]], behind: Sequence[tuple[str, BehindGateway]]) -> str:
    rows, injected = [], []
    private = list(_PRIVATE)
    for name, https in found:
        fields = {"host": https.name, "path": https.path}
        if https.credential is not None:
            header = https.credential.header.lower()
            injected.append(_injected(name))
            private.append(header)
            fields |= {
                "from": _injected(name),
                "header": header,
                "prefix": https.credential.prefix,
            }
        rows.append(_row(name, fields))
    for name, gateway in behind:
        host = {"host": gateway.host} if gateway.host else {}
        rows.append(_row(name, host | {"path": gateway.path}))
    withheld = list(dict.fromkeys(private))
    tables = {
        "instances": rows,
        "injected": [_quote(each) for each in injected],
        "private": [_quote(each) for each in withheld],
        "replaced": [_quote(each) for each in (":authority", ":path", *withheld)],
    }
    head = "".join(f"local {name} = {{{', '.join(each)}}}\n" for name, each in tables.items())
    return f'{head}local CHOSEN, SAVED = "{_CHOSEN}", "{_SAVED}"{_APPLY}'


def _row(name: str, fields: Mapping[str, str]) -> str:
    row = ", ".join(f"[{_quote(key)}] = {_quote(value)}" for key, value in fields.items())
    return f"[{_quote(name)}] = {{{row}}}"


def _quote(text: str) -> str:
    """Return *text* as a Lua string, whatever it holds."""
    return (
        '"'
        + "".join(f"\\{byte:03d}" if _special(byte) else chr(byte) for byte in text.encode())
        + '"'
    )


def _special(byte: int) -> bool:
    return byte < 0x20 or byte > 0x7E or chr(byte) in '"\\'
