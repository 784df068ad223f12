"""The configuration as values: what ``fleet.yaml`` says, in SI units, frozen.

Each class is one mapping of the document and each field one key, with the sentence that the
JSON Schema and the reference show an operator.
Durations are seconds, sizes bytes, rates bytes a second, powers watts, shares 0 to 1:
the unit strings of the file are read by `controlplane.config.units`.
Rules that look at one value live here; rules that compare several live in
`controlplane.config.references`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from controlplane.config.addresses import (
    check_endpoint,
    check_instance_address,
    check_ip,
    check_match_path,
    check_url,
    is_ip,
)
from controlplane.config.dialects import EngineName, Telemetry
from controlplane.config.engine import Engine
from controlplane.config.units import (
    Bandwidth,
    Duration,
    Penalty,
    PositiveDuration,
    Power,
    Share,
    Size,
)

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
Name = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        description="Letters, digits, '.', '_' and '-'; at most 63.",
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
UrlPath = Annotated[str, Field(pattern=r"^/\S*$", max_length=2048)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
"""A token of RFC 9110, section 5.6.2."""
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A DNS label (RFC 1123), which namespaces, Services and ports are named by."""
NamespaceName = Annotated[str, Field(pattern=r"^(\*|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$")]
"""A namespace, or ``*`` for all of them."""
LabelName = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
"""A label of a Kubernetes object, with its prefix."""
HeaderValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]


class Settings(BaseModel):
    """A mapping of the document; unknown keys are faults."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )


class SiteKind(StrEnum):
    """What sort of place a site is."""

    CLOUD = "cloud"
    EDGE = "edge"
    DEVICE = "device"


class SitePower(Settings):
    """What energy costs at a site, and how much of it there is."""

    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Price of a kilowatt-hour, in the operator's currency."""
    carbon: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Grams of CO2 a kilowatt-hour causes."""
    budget: Power | None = None
    """Most power the site's instances may draw together; none means no limit."""


class SiteListener(Settings):
    """Where the Envoys of one site listen, if not where all do.

    A sidecar listens on loopback and a gateway on all addresses; Envoys that share a machine need
    a port each.
    """

    address: Annotated[str, AfterValidator(check_ip)] | None = None
    """IP address that its Envoys listen on; ``envoy.address`` if it is left out."""
    port: Port | None = None
    """Port that its Envoys listen on; ``envoy.port`` if it is left out."""


class Site(Settings):
    """A place that holds instances, clients or both (CATS: service site)."""

    name: Name
    kind: SiteKind
    region: str = ""
    """For residency and for the locality of its Envoys and endpoints."""
    zone: str = ""
    """Of the locality of its Envoys and endpoints."""
    zones: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Further zones that belong to it: Envoys and instances there are at this site."""
    power: SitePower = SitePower()
    listener: SiteListener = SiteListener()


ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+~-]{0,255}$")]
"""What an engine calls a model: a path of a hub, a tag, an adapter."""


class ModelKind(StrEnum):
    """How a model came to be, which decides who prefers it."""

    FOUNDATION = "foundation"
    CUSTOMISED = "customised"
    PRUNED = "pruned"


class Protocol(StrEnum):
    """What Envoys speak to instances."""

    AUTO = "auto"
    """HTTP/1.1, which all inference servers speak to HTTP clients."""
    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    """HTTP/2, and retries by gRPC's status codes too."""


class Model(Settings):
    """A model that instances run."""

    name: Name
    kind: ModelKind = ModelKind.FOUNDATION
    base: Name | None = None
    """The model it was customised or pruned from."""
    served_as: ServedName | None = None
    """What engines call it; by default its name."""
    protocol: Protocol = Protocol.AUTO
    """What its instances are spoken to in."""


class Task(StrEnum):
    """What goes in and out of a service."""

    TEXT = "text"
    VISION = "vision"
    AUDIO = "audio"
    MULTIMODAL = "multimodal"


class Delay(StrEnum):
    """Whether someone waits for the answer."""

    SENSITIVE = "sensitive"
    TOLERANT = "tolerant"


class Slo(Settings):
    """What the operator promised; steering reports it, and prefers what meets it."""

    ttft: PositiveDuration | None = None
    """Time to first token, 99th percentile."""
    latency: PositiveDuration | None = None
    """Whole answer, 99th percentile."""


