"""A plan to Envoy messages: one small builder for each kind, one snapshot for each client site."""

from controlplane.resources.build import UNKNOWN_SITE, Fault, SnapshotBuilder, Views

__all__ = ["UNKNOWN_SITE", "Fault", "SnapshotBuilder", "Views"]
