"""What must agree between several values: names, ranges, and what would never take effect.

The rules read the raw document, not a validated `Config`, so that they also run on a file with
other faults and everything wrong is reported at once. A rule looks only at values of the right
shape; the rest is the schema's to report.
"""

from __future__ import annotations

from controlplane.config.document import Document
from controlplane.config.rules import discovery, instances, services, steering, warnings
from controlplane.config.rules.sections import Sections
from controlplane.errors import Fault


def find_faults(document: Document) -> list[Fault]:
    """Return what is wrong between values, as far as they can be read."""
    doc = Sections(document)
    faults: list[Fault] = []
    for entries, what in (
        (doc.site_list, "site"),
        (doc.model_list, "model"),
        (doc.service_list, "service"),
        (doc.instance_list, "instance"),
    ):
        faults += doc.unique(entries, what)
    for model in doc.model_list:
        faults += doc.known(model, "base", "model", doc.models)
    faults += services.base_cycles(doc)
    faults += instances.instance_faults(doc)
    faults += discovery.discovery_faults(doc)
    faults += instances.agent_faults(doc)
    faults += services.service_faults(doc)
    faults += steering.path_faults(doc)
    faults += steering.steering_faults(doc)
    faults += steering.override_faults(doc)
    return faults


def find_warnings(document: Document) -> list[Fault]:
    """Return what a valid document says that would hardly be meant."""
    return list(warnings.warnings(Sections(document)))