class Match(Settings):
    """Requests that belong to a service; every field given must hold."""

    path: Annotated[UrlPath, AfterValidator(check_match_path)] | None = None
    """The exact path, without the query; a final '*' makes it a prefix."""
    header: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Headers and the exact values they must have."""
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The ``model`` member of a JSON body."""


class ServiceModel(Settings):
    """A model that may serve a service."""

    name: Name
    penalty: Penalty = 0.0
    """Wait an operator would accept to get a better model instead; ``never`` excludes it."""


class Residency(Settings):
    """Where requests of a service may be served; a site without a region never qualifies."""

    allow: Annotated[tuple[str, ...], Field(min_length=1)]
    """Regions whose sites may serve the requests."""


class Affinity(Settings):
    """Keeps requests of one session on one instance while it lives."""

    header: HeaderName
    """The client's name for its session; its hash places the session, weights respected."""
    timeout: PositiveDuration = 600.0
    """Pause after which a session may move. A hash needs no memory, so sessions keep their place
    however long they pause; they move when their instance goes, and some when weights change."""


class PolicyName(StrEnum):
    """How shares are computed."""

    OPTIMAL = "optimal"
    WATERFALL = "waterfall"
    SPRAY = "spray"
    HEADROOM = "headroom"
    CAPACITY = "capacity"
    NEAREST = "nearest"
    STATIC = "static"


class Canary(Settings):
    """A policy that is tried on the requests of one client site before all get it."""

    client_site: Name
    policy: PolicyName
    """What decides at that client site."""


_PATIENCE = 10.0
"""How many times ``slo.ttft``, which is kept in 99 of 100 requests, an answer may take to begin."""


class Service(Settings):
    """What clients ask for: one kind of request behind one API (CATS: CS-ID)."""

    name: Name
    task: Task = Task.TEXT
    delay: Delay = Delay.SENSITIVE
    slo: Slo = Slo()
    match: Annotated[tuple[Match, ...], Field(min_length=1)]
    models: Annotated[tuple[ServiceModel, ...], Field(min_length=1)]
    residency: Residency | None = None
    affinity: Affinity | None = None
    protocol: Protocol = Protocol.AUTO
    """What its instances are spoken to in; by default as ``models[].protocol``."""
    policy: PolicyName | None = None
    """Overrides ``steering.policy`` for this service."""
    canary: Canary | None = None
    """Overrides the policy for the requests of one client site."""
    delay_weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """What a second of delay costs; by default 1 if delay-sensitive, 0.1 if tolerant."""
    request_size: Size = 0.0
    """Mean size of a request, for the time its transfer takes."""
    response_size: Size = 0.0
    """Mean size of a response."""
    service_time: PositiveDuration | None = None
    """Prior for the mean time an idle instance takes; learned when instances report."""
    timeout: Duration = 0.0
    """Longest a whole answer may take; 0 is no limit, which streaming answers need."""
    idle_timeout: Duration = 300.0
    """Longest silence within an answer; 0 is no limit."""
    failure_cost: Duration = 10.0
    """What a failed answer costs, as a wait that would be as bad: an instance that fails more than
    others gets less by it."""
    first_byte: Duration | None = None
    """Longest wait for the beginning of an answer, after which the request goes to another
    instance; never cuts an answer that has begun. 0 is no limit. By default ten times
    ``slo.ttft`` and at least twice ``slo.latency``, since an answer that is not streamed begins
    when it is complete; without ``slo.ttft`` no limit."""

    @property
    def longest_first_byte(self) -> float | None:
        """Return the longest wait for the beginning of an answer in seconds; None if unlimited."""
        if self.first_byte is not None:
            return self.first_byte or None
        if self.slo.ttft is None:
            return None
        return max(_PATIENCE * self.slo.ttft, 2 * (self.slo.latency or 0.0))

    @property
    def cost_of_delay(self) -> float:
        """Return the weight of a second of this service's delay in the fleet's cost."""
        if self.delay_weight is not None:
            return self.delay_weight
        return 1.0 if self.delay is Delay.SENSITIVE else 0.1


