"""Who a client of the gRPC port may be: its certificate's names against what it claims.

An Envoy says its id and site in its node, an agent in its first batch; both are only words.
With ``server.tls.client_ca`` every stream of every service is held to ``server.identities``.
Values in, a verdict out: the transport gives the names, and anyone who serves ends the stream.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controlplane.config import Identity, Role
from controlplane.errors import IdentityError
from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.log import Logger, get_logger


@dataclass(frozen=True, slots=True)
class Peer:
    """One client and what it claims."""

    names: tuple[str, ...]
    """Subject alternative names of its certificate."""
    role: Role
    id: str
    site: str


class IdentityCheck:
    """Admits clients by ``server.identities``.

    Args:
        identities: what certificates allow.
        enforced: false where clients show no certificates; then each is who it says.
        on_refused: called for each refusal with the role, for metrics.
        clock: seconds, monotonic.
        log: gets one line for each client that is refused, however often it comes back.
    """

    def __init__(
        self,
        identities: Sequence[Identity] = (),
        *,
        enforced: bool,
        on_refused: Callable[[Role], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        log: Logger | None = None,
    ) -> None:
        self.enforced = enforced
        self._on_refused = on_refused
        self._log = ClientLog(get_logger(part="identity") if log is None else log, clock=clock)
        self.reconfigure(identities)

    def reconfigure(self, identities: Sequence[Identity]) -> None:
        """Hold streams that open from now on to *identities*."""
        self._rules = tuple((each, _compile(each.san)) for each in identities)

    def check(
        self,
        names: Sequence[str],
        role: Role,
        *,
        id: str = "",  # noqa: A002 -- the field's name
        site: str = "",
    ) -> None:
        """Let a client be *role* with *id* at *site*.

        Raises:
            IdentityError: no name of its certificate allows that; reported and counted.
        """
        if not self.enforced:
            return
        reason = self._find_fault(names, role, id, site)
        if reason is None:
            return
        self._on_refused(role)
        self._log_rejection(Peer(tuple(names), role, id, site), reason)
        raise IdentityError(reason)

    def _find_fault(self, names: Sequence[str], role: Role, claimed: str, site: str) -> str | None:
        """Return why the claim is not allowed; None if it is."""
        if not names:
            return "the certificate carries no subject alternative name"
        reason = f"no identity of the role '{role.value}' fits the certificate"
        for identity, pattern in self._rules:
            if identity.role is not role:
                continue
            for name in names:
                match = pattern.fullmatch(name)
                if match is None:
                    continue
                places = match.groupdict()
                if role is Role.OBSERVER:
                    return None
                if site not in identity.sites and places.get("site") != site:
                    reason = f"the certificate is not for site '{site[:64]}'"
                elif places.get("id", claimed) != claimed:
                    reason = f"the certificate is not for id '{claimed[:64]}'"
                else:
                    return None
        return reason

    def _log_rejection(self, peer: Peer, reason: str) -> None:
        self._log.warning(
            "client rejected",
            peer,
            role=peer.role.value,
            claims_id=peer.id[:256],
            claims_site=peer.site[:256],
            certificate=list(peer.names),
            reason=reason,
            remedy="issue a certificate for its own site, or add its identity to server.identities",
        )


def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*|\{site\}|\{id\})", pattern)
    places = {"*": "[^/]*", "{site}": "(?P<site>[^/]+)", "{id}": "(?P<id>[^/]+)"}
    return re.compile("".join(places.get(part) or re.escape(part) for part in parts))


OPEN = IdentityCheck(enforced=False)
"""Takes every client at its word."""
