"""The order in which a stream hears of a change, so that nothing breaks in between.

"CDS updates (if any) must always be pushed first. EDS updates (if any) must arrive after CDS
updates for the respective clusters. LDS updates must arrive after corresponding CDS/EDS updates.
RDS updates related to the newly added listeners must arrive after CDS/EDS/LDS updates. [...] Stale
CDS clusters and related EDS endpoints (ones no longer being referenced) can then be removed"
[Eventual consistency considerations].
Only type URLs live here.
"""

from __future__ import annotations

from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE, SECRET

REFERRERS: dict[str, tuple[str, ...]] = {
    CLUSTER: (LISTENER, ROUTE),
    ENDPOINT: (CLUSTER,),
    ROUTE: (LISTENER,),
    SECRET: (CLUSTER, LISTENER),
}
"""Type -> types that may refer to its resources: these let go before a resource is removed."""

WAIT_FOR_CLUSTERS = frozenset({LISTENER, ROUTE})
"""Types whose changes wait until new clusters are acknowledged, that is, warm."""

_RANK = {type_url: rank for rank, type_url in enumerate(PUSH_ORDER)}


def push_rank(type_url: str) -> int:
    """Return the place of a type in a push; unknown types come last."""
    return _RANK.get(type_url, len(_RANK))
