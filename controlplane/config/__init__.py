"""``fleet.yaml`` to values, with every fault named at its place.

What is imported from here is loaded when it is asked for: an agent needs a name or two, and not
the fleet's whole schema.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlplane.config.dialects import Dialect, EngineName, Telemetry
    from controlplane.config.engine import Engine
    from controlplane.config.json_schema import config_schema
    from controlplane.config.merge import Clash, Found, Merged, ObjectRef, Refused, unserved
    from controlplane.config.parse import Checked, check_config, parse_config
    from controlplane.config.schema import (
        Admin,
        Affinity,
        AgentRights,
        BusTls,
        CircuitBreakers,
        Config,
        Delay,
        Discovery,
        DiscoveryKind,
        DiscoveryRule,
        Envoy,
        FoundOrca,
        FoundScrape,
        HealthCheck,
        Identity,
        Instance,
        InstanceModel,
        InstancePower,
        InstanceTls,
        KubernetesApi,
        KubernetesCluster,
        Match,
        Mode,
        Model,
        ModelKind,
        Network,
        NodePrior,
        Orca,
        OutlierDetection,
        Override,
        Path,
        PolicyName,
        Protocol,
        Residency,
        Retries,
        Role,
        Scrape,
        Server,
        Service,
        ServiceModel,
        Site,
        SiteKind,
        SiteListener,
        SitePower,
        Slo,
        Steering,
        Task,
        Tls,
        Tracing,
        Transport,
        Webhook,
    )

__all__ = [
    "Admin",
    "Affinity",
    "AgentRights",
    "BusTls",
    "Checked",
    "CircuitBreakers",
    "Clash",
    "Config",
    "Delay",
    "Dialect",
    "Discovery",
    "DiscoveryKind",
    "DiscoveryRule",
    "Engine",
    "EngineName",
    "Envoy",
    "Found",
    "FoundOrca",
    "FoundScrape",
    "HealthCheck",
    "Identity",
    "Instance",
    "InstanceModel",
    "InstancePower",
    "InstanceTls",
    "KubernetesApi",
    "KubernetesCluster",
    "Match",
    "Merged",
    "Mode",
    "Model",
    "ModelKind",
    "Network",
    "NodePrior",
    "ObjectRef",
    "Orca",
    "OutlierDetection",
    "Override",
    "Path",
    "PolicyName",
    "Protocol",
    "Refused",
    "Residency",
    "Retries",
    "Role",
    "Scrape",
    "Server",
    "Service",
    "ServiceModel",
    "Site",
    "SiteKind",
    "SiteListener",
    "SitePower",
    "Slo",
    "Steering",
    "Task",
    "Telemetry",
    "Tls",
    "Tracing",
    "Transport",
    "Webhook",
    "check_config",
    "config_schema",
    "parse_config",
    "unserved",
]

_ELSEWHERE = {
    "Checked": "parse",
    "Clash": "merge",
    "Dialect": "dialects",
    "Engine": "engine",
    "EngineName": "dialects",
    "Telemetry": "dialects",
    "Found": "merge",
    "Merged": "merge",
    "ObjectRef": "merge",
    "Refused": "merge",
    "check_config": "parse",
    "config_schema": "json_schema",
    "parse_config": "parse",
    "unserved": "merge",
}
"""Module of each name that is not the schema's."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_ELSEWHERE.get(name, 'schema')}")
    value: object = getattr(module, name)
    globals()[name] = value
    return value