class Scrape(Settings):
    """Where the control plane reads an instance's metrics itself."""

    url: Annotated[str, AfterValidator(check_url)]
    """Of the metrics page."""
    period: PositiveDuration = 1.0
    """Between two scrapes."""
    timeout: PositiveDuration = 1.0
    """Longest wait for a page."""
    ca: str | None = None
    """File of certificates that may sign the server's; https only."""
    cert: str | None = None
    """File of the certificate to show, for servers that ask for one; https only."""
    key: str | None = None
    """File of the key to *cert*; both are read again when they change."""
    token_file: str | None = None
    """File that holds a bearer token; read at every scrape."""
    labels: dict[str, str] = Field(default_factory=dict, max_length=8)
    """Label to value, with ``*`` for anything, of the instance's series where one page holds
    several instances (Ray Serve: ``ReplicaId``)."""

    @model_validator(mode="after")
    def _pair(self) -> Scrape:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key come together")
        return self


class Orca(Settings):
    """Where an instance reports its load out of band, in the form that gRPC and Envoy share.

    The service is ``xds.service.orca.v3.OpenRcaService``, in clear text.
    """

    port: Port | None = None
    """At the instance's own host."""
    address: Annotated[str, AfterValidator(check_endpoint)] | None = None
    """IP:PORT, where it is another host; wins over *port*."""
    period: PositiveDuration = 1.0
    """Between two reports."""

    def target(self, host: str) -> str:
        """Return HOST:PORT for an instance at *host*."""
        if self.address is not None:
            return self.address
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class InstancePower(Settings):
    """What an instance draws, for the energy a request costs."""

    idle: Power = 0.0
    """Power drawn without any request."""
    busy: Power = 0.0
    """At full load."""


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class InstanceModel(Settings):
    """A model that an instance serves beside others."""

    name: Name
    served_as: ServedName | None = None
    """What this instance calls it; by default as ``models[].served_as``."""


