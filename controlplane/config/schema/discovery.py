"""``discovery``: instances that Kubernetes knows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from controlplane.config.addresses import check_url
from controlplane.config.dialects import EngineName
from controlplane.config.schema.instances import InstancePower
from controlplane.config.schema.sites import SiteKind
from controlplane.config.schema.values import (
    KubernetesName,
    LabelName,
    Name,
    NamespaceName,
    Port,
    Settings,
    UrlPath,
)
from controlplane.config.units import PositiveDuration

_CONFIG_MAP = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"


def _check_template(text: str) -> str:
    rest = text
    for place in ("{name}", "{namespace}", "{rule}", "{cluster}", "{port}"):
        rest = rest.replace(place, "")
    if "{" in rest or "}" in rest or "{name}" not in text:
        raise PydanticCustomError(
            "template",
            "{what}",
            {
                "what": "needs the place {name}, and knows {namespace}, {rule}, {cluster} and"
                " {port} beside it"
            },
        )
    return text


def _check_api(text: str) -> str:
    url = urlsplit(check_url(text))
    if url.scheme == "http" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise PydanticCustomError(
            "api", "sends the token in the clear; write https, or http to loopback only"
        )
    if url.query or url.fragment:
        raise PydanticCustomError("api", "has a query; write scheme, host, port and at most a path")
    return text.rstrip("/")


class KubernetesApi(Settings):
    """Kubernetes API server and how to authenticate to it."""

    server: Annotated[str, AfterValidator(_check_api)] | None = None
    """URL of the API server; by default that of the pod's own cluster, with the pod's token and
    CA."""
    ca: str | None = None
    """CA certificates that verify the server, a PEM file; reloaded when it changes."""
    token_file: str | None = None
    """File with a bearer token; read at every request, so that rotation needs no restart."""


class KubernetesCluster(Settings):
    """One of several Kubernetes clusters in which instances are discovered.

    Clusters are independent, with credentials, retries and state of their own; while one is
    unreachable, its instances stay for as long as they report.
    """

    name: Name
    """Unique name: letters, digits, '.', '_' and '-', at most 63 characters."""
    api: KubernetesApi | None = None
    """API server. Exactly one of *api* and *kubeconfig* is required."""
    kubeconfig: str | None = None
    """Path of a kubeconfig file; its current context is used, and it is read again when it changes.
    ``exec`` credential plugins are not run."""


class DiscoveryKind(StrEnum):
    """Kind of Kubernetes object from which a rule makes instances."""

    ENDPOINT_SLICES = "endpoint_slices"
    """Each ready endpoint of Services' EndpointSlices is an instance."""
    PODS = "pods"
    """Each ready pod is an instance."""
    INFERENCE_POOLS = "inference_pools"
    """Each Gateway API InferencePool is one instance, reached by the Gateway that accepted it."""
    INFERENCE_POOL_IMPORTS = "inference_pool_imports"
    """Each InferencePoolImport, a pool of another cluster, is one instance behind its Gateway."""


class FoundScrape(Settings):
    """Metrics endpoint of discovered instances, at the instance's own host.

    For an inference pool it is the Service of its endpoint picker.
    """

    port: Port | None = None
    """Port of the metrics endpoint; by default the instance's port, and 9090 for an inference
    pool."""
    path: UrlPath = "/metrics"
    """HTTP path of the metrics endpoint."""
    https: bool = False
    """Whether to scrape over HTTPS."""
    period: PositiveDuration = 1.0
    """Scrape interval."""
    timeout: PositiveDuration = 1.0
    """Scrape timeout."""
    ca: str | None = None
    """CA certificates that verify the server, a PEM file; https only, the system's by default."""
    token_file: str | None = None
    """File with a bearer token; read at every scrape."""


class FoundOrca(Settings):
    """Out-of-band load reports (ORCA) of discovered instances."""

    port: Port
    """Port on which each instance serves them, without TLS."""
    period: PositiveDuration = 1.0
    """Requested interval between reports."""


def _check_site_template(text: str) -> str:
    rest = text.replace("{value}", "").replace("{cluster}", "")
    if "{" in rest or "}" in rest or "{value}" not in text:
        raise PydanticCustomError(
            "template", "needs the place {value}, and knows {cluster} beside it"
        )
    return text


class SiteTemplate(Settings):
    """Creates a site for each value of a label, so that a new zone needs no edit.

    An existing site in ``sites`` with that name, or with the value as a zone, is used instead.
    """

    label: Annotated[LabelName, Field(alias="from")]
    """Label of the node, such as ``topology.kubernetes.io/zone``, or else of the object."""
    name: Annotated[str, Field(max_length=200), AfterValidator(_check_site_template)] = "{value}"
    """Name of the site; ``{value}`` and ``{cluster}`` are replaced, and ``{value}`` is required."""
    kind: SiteKind = SiteKind.EDGE
    region: str = ""
    """Region, for ``services[].residency`` and in the locality of the site's endpoints."""


class NodePrior(Settings):
    """Priors for the instances on one type of node."""

    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Prior for the number of requests that an instance processes concurrently; by default the
    rule's."""
    service_time: PositiveDuration | None = None
    """Prior for the time of one request without concurrent ones; by default the rule's."""


