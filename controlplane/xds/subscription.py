"""What a client wants of one type: names, everything, or collections of names.

A subscription is a value: a change gives another one.
It knows nothing of versions, nonces or of what was sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from controlplane.errors import ProtocolError
from controlplane.xds.types import WHOLE_STATE, Resource

WILDCARD = "*"

MAX_NAMES = 20_000
"""Names that one stream may subscribe to per type: more clusters than any Envoy carries well."""
MAX_NAME_LENGTH = 2_048
"""Bytes of one name; an ``xdstp`` name is a URL."""

_NO_NAMES: frozenset[str] = frozenset()


def check_names(names: Collection[str]) -> None:
    """Refuse what no honest client asks for.

    Raises:
        ProtocolError: too many names, or one that is too long.
    """
    if len(names) > MAX_NAMES:
        raise ProtocolError(f"{len(names)} names in one request; at most {MAX_NAMES} are served")
    for name in names:
        if len(name) > MAX_NAME_LENGTH:
            raise ProtocolError(
                f"a resource name of {len(name)} characters; at most {MAX_NAME_LENGTH} are served"
            )


def is_glob(name: str) -> bool:
    """Return whether *name* is a glob collection, ``xdstp://authority/type/path/*`` [xRFC TP1]."""
    return name.startswith("xdstp:") and name.partition("?")[0].endswith("/*")


def in_glob(name: str, glob: str) -> bool:
    """Return whether *name* is a direct member of the collection *glob*."""
    path, _, parameters = glob.partition("?")
    folder = path[:-1]
    own_path, _, own_parameters = name.partition("?")
    member = own_path[len(folder) :]
    return (
        own_path.startswith(folder)
        and bool(member)
        and "/" not in member
        and parameters == own_parameters
    )


@dataclass(frozen=True, slots=True)
class Subscription:
    """Names wanted of one type."""

    names: frozenset[str] = _NO_NAMES
    """Without the wildcard."""
    wildcard: bool = False
    named: bool = False
    """Whether the client ever gave a name; until then an empty list means everything."""

    def replaced(self, names: Iterable[str], type_url: str) -> Subscription:
        """Apply the list of a state-of-the-world request.

        "If the client sends a request with no names and never before requested a name [...] the
        server should treat that identically to how it would treat the client having requested `*`"
        [How the client specifies what resources to return]: for listeners and clusters only.

        Raises:
            ProtocolError: too many names, or one that is too long.
        """
        wanted = frozenset(names)
        check_names(wanted)
        if wanted:
            return Subscription(wanted - {WILDCARD}, WILDCARD in wanted, named=True)
        legacy = not self.named and type_url in WHOLE_STATE
        return Subscription(_NO_NAMES, legacy, self.named)

    def changed(
        self, subscribe: Collection[str], unsubscribe: Collection[str], *, legacy: bool = False
    ) -> Subscription:
        """Apply the differences of a delta request.

        Args:
            subscribe: names to add; may hold the wildcard.
            unsubscribe: names to drop; those never added do no harm.
            legacy: this is the first request of a type that knows the legacy wildcard.

        Raises:
            ProtocolError: too many names, or one that is too long.
        """
        if not subscribe and not unsubscribe and not legacy:
            return self
        check_names(subscribe)
        check_names(unsubscribe)
        names = self.names.union(subscribe).difference(unsubscribe) - {WILDCARD}
        check_names(names)
        wildcard = self.wildcard or WILDCARD in subscribe or (legacy and not subscribe)
        return Subscription(
            names, wildcard and WILDCARD not in unsubscribe, self.named or bool(subscribe)
        )

    def covers(self, name: str) -> bool:
        """Return whether *name* is wanted."""
        return (
            self.wildcard
            or name in self.names
            or any(in_glob(name, glob) for glob in self.names if is_glob(glob))
        )

    def choose(
        self, resources: Mapping[str, Resource]
    ) -> tuple[Mapping[str, Resource], frozenset[str]]:
        """Return the wanted *resources*, in their order, and the names that match nothing."""
        globs = [name for name in self.names if is_glob(name)]
        members = {
            name: [member for member in resources if in_glob(member, name)] for name in globs
        }
        missing = frozenset(
            name for name in self.names if name not in resources and not members.get(name)
        )
        if self.wildcard:
            return resources, missing
        wanted = self.names.union(*members.values())
        if len(wanted) < len(resources):
            chosen = {name: resources[name] for name in sorted(wanted) if name in resources}
        else:
            chosen = {name: held for name, held in resources.items() if name in wanted}
        return chosen, missing
