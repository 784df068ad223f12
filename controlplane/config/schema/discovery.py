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
    """The Kubernetes API that instances are found in."""

    server: Annotated[str, AfterValidator(_check_api)] | None = None
    """URL; by default that of the pod's own cluster, with the pod's token and CA."""
    ca: str | None = None
    """CA certificates for the server, a PEM file; reloaded when it changes."""
    token_file: str | None = None
    """File that holds a bearer token; read at every request, so a rotated one is taken."""


class KubernetesCluster(Settings):
    """One of several Kubernetes clusters that instances are found in.

    Each has its own token, authority, pauses and state; one that does not answer keeps its
    instances for as long as they report.
    """

    name: Name
    api: KubernetesApi | None = None
    """Where its API is. One of *api* and *kubeconfig* is needed."""
    kubeconfig: str | None = None
    """File as kubectl uses it, whose current context is taken; read again when it changes. Commands
    that fetch credentials (``exec``) are not run."""


class DiscoveryKind(StrEnum):
    """Kind of object that a rule looks at."""

    ENDPOINT_SLICES = "endpoint_slices"
    """Each ready endpoint of Services' EndpointSlices is an instance."""
    PODS = "pods"
    """Each ready pod is an instance."""
    INFERENCE_POOLS = "inference_pools"
    """Each Gateway API InferencePool is one instance, reached by the Gateway that accepted it."""
    INFERENCE_POOL_IMPORTS = "inference_pool_imports"
    """Each InferencePoolImport, a pool of another cluster, is one instance behind its Gateway."""


class FoundScrape(Settings):
    """Where found instances' metrics are; the host is the instance's own.

    That of an inference pool is the Service of its endpoint picker.
    """

    port: Port | None = None
    """By default the port of the instance; 9090 for an inference pool."""
    path: UrlPath = "/metrics"
    """HTTP path of the metrics page."""
    https: bool = False
    """Whether the page is read over HTTPS."""
    period: PositiveDuration = 1.0
    """Time between two scrapes."""
    timeout: PositiveDuration = 1.0
    """Longest wait for a page."""
    ca: str | None = None
    """CA certificates for the server, a PEM file; https only."""
    token_file: str | None = None
    """File that holds a bearer token; read at every scrape."""


class FoundOrca(Settings):
    """Where found instances report their load out of band; see Orca."""

    port: Port
    """Where each instance serves ORCA reports out of band."""
    period: PositiveDuration = 1.0
    """Time between two reports."""


def _check_site_template(text: str) -> str:
    rest = text.replace("{value}", "").replace("{cluster}", "")
    if "{" in rest or "}" in rest or "{value}" not in text:
        raise PydanticCustomError(
            "template", "needs the place {value}, and knows {cluster} beside it"
        )
    return text


class SiteTemplate(Settings):
    """Makes a site of every value of a label, so that a new zone needs no edit.

    A site that the file lists, by the made name or with the value as its zone, is used instead.
    """

    label: Annotated[LabelName, Field(alias="from")]
    """Label of the node, such as ``topology.kubernetes.io/zone``, or of the object."""
    name: Annotated[str, Field(max_length=200), AfterValidator(_check_site_template)] = "{value}"
    """Name of a site; {value} and {cluster} are replaced."""
    kind: SiteKind = SiteKind.EDGE
    region: str = ""
    """For residency and for the locality of its endpoints."""


