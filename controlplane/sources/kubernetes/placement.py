"""At which site a candidate is, and what the hardware of its node lets expect."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from controlplane.config import Config, DiscoveryKind, DiscoveryRule, NodePrior, Site
from controlplane.errors import ReportError
from controlplane.sources.kubernetes.candidates import Candidate
from controlplane.sources.kubernetes.documents import Labels
from controlplane.sources.kubernetes.objects import KubernetesObject, Node
from controlplane.sources.kubernetes.watches import ZONE

LONGEST_NAME = 63
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]")


class Placement:
    """Sites and priors by labels.

    Args:
        config: for the zones of its sites.
        rule: which labels count.
        looked_up: nodes, where the rule asks for them.
    """

    def __init__(
        self, config: Config, rule: DiscoveryRule, looked_up: Iterable[KubernetesObject]
    ) -> None:
        self.rule = rule
        self.nodes: dict[str, Labels] = {
            each.meta.name: each.meta.labels for each in looked_up if isinstance(each, Node)
        }
        self.zones: dict[str, list[str]] = {}
        for site in config.sites:
            for zone in {site.zone, *site.zones} - {""}:
                self.zones.setdefault(zone, []).append(site.name)
        self.names = {site.name for site in config.sites}

    def prior(self, candidate: Candidate) -> NodePrior:
        """Return what the hardware of a candidate's node lets expect."""
        priors = self.rule.priors
        if priors is None:
            return NodePrior()
        hardware = self.nodes.get(candidate.node, {}).get(priors.label, "")
        return priors.values.get(hardware, NodePrior())

    def place(self, candidate: Candidate) -> tuple[str, Site | None]:
        """Return the name of a candidate's site, and the site if it is made of a label."""
        template = self.rule.site_template
        if template is None:
            return self._site(candidate), None
        from_zone = template.label == ZONE
        value = candidate.zone if from_zone else ""
        value = value or self.nodes.get(candidate.node, {}).get(template.label, "")
        value = value or candidate.labels.get(template.label, "")
        if not value:
            raise ReportError(
                f"neither its node nor it has the label {template.label}, which would name its site"
            )
        here = self.zones.get(value, [])
        if len(here) == 1:
            return here[0], None
        cluster = self.rule.cluster or ""
        name = cut(template.name.replace("{cluster}", cluster).replace("{value}", value))
        zone = value if from_zone else ""
        return name, Site.model_construct(
            name=name, kind=template.kind, region=template.region, zone=zone
        )

    def _site(self, candidate: Candidate) -> str:
        rule = self.rule
        if rule.site is not None:
            return rule.site
        if rule.site_label is not None:
            place = label_of(candidate.labels, rule.site_label, "its site")
        elif rule.node_label == ZONE and candidate.zone:
            place = candidate.zone
        elif rule.kind is DiscoveryKind.ENDPOINT_SLICES and rule.node_label == ZONE:
            # The slice's own word, so that nodes need not be read.
            raise ReportError(
                f"its endpoint has no zone, which would name its site; label its node with {ZONE}"
            )
        else:
            labels = self.nodes.get(candidate.node)
            if labels is None:
                shown = candidate.node or "of its own"
                raise ReportError(f"its node {shown} is not known, which would name its site")
            place = label_of(labels, rule.node_label or "", "its site", of="its node")
        if place in self.names:
            return place
        here = self.zones.get(place, [])
        if len(here) == 1:
            return here[0]
        reported = f"the sites {', '.join(here)} share the zone" if here else "no site has the zone"
        raise ReportError(f"no site is named '{place}', and {reported} '{place}'")


def label_of(labels: Labels, label: str, what: str, *, of: str = "") -> str:
    """Return the value of a label.

    Args:
        labels: of the object, or of its node.
        label: which.
        what: the label would name.
        of: who has the labels; the object itself by default.

    Raises:
        ReportError: it is not there, or empty.
    """
    value = labels.get(label)
    if not value:
        raise ReportError(f"{of or 'it'} has no label {label}, which would name {what}")
    return value


def cut(text: str) -> str:
    """Return *text* as a name may be; a longer one is cut, and made unique."""
    name = _NO_NAME.sub("-", text).strip("._-")
    if len(name) <= LONGEST_NAME and name:
        return name
    mark = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"{name[: LONGEST_NAME - 9].rstrip('._-')}-{mark}".lstrip("-")