class NodePriors(Settings):
    """Priors by a label of the node on which an instance runs; learned values replace them."""

    label: LabelName
    """Label of the node, such as ``nvidia.com/gpu.product``."""
    values: Annotated[dict[str, NodePrior], Field(min_length=1, max_length=64)]
    """Label value to the priors of instances on such nodes."""


class DiscoveryRule(Settings):
    """Selects the objects that become instances, and sets their properties."""

    name: Name
    """Unique name: letters, digits, '.', '_' and '-', at most 63 characters."""
    kind: DiscoveryKind
    cluster: Name | None = None
    """One of ``discovery.clusters``; by default the cluster of ``discovery.api``."""
    namespace: KubernetesName | None = None
    """Namespace of the objects; by default ``discovery.namespace``."""
    namespaces: Annotated[tuple[NamespaceName, ...], Field(min_length=1, max_length=32)] | None = (
        None
    )
    """Several namespaces instead of one, or ``["*"]`` for all, which requires a ClusterRole."""
    selector: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1024)] = ""
    """Label selector, as in kubectl: ``app=vllm,tier!=test``; by default all objects."""
    service: KubernetesName | None = None
    """Kubernetes Service whose EndpointSlices are used; by default those of all Services."""
    gateway_namespace: KubernetesName | None = None
    """Namespace of the inference pools' Gateways; by default the pools' own."""
    http_routes: bool = False
    """Rewrite the host and path of requests to match the HTTPRoute of their pool, which
    distinguishes several pools behind one Gateway. Reads HTTPRoutes in the pools' namespaces."""
    instance_name: Annotated[str, Field(max_length=200), AfterValidator(_check_template)] = "{name}"
    """Name of an instance; ``{name}``, ``{namespace}``, ``{rule}``, ``{cluster}`` and ``{port}``
    are replaced, and ``{name}`` is required. Names longer than 63 characters are shortened and kept
    unique."""
    site: Name | None = None
    """Site of all its instances. Exactly one of *site*, *site_label*, *node_label* and
    *site_template* is required."""
    site_template: SiteTemplate | None = None
    """Creates sites from label values."""
    site_label: LabelName | None = None
    """Label of the object whose value is the name or a zone of the site."""
    node_label: LabelName | None = None
    """Label of the node whose value is the name or a zone of the site; for pods and EndpointSlices.
    Reading nodes requires a ClusterRole, except for ``topology.kubernetes.io/zone`` with
    EndpointSlices."""
    model: Name | None = None
    """Model of all its instances. Exactly one of *model* and *model_label* is required."""
    model_label: LabelName | None = None
    """Label of the object whose value is the name of its model."""
    port: Port | None = None
    """Port of the instances; by default the only one of the object, or of the pool's Gateway."""
    port_name: KubernetesName | None = None
    """Name of the port, if the object has several; for a Gateway, of the listener."""
    engine: EngineName | None = None
    """Inference server, or the name of a dialect in ``telemetry.dialects``; by default ``epp`` for
    inference pools and ``generic`` otherwise."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Prior for the number of requests that each instance processes concurrently."""
    tls: bool = True
    """Whether they serve TLS when ``envoy.instance_tls`` is set; the Gateways of pools may not."""
    service_time: PositiveDuration | None = None
    """Prior for the time of one request without concurrent ones; by default derived from the
    services' ``service_time``."""
    priors: NodePriors | None = None
    """*slots* and *service_time* by the hardware of the node; reading nodes requires a
    ClusterRole."""
    members: bool = False
    """Make each pod of an inference pool an instance, at each target port, instead of the pool
    behind its Gateway."""
    scrape: FoundScrape | None = None
    orca: FoundOrca | None = None
    power: InstancePower = InstancePower()


class Discovery(Settings):
    """Discovery of instances in Kubernetes, in addition to those in ``instances``.

    In a conflict, the file takes precedence.
    """

    api: KubernetesApi = KubernetesApi()
    """API server of the rules that set no ``cluster``."""
    clusters: Annotated[tuple[KubernetesCluster, ...], Field(max_length=64)] = ()
    """Clusters that rules refer to by name, for discovery in several clusters."""
    namespace: KubernetesName = "default"
    """Namespace of rules that set none."""
    events: bool = False
    """Write a Kubernetes Event for each rejected instance, on its pod, Service or pool (see
    ``kubectl describe``); requires ``create`` on ``events``."""
    config_map: Annotated[str, Field(pattern=_CONFIG_MAP)] | None = None
    """``NAMESPACE/NAME`` of the ConfigMap with this file, in the cluster of *api*. With *events*, a
    rejected file is reported as an Event on it."""
    rules: Annotated[tuple[DiscoveryRule, ...], Field(max_length=32)] = ()
    """Rules that make instances; may be empty if services only take matches from HTTPRoutes."""

    def cluster(self, name: str) -> KubernetesApi | KubernetesCluster:
        """Return the cluster of a name; the one of ``discovery.api`` for the empty name.

        Raises:
            KeyError: there is none.
        """
        if not name:
            return self.api
        for each in self.clusters:
            if each.name == name:
                return each
        raise KeyError(name)