class NodePrior(Settings):
    """Priors of an instance, by the hardware of its node."""

    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Prior for the requests that an instance works on at once."""
    service_time: PositiveDuration | None = None
    """Prior for the time of a request alone on its instance."""


class NodePriors(Settings):
    """Priors by a label of the node that an instance runs on; learned values replace them."""

    label: LabelName
    """Label of the node, such as ``nvidia.com/gpu.product``."""
    values: Annotated[dict[str, NodePrior], Field(min_length=1, max_length=64)]
    """Value of the label to the priors of its instances."""


class DiscoveryRule(Settings):
    """Which objects are instances, and settings for all of them."""

    name: Name
    kind: DiscoveryKind
    cluster: Name | None = None
    """One of ``discovery.clusters``; by default the cluster of ``discovery.api``."""
    namespace: KubernetesName | None = None
    """By default that of ``discovery``."""
    namespaces: Annotated[tuple[NamespaceName, ...], Field(min_length=1, max_length=32)] | None = (
        None
    )
    """Several namespaces, or ``["*"]`` for all; reading all needs a ClusterRole."""
    selector: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1024)] = ""
    """Labels that an object must have, as kubectl takes them: ``app=vllm,tier!=test``."""
    service: KubernetesName | None = None
    """The Kubernetes Service whose endpoint slices are meant."""
    gateway_namespace: KubernetesName | None = None
    """Where the Gateways of inference pools are; by default beside the pools."""
    http_routes: bool = False
    """Requests for a pool get the host and the path by which its HTTPRoute leads to it, so that
    several pools behind one Gateway are distinguished; reads HTTPRoutes beside the pools."""
    instance_name: Annotated[str, Field(max_length=200), AfterValidator(_check_template)] = "{name}"
    """Name of an instance; {name}, {namespace}, {rule}, {cluster} and {port} are replaced.
    A name longer than 63 characters is cut, and made unique."""
    site: Name | None = None
    """Site of all of them. One of *site*, *site_label*, *node_label* and *site_template* is
    needed."""
    site_template: SiteTemplate | None = None
    """Makes sites of labels."""
    site_label: LabelName | None = None
    """Label of the object with the name of a site, or the zone of one."""
    node_label: LabelName | None = None
    """Label of the node it runs on that says so, for pods and endpoint slices; reading nodes needs
    a ClusterRole. ``topology.kubernetes.io/zone`` of endpoint slices needs none."""
    model: Name | None = None
    """Model that all of them run. One of *model* and *model_label* is needed."""
    model_label: LabelName | None = None
    """Label of the object with the name of its model."""
    port: Port | None = None
    """By default the only one that the object, or the pool's Gateway, names."""
    port_name: KubernetesName | None = None
    """Name of the port, where an object has several; of a Gateway, the listener's."""
    engine: EngineName | None = None
    """An inference server, or the name of one of ``telemetry.dialects``; by default ``generic``,
    and ``epp`` for inference pools."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Prior for the requests each works on at once."""
    tls: bool = True
    """Whether they speak TLS where ``envoy.instance_tls`` is set; Gateways of pools may not."""
    service_time: PositiveDuration | None = None
    """Prior for the time one request takes when it is alone there."""
    priors: NodePriors | None = None
    """Slots and service time by the hardware of the node; reading nodes needs a ClusterRole."""
    members: bool = False
    """Each pod of a pool, at each of its target ports, is an instance by itself, instead of the
    pool at its Gateway; for inference pools."""
    scrape: FoundScrape | None = None
    orca: FoundOrca | None = None
    power: InstancePower = InstancePower()


class Discovery(Settings):
    """Instances that are discovered at run time, in addition to those that the file lists.

    Where the two disagree, the file wins.
    """

    api: KubernetesApi = KubernetesApi()
    clusters: Annotated[tuple[KubernetesCluster, ...], Field(max_length=64)] = ()
    """Clusters that rules refer to, so that cloud and edges are discovered together."""
    namespace: KubernetesName = "default"
    """Kubernetes namespace of rules that name none."""
    events: bool = False
    """Writes an Event on the pod, Service or pool of each rejected instance, where ``kubectl
    describe`` shows it; needs ``create`` on ``events``."""
    config_map: Annotated[str, Field(pattern=_CONFIG_MAP)] | None = None
    """``NAMESPACE/NAME`` of the ConfigMap that holds this file, in the cluster of `api`: with
    *events*, a file that is rejected is an Event on it, with its errors."""
    rules: Annotated[tuple[DiscoveryRule, ...], Field(max_length=32)] = ()
    """What is looked for; none is needed where services only take their matches from HTTPRoutes."""

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