class Instance(Settings):
    """A contact instance that requests can be sent to (CATS: CSCI-ID)."""

    name: Name
    site: Name
    address: Annotated[str, AfterValidator(check_instance_address)]
    """IP:PORT, IPv6 in brackets; or NAME:PORT, whose name the control plane resolves every five
    seconds. The last good answer stays."""
    model: Annotated[Name, Field(json_schema_extra=_without_default)] = ""
    """What it runs, if it is one model."""
    served_as: ServedName | None = None
    """What it calls its one model; by default as ``models[].served_as``."""
    models: tuple[Name | InstanceModel, ...] = ()
    """What it runs, if there are several at one address: adapters, or an engine that loads what
    is asked for. They share its capacity. A service gets the one it prefers (least penalty)."""
    engine: EngineName = Engine.GENERIC
    """The inference server, or the name of one of ``telemetry.dialects``."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Prior for the requests it works on at once; learned when it reports."""
    service_time: PositiveDuration | None = None
    """Prior for the time one request takes when it is alone here."""
    scrape: Scrape | None = None
    orca: Orca | None = None
    power: InstancePower = InstancePower()
    tls: bool = True
    """Whether it speaks TLS where ``envoy.instance_tls`` is set; else none does."""

    @model_validator(mode="after")
    def _name_first(self) -> Instance:
        # Whatever asks for one model of an instance of several gets the first.
        if not self.model and self.models:
            object.__setattr__(self, "model", self.model_names[0])
        return self

    @property
    def model_names(self) -> tuple[str, ...]:
        """Return the names of its models."""
        if not self.models:
            return (self.model,)
        return tuple(each if isinstance(each, str) else each.name for each in self.models)

    @property
    def serves(self) -> tuple[InstanceModel, ...]:
        """Return its models, with the names it serves them under."""
        if not self.models:
            return (InstanceModel(name=self.model, served_as=self.served_as),)
        return tuple(
            InstanceModel(name=each) if isinstance(each, str) else each for each in self.models
        )

    @property
    def host(self) -> str:
        """Return the address without the port and without brackets."""
        return self.address.rsplit(":", 1)[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port of the address."""
        return int(self.address.rsplit(":", 1)[1])


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
    """Its URL; by default the one that every pod is given, with the pod's own token and CA."""
    ca: str | None = None
    """File of certificates that may sign the server's; read again when it changes."""
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
    """What a rule looks at."""

    ENDPOINT_SLICES = "endpoint_slices"
    """Each ready endpoint of Services' EndpointSlices is an instance."""
    PODS = "pods"
    """Each ready pod is an instance."""
    INFERENCE_POOLS = "inference_pools"
    """Each Gateway API InferencePool is one instance, reached by the Gateway that accepted it."""


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
    """Between two scrapes."""
    timeout: PositiveDuration = 1.0
    """Longest wait for a page."""
    ca: str | None = None
    """File of certificates that may sign the server's; https only."""
    token_file: str | None = None
    """File that holds a bearer token; read at every scrape."""


class FoundOrca(Settings):
    """Where found instances report their load out of band; see Orca."""

    port: Port
    """Where each instance serves ORCA reports out of band."""
    period: PositiveDuration = 1.0
    """Between two reports."""


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
    """How a site is called; knows the places {value} and {cluster}."""
    kind: SiteKind = SiteKind.EDGE
    region: str = ""
    """For residency and for the locality of its endpoints."""


class NodePrior(Settings):
    """What is assumed of an instance at first, by the hardware of its node."""

    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Prior for the requests that an instance works on at once."""
    service_time: PositiveDuration | None = None
    """Prior for the time of a request alone on its instance."""


class NodePriors(Settings):
    """Priors by a label of the node that an instance runs on; learned values replace them."""

    label: LabelName
    """Such as ``nvidia.com/gpu.product``."""
    values: Annotated[dict[str, NodePrior], Field(min_length=1, max_length=64)]
    """Value of the label to the priors of its instances."""


class DiscoveryRule(Settings):
    """Which objects are instances, and what holds for all of these."""

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
    instance_name: Annotated[str, Field(max_length=200), AfterValidator(_check_template)] = "{name}"
    """How an instance is called; knows the places {name}, {namespace}, {rule}, {cluster} and
    {port}. A longer name than 63 characters is cut, and made unique."""
    site: Name | None = None
    """Where all of them are. One of *site*, *site_label*, *node_label* and *site_template* is
    needed."""
    site_template: SiteTemplate | None = None
    """Makes sites of labels."""
    site_label: LabelName | None = None
    """Label of the object that says where: a site's name, or the zone of one site."""
    node_label: LabelName | None = None
    """Label of the node it runs on that says so, for pods and endpoint slices; reading nodes needs
    a ClusterRole. ``topology.kubernetes.io/zone`` of endpoint slices needs none."""
    model: Name | None = None
    """What all of them run. One of *model* and *model_label* is needed."""
    model_label: LabelName | None = None
    """Label of the object that says which model it runs."""
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
    """Instances that are found while running, beside those that the file lists.

    Where the two disagree, the file wins.
    """

    api: KubernetesApi = KubernetesApi()
    clusters: Annotated[tuple[KubernetesCluster, ...], Field(max_length=64)] = ()
    """Clusters that rules name; cloud and edges are seen at once."""
    namespace: KubernetesName = "default"
    """Kubernetes namespace of rules that name none."""
    events: bool = False
    """Writes an Event on the pod, Service or pool of each rejected instance, where ``kubectl
    describe`` shows it; needs ``create`` on ``events``."""
    rules: Annotated[tuple[DiscoveryRule, ...], Field(min_length=1, max_length=32)]

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


class Path(Settings):
    """What is known beforehand of the network from one site to another; both ways."""

    source: Annotated[Name, Field(alias="from")]
    target: Annotated[Name, Field(alias="to")]
    rtt: Duration | None = None
    """Round-trip time."""
    bandwidth: Bandwidth | None = None
    """Of the path, in both directions."""


class Network(Settings):
    """The network between sites; measured values replace these."""

    default_rtt: Duration = 0.04
    """Round-trip time of every path that is not listed or measured."""
    local_rtt: Duration = 0.0005
    """Within one site."""
    default_bandwidth: Bandwidth | None = None
    """Bandwidth of every path that is not listed or measured; unlimited if it is left out."""
    paths: tuple[Path, ...] = ()


class Mode(StrEnum):
    """Whether decisions reach Envoys."""

    STEER = "steer"
    OBSERVE = "observe"


class Steering(Settings):
    """How and how often shares are decided."""

    policy: PolicyName = PolicyName.OPTIMAL
    canary: Canary | None = None
    """Overrides ``steering.policy`` at one client site, for services that have neither a policy
    nor a canary of their own."""
    mode: Mode = Mode.STEER
    """``observe`` decides and explains, but pushes the static split."""
    period: PositiveDuration = 1.0
    """Time between decisions."""
    expiry: PositiveDuration = 30.0
    """Silence after which an instance no longer counts as known."""
    probe_share: Annotated[Share, Field(le=0.5)] = 0.01
    """Largest part of a client site's requests for instances that were slow once, to see whether
    they have recovered; 0 never asks again."""
    min_gain: Share = 0.04
    """Predicted gain below which weights stay as they are."""
    shed_tolerant: bool = True
    """Refuse a part of the requests of delay-tolerant services (503) while instances are full and
    demand exceeds capacity, so that others are still served in time."""
    slow_start: Duration = 10.0
    """Time over which a new instance rises to its full share."""
    weight_sum: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """What the weights of one service add up to."""
    energy_value: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds of delay that one currency unit of energy is worth; 0 ignores power prices."""


class Override(Settings):
    """An operator's overrides, for a service (or all) at an instance or a site."""

    service: Name | None = None
    """Which service it is for; all if it is left out."""
    instance: Name | None = None
    """Which instance it is for."""
    site: Name | None = None
    """Which site it is for: all its instances together."""
    drain: bool = False
    """Send nothing there."""
    pin: bool = False
    """Send everything there."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Fixed weight under the policy ``static``, beside the others' weights."""
    max_share: Share | None = None
    """Largest share of each client site's requests that goes there."""
    min_share: Share | None = None
    """Least share of each client site's requests that goes there."""
    reason: str = ""
    """Why, for those who read it in the API and the dashboard."""


class HealthCheck(Settings):
    """Envoy's own probing of instances."""

    path: UrlPath | None = None
    """HTTP path that answers 200; none checks that the port accepts connections."""
    interval: PositiveDuration = 2.0
    """Between two checks of an instance."""
    timeout: PositiveDuration = 1.0
    """Longest wait for an answer."""
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    """Failed checks in a row after which an instance gets no requests."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 1
    """Passed checks in a row after which it gets requests again."""


class OutlierDetection(Settings):
    """Envoy's ejection of instances that fail requests."""

    consecutive_errors: Annotated[int, Field(ge=1, le=1000)] = 3
    """Failed requests in a row after which an instance is ejected."""
    interval: PositiveDuration = 1.0
    """Between two evaluations."""
    ejection_time: PositiveDuration = 10.0
    """Of a first ejection; each that follows takes longer by as much."""
    max_ejection_time: PositiveDuration = 20.0
    """Of every ejection, so that an instance that has recovered is soon used in full."""
    max_ejected: Share = 0.5
    """Largest share of a service's instances that are ejected at once, whatever their answers."""


class CircuitBreakers(Settings):
    """Bounds on what one Envoy keeps open towards one service."""

    max_connections: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Connections."""
    max_pending: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Requests that wait for a connection."""
    max_requests: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Requests in progress."""
    max_retries: Annotated[int, Field(ge=0, le=2**31)] = 100
    """Retries in progress."""


class Retries(Settings):
    """When Envoy tries another instance."""

    attempts: Annotated[int, Field(ge=0, le=10)] = 2
    """Retries of one request, each at another instance."""
    on: str = (
        "gateway-error,connect-failure,refused-stream,reset-before-request,retriable-status-codes"
    )
    """As Envoy names conditions; ``gateway-error`` has 502, 504, and answers that do not begin."""
    status_codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = (
        *(400, 401, 404),
        *(429, 500, 503, 529),
    )
    """Answers that another instance is asked about: those of the first three classes are the
    client's fault unless one instance alone gives them, and cost little to ask again."""
    retry_after: Duration = 1.0
    """Longest ``Retry-After`` that is waited for; on a longer one another instance is asked at
    once. 0 waits for none."""


def _check_absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must begin with /: Envoy would look below where it was started")
    return path


EnvoyFile = Annotated[str, Field(max_length=4096), AfterValidator(_check_absolute)]
"""A path on the machine of an Envoy."""


def _check_name_pattern(pattern: str) -> str:
    if "*" in pattern and is_ip(pattern.replace("*", "1")):
        raise ValueError("an IP address stands alone in a certificate; write it out")
    return pattern


class InstanceTls(Settings):
    """TLS from Envoys to instances.

    The files are on each Envoy's machine and only Envoy reads them; replaced ones are taken
    without a restart. The control plane sends Envoys these paths and no key.
    """

    ca: EnvoyFile
    """Certificates that may sign the instances'."""
    names: Annotated[
        tuple[
            Annotated[
                str, Field(min_length=1, max_length=2048), AfterValidator(_check_name_pattern)
            ],
            ...,
        ],
        Field(min_length=1, max_length=100),
    ]
    """Subject alternative names (SPIFFE id, DNS name, IP address) one of which an instance's
    certificate must carry; ``*`` is anything without a slash. Without this, anyone who has any
    certificate of *ca*, a sidecar say, could pose as an instance."""
    cert: EnvoyFile | None = None
    """Certificate that Envoy shows, for instances that ask for one."""
    key: EnvoyFile | None = None
    """The key to *cert*."""
    secrets: EnvoyFile = "/etc/cats/envoy"
    """Directory with what ``cats bootstrap --secrets`` writes: files that name the above."""

    @model_validator(mode="after")
    def _pair(self) -> InstanceTls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key come together")
        return self


class Envoy(Settings):
    """What sidecars and gateways are configured with."""

    address: Annotated[str, AfterValidator(check_ip)] = "0.0.0.0"  # noqa: S104 -- a gateway listens on all; a sidecar sets 127.0.0.1
    """IP address of the listener ``inference``."""
    port: Port = 10_000
    """Port of the listener ``inference``."""
    response_headers: bool = True
    """Add ``x-cats-instance``, ``x-cats-site`` and ``x-cats-model`` to responses."""
    list_models: bool = True
    """Answer ``GET /v1/models`` with the models that can be asked for where the client is, unless
    a service matches that very path."""
    rewrite_models: bool = True
    """Replace the ``model`` of JSON bodies and forms by the name that the chosen instance serves
    it under, where names differ; such bodies are held as a whole."""
    connect_timeout: PositiveDuration = 1.0
    """Longest wait for a connection to an instance."""
    max_body: Size = 32e6
    """Largest request body that is read for its ``model``, or kept for a retry."""
    max_heap: Annotated[Size, Field(ge=64e6)] = 384e6
    """Memory that an Envoy may hold; three quarters of its container's limit. From four fifths of
    it Envoy resets the HTTP/2 streams that hold most, and a little later new requests get 503."""
    load_period: PositiveDuration = 1.0
    """How often Envoys report their load."""
    orca_headers: bool = False
    """Instances say their load in the headers of their answers (ORCA); Envoys average it and
    report it every ten seconds."""
    health_check: HealthCheck | None = HealthCheck()
    outlier_detection: OutlierDetection | None = OutlierDetection()
    circuit_breakers: CircuitBreakers = CircuitBreakers()
    retries: Retries = Retries()
    instance_tls: InstanceTls | None = None
    """With it, Envoys speak TLS to every instance that does not say ``tls: false``."""


class Tls(Settings):
    """Certificates of the control plane's own ports; reloaded when the files change."""

    cert: str
    """File of the certificate, in PEM."""
    key: str
    """File of the certificate's key, in PEM."""
    client_ca: str | None = None
    """With it, clients must show a certificate that it signed."""


class Role(StrEnum):
    """What a peer of the gRPC port may do."""

    ENVOY = "envoy"
    """Get the view of its site and report what it observes there."""
    AGENT = "agent"
    """Report on the instances, the machine and the network of its site."""
    OBSERVER = "observer"
    """Ask who has what (CSDS), of all sites."""


def _check_san(pattern: str) -> str:
    rest = pattern.replace("{site}", "", 1).replace("{id}", "", 1)
    if "{" in rest or "}" in rest:
        raise ValueError("knows the places {site} and {id}, each at most once")
    return pattern


class Identity(Settings):
    """Which names in a client's certificate let it be what, and where.

    Used where ``server.tls.client_ca`` is set.
    """

    san: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_check_san)]
    """A subject alternative name (SPIFFE id, DNS name); ``*`` is anything without a slash,
    ``{site}`` and ``{id}`` must equal the site and the id that the client claims."""
    role: Role = Role.ENVOY
    """What a client with this certificate may do."""
    sites: tuple[Name, ...] = ()
    """Sites that it may claim, beside one that stands in *san*; an observer claims none."""

    @model_validator(mode="after")
    def _name_a_site(self) -> Identity:
        if self.role is not Role.OBSERVER and not self.sites and "{site}" not in self.san:
            raise ValueError("lets no one in; give sites, or write {site} in san")
        return self


