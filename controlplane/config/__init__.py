"""``fleet.yaml`` to values, with every fault named at its place.

What is imported from here is loaded when it is asked for: an agent needs a name or two, and not
the fleet's whole schema.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlplane.config.dialects import Dialect, EngineName, Telemetry
    from controlplane.config.discovered import (
        Conflict,
        DiscoveredInstance,
        DiscoveredMatch,
        MergedConfig,
        ObjectRef,
        RejectedInstance,
    )
    from controlplane.config.engine import Engine
    from controlplane.config.json_schema import config_schema
    from controlplane.config.merge import unserved
    from controlplane.config.parse import Checked, check_config, parse_config
    from controlplane.config.schema import Config
    from controlplane.config.schema.discovery import (
        Discovery,
        DiscoveryKind,
        DiscoveryRule,
        FoundOrca,
        FoundScrape,
        KubernetesApi,
        KubernetesCluster,
        NodePrior,
    )
    from controlplane.config.schema.envoy import (
        CircuitBreakers,
        Envoy,
        HealthCheck,
        InstanceTls,
        OutlierDetection,
        Retries,
    )
    from controlplane.config.schema.gateways import BehindGateway
    from controlplane.config.schema.https import Https
    from controlplane.config.schema.instances import (
        Instance,
        InstanceModel,
        InstancePower,
        MetricsPage,
        Orca,
        Scrape,
    )
    from controlplane.config.schema.models import Model, ModelKind, Protocol
    from controlplane.config.schema.network import Network, Path
    from controlplane.config.schema.prices import RequestPrice, RequestTokens, Tariffs
    from controlplane.config.schema.server import (
        Admin,
        AgentRights,
        BusTls,
        Identity,
        Role,
        Server,
        Tls,
        Tracing,
        Transport,
        Webhook,
    )
    from controlplane.config.schema.services import (
        Affinity,
        BodySize,
        Delay,
        HttpRouteSource,
        Match,
        PolicyName,
        Residency,
        Service,
        ServiceModel,
        Slo,
        Task,
    )
    from controlplane.config.schema.sites import (
        DeviceBattery,
        Site,
        SiteKind,
        SiteListener,
        SitePower,
    )
    from controlplane.config.schema.steering import Mode, Override, Steering
    from controlplane.config.schema.waking import Wake

_NAMES = {
    "dialects": "Dialect EngineName Telemetry",
    "discovered": (
        "Conflict DiscoveredInstance DiscoveredMatch MergedConfig ObjectRef RejectedInstance"
    ),
    "engine": "Engine",
    "json_schema": "config_schema",
    "merge": "unserved",
    "parse": "Checked check_config parse_config",
    "schema": "Config",
    "schema.discovery": (
        "Discovery DiscoveryKind DiscoveryRule FoundOrca FoundScrape KubernetesApi "
        "KubernetesCluster NodePrior"
    ),
    "schema.envoy": "CircuitBreakers Envoy HealthCheck InstanceTls OutlierDetection Retries",
    "schema.gateways": "BehindGateway",
    "schema.https": "Https",
    "schema.instances": "Instance InstanceModel InstancePower MetricsPage Orca Scrape",
    "schema.models": "Model ModelKind Protocol",
    "schema.network": "Network Path",
    "schema.prices": "RequestPrice RequestTokens Tariffs",
    "schema.server": "Admin AgentRights BusTls Identity Role Server Tls Tracing Transport Webhook",
    "schema.services": (
        "Affinity BodySize Delay HttpRouteSource Match PolicyName Residency Service "
        "ServiceModel Slo Task"
    ),
    "schema.sites": "DeviceBattery Site SiteKind SiteListener SitePower",
    "schema.steering": "Mode Override Steering",
    "schema.waking": "Wake",
}
"""Module -> the names that are imported from it, as above."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    value: object = getattr(module, name)
    globals()[name] = value
    return value
