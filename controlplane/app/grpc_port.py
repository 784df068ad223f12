"""What is served on the gRPC port, on one transport: xDS, reports, status, scaling, agents."""

from __future__ import annotations

from controlplane import __version__
from controlplane.app.listeners import AnyGrpcServer
from controlplane.auth.agent_rights import AgentGate
from controlplane.auth.identity import IdentityCheck
from controlplane.config import Role, Transport
from controlplane.controller.control_plane import ControlPlane
from controlplane.grpc_services.ads import XdsService
from controlplane.grpc_services.agents import AgentService
from controlplane.grpc_services.csds import ClientStatusService
from controlplane.grpc_services.envoy_metrics import EnvoyTelemetry
from controlplane.grpc_services.external_scaler import ExternalScaler
from controlplane.grpc_services.handshakes import FailedHandshakes
from controlplane.grpc_services.xds_settings import XdsSettings, limits
from controlplane.grpc_transport.limits import ServerLimits
from controlplane.grpc_transport.server import GrpcServer
from controlplane.model import Source


def build_identities(control: ControlPlane) -> IdentityCheck:
    """Return the check of clients' names, which follows the configuration."""
    server = control.config.server
    check = IdentityCheck(
        server.identities,
        enforced=server.tls is not None and server.tls.client_ca is not None,
        on_refused=lambda role: control.metrics.clients_refused.labels(role.value).inc(),
        clock=control.clock,
        log=control.log,
    )
    control.configuration.changed.subscribe(
        lambda change: check.reconfigure(change.config.server.identities)
    )
    return check


def _make_transport(control: ControlPlane, xds: XdsSettings, max_connections: int) -> AnyGrpcServer:
    configured = control.config.server
    if configured.transport is Transport.GRPCIO:
        from controlplane.grpc_transport.grpcio import GrpcioServer  # noqa: PLC0415 -- 20 MB

        return GrpcioServer(limits=limits(xds))
    return GrpcServer(
        limits=limits(xds),
        server_limits=ServerLimits(
            max_connections=max_connections,
            max_per_address=configured.max_connections_per_address,
        ),
        on_refused=control.metrics.connections_refused.inc,
        on_cut=control.metrics.connections_cut.inc,
    )


def build_grpc(
    control: ControlPlane, identities: IdentityCheck, max_connections: int
) -> AnyGrpcServer:
    """Return a server of every gRPC service, to be bound."""
    xds = XdsSettings(identifier=f"cats/{__version__}")
    server = _make_transport(control, xds, max_connections)
    control.metrics.connections.set_function(lambda: server.connections)
    XdsService(
        control.views,
        control.registry,
        resolve_site=control.sites.resolve,
        settings=xds,
        clock=control.clock,
        identities=identities,
    ).serve_on(server)
    observed = EnvoyTelemetry(
        control.config,
        resolve_site=control.sites.resolve,
        on_reports=control.reports.receive_all,
        on_loads=control.reports.receive_all,
        on_latencies=control.reports.receive_all,
        on_handshakes=FailedHandshakes(
            lambda service, reason, count: control.metrics.instance_tls_failures.labels(
                service, reason
            ).inc(count),
            clock=control.clock,
            log=control.log,
        ).receive,
        on_refused=lambda _: control.metrics.reports.labels(Source.ENVOY.value, "refused").inc(),
        clock=control.clock,
        identities=identities,
    )
    observed.serve_on(server)
    control.configuration.changed.subscribe(lambda change: observed.reconfigure(change.config))
    ExternalScaler(
        lambda: None if control.plan is None else control.plan.scaling, identities=identities
    ).serve_on(server)
    ClientStatusService(
        control.registry,
        epoch=lambda: control.epoch,
        clock=control.clock,
        identities=identities,
    ).serve_on(server)
    gate = AgentGate(
        control.config,
        enforced=identities.enforced,
        on_refused=lambda: control.metrics.clients_refused.labels(Role.AGENT.value).inc(),
    )
    control.configuration.changed.subscribe(lambda change: gate.reconfigure(change.config))
    AgentService(
        control.receive,
        clock=control.clock,
        identities=identities,
        gate=gate,
        registry=control.agents,
    ).serve_on(server)
    return server