class Admin(Settings):
    """Who may use the HTTP port; one of the two is needed where other machines can reach it."""

    token_file: str | None = None
    """File of bearer tokens, one a line, read again when it changes; a browser gives one of them
    as password."""
    tls: Tls | None = None
    """Serves HTTPS; with its ``client_ca``, a certificate that it signed is as good as a token."""


class AgentRights(Settings):
    """An agent that may report, and for what; all others are refused."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The agent's ``id``."""
    token_hash_file: str | None = None
    """File that holds the SHA-256 of its bearer token, in hexadecimal; read again as it changes."""
    sites: tuple[Name, ...] = ()
    """Sites whose instances, paths and power it may report."""
    instances: tuple[Name, ...] = ()
    """Instances that it may report, whatever their site."""
    batches_rate: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """Batches a second that it may send."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Reports of one batch."""


class BusTls(Settings):
    """How a replica checks NATS servers and proves itself to them."""

    ca: str | None = None
    """Certificates that may sign the servers'; by default those of the machine."""
    cert: str | None = None
    """File of the certificate that it shows, in PEM."""
    key: str | None = None
    """File of the certificate's key, in PEM."""


class Tracing(Settings):
    """Where traces of cycles go; needs ``pip install 'cats-controlplane[tracing]'``."""

    endpoint: Annotated[str, AfterValidator(check_url)]
    """OTLP over HTTP, such as ``http://127.0.0.1:4318/v1/traces``."""
    sample: Share = 1.0
    """Part of the cycles that is traced."""


