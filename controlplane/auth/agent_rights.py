"""What an agent may report: its own site by certificate, or what ``server.agents`` names.

A certificate's names are held to the claimed site by `controlplane.auth.identity`; here is what
follows from that claim for every single report, and the same for bearer tokens.
Tokens are compared by their hashes; none is kept, and none is ever written anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.config import AgentRights, Config
from controlplane.errors import IdentityError, ReportError
from controlplane.model import InstanceReport, PathReport, Report, ScrapeFailure, SiteReport
from controlplane.runtime.files import read_file

MAX_FILE = 1_000
_RIGHTS = "give it that site or instance in server.agents, or a certificate of that site"
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What one agent may report, and how much."""

    sites: frozenset[str]
    instances: frozenset[str]
    batches_rate: float
    max_batch: int


class AgentGate:
    """Decides which agents may report, and what.

    Args:
        config: in force.
        enforced: whether clients show certificates, which name their site.
        on_refused: called for each agent that is turned away, for metrics.
    """

    def __init__(
        self,
        config: Config,
        *,
        enforced: bool,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._enforced = enforced
        self._on_refused = on_refused
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Hold agents to *config* from their next batch on."""
        self._places: Mapping[str, str] = {one.name: one.site for one in config.instances}
        self._rights = {rights.name: rights for rights in config.server.agents}

    def admit(self, agent: str, metadata: Mapping[str, str]) -> None:
        """Let *agent* open a stream.

        Raises:
            IdentityError: it is not registered, or its token is not the one.
        """
        try:
            rights = self._known(agent)
            if rights is not None and rights.token_hash_file is not None:
                _check_token(metadata.get("authorization", ""), rights)
        except IdentityError:
            self._on_refused()
            raise

    def scope(self, agent: str, site: str) -> Scope | None:
        """Return what *agent*, which says it is at *site*, may report; none means everything.

        Raises:
            IdentityError: it is registered no more.
        """
        rights = self._known(agent)
        if rights is not None:
            return Scope(
                frozenset(rights.sites),
                frozenset(rights.instances),
                rights.batches_rate,
                rights.max_batch,
            )
        if self._enforced:
            return Scope(frozenset({site}), frozenset(), 20.0, 10_000)
        return None

    def _known(self, agent: str) -> AgentRights | None:
        if not self._rights:
            return None
        rights = self._rights.get(agent)
        if rights is None:
            raise IdentityError(
                f"no agent {agent[:64]!r} is registered in server.agents; add it there, or"
                " correct the agent's id"
            )
        return rights

    def require(self, report: Report, scope: Scope) -> None:
        """Refuse a report outside *scope*.

        Raises:
            ReportError: naming what is not the agent's.
        """
        match report:
            case InstanceReport() | ScrapeFailure():
                name = report.instance
                # A name that is not configured is refused by the fleet, with its own reason.
                place = self._places.get(name)
                if place is None or name in scope.instances or place in scope.sites:
                    return
                raise ReportError(f"the agent may not report for instance {name[:64]!r}; {_RIGHTS}")
            case PathReport():
                if report.from_site not in scope.sites:
                    raise ReportError(
                        f"the agent may not report paths from site {report.from_site[:64]!r};"
                        f" {_RIGHTS}"
                    )
            case SiteReport():
                if report.site not in scope.sites:
                    raise ReportError(
                        f"the agent may not report for site {report.site[:64]!r}; {_RIGHTS}"
                    )


def _check_token(authorization: str, rights: AgentRights) -> None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise IdentityError(
            f"agent {rights.name!r} must show its bearer token; set token_file of its"
            " control_planes"
        )
    try:
        content = read_file(Path(str(rights.token_hash_file)), limit=MAX_FILE)
        wanted = content.decode("ascii", "replace").split()
    except OSError as error:
        raise IdentityError(
            f"the token of agent {rights.name!r} cannot be checked: {error.strerror}; see its"
            " token_hash_file at the control plane"
        ) from None
    shown = hashlib.sha256(token.strip().encode()).hexdigest()
    # The first word, so that what sha256sum writes can be used as it is.
    good = wanted[0].lower() if wanted else ""
    if not _HASH.fullmatch(good) or not hmac.compare_digest(good, shown):
        raise IdentityError(
            f"the token is not that of agent {rights.name!r}; compare its SHA-256 with that in"
            " token_hash_file"
        )