class Transport(StrEnum):
    """What carries gRPC."""

    H2 = "h2"
    GRPCIO = "grpcio"


class Webhook(Settings):
    """A port at which the Kubernetes API server has fleets checked before it stores them."""

    address: Annotated[str, AfterValidator(check_ip)] = "0.0.0.0"  # noqa: S104 -- the API server's
    """IP address that it listens on."""
    port: Port = 18443
    """Port that it listens on."""
    cert: str
    """File of the certificate, in PEM; reloaded when it changes."""
    key: str
    """File of the certificate's key, in PEM."""


class Server(Settings):
    """The control plane's own ports and bus."""

    tls: Tls | None = None
    identities: tuple[Identity, ...] = (
        Identity(san="spiffe://*/site/{site}/envoy/{id}"),
        Identity(san="spiffe://*/site/{site}/agent/{id}", role=Role.AGENT),
    )
    """Replaces the two that are there by default."""
    admin: Admin = Admin()
    agents: tuple[AgentRights, ...] = ()
    """Agents that may report; none given means that every agent may report for everything."""
    bus: Annotated[
        str, Field(pattern=r"^(local|(nats|tls)://[^\s,]+(,(nats|tls)://[^\s,]+)*)$")
    ] = "local"
    """``local`` for one process; else the NATS servers that join several, with commas between."""
    bus_tls: BusTls | None = None
    transport: Transport = Transport.H2
    """What carries gRPC: ``h2``, or ``grpcio`` for gRPC's own C core, whose limits are its own."""
    max_connections_per_address: Annotated[int, Field(ge=0)] = 0
    """Connections that one client address may have open on the gRPC port; 0 sets no bound."""
    tracing: Tracing | None = None
    webhook: Webhook | None = None


class Config(Settings):
    """A whole ``fleet.yaml``."""

    version: Literal[1]
    """Of this format."""
    sites: Annotated[tuple[Site, ...], Field(min_length=1)]
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    services: Annotated[tuple[Service, ...], Field(min_length=1)]
    instances: tuple[Instance, ...] = ()
    discovery: Discovery | None = None
    telemetry: Telemetry = Telemetry()
    network: Network = Network()
    steering: Steering = Steering()
    overrides: tuple[Override, ...] = ()
    envoy: Envoy = Envoy()
    server: Server = Server()
