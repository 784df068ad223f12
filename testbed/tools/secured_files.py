"""Certificates of a control plane and of an Envoy, with the files by which the Envoy finds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from controlplane.resources.file_secrets import ClientTls, build_secrets
from testbed.fakes.certificates import Authority, KeyPair


@dataclass(frozen=True)
class Secured:
    """Certificates of a control plane and of the Envoy of site ``north``, of one authority."""

    authority: Authority
    tls: ClientTls
    """The Envoy's files."""
    section: str
    """What ``server`` says of them in ``fleet.yaml``, without braces."""
    _own: KeyPair
    _pair: KeyPair

    def renew(self) -> None:
        """Replace both pairs."""
        self.authority.issue(CONTROL_PLANE, over=self._own)
        self.renew_envoy()

    def renew_envoy(self, *, lasts: float = 3600.0) -> None:
        """Replace the Envoy's pair by one that ends *lasts* seconds from now, or ago if below 0."""
        self.authority.issue(ENVOY, over=self._pair, lasts=lasts)


CONTROL_PLANE = "127.0.0.1"
ENVOY = "spiffe://fleet/site/north/envoy/e-1"
"""Names in certificates."""


def secured(directory: Path) -> Secured:
    """Issue certificates into *directory*, and write the files by which an Envoy finds its own."""
    authority = Authority(directory)
    own, pair = authority.issue(CONTROL_PLANE), authority.issue(ENVOY)
    tls = ClientTls(str(authority.ca), str(pair.cert), str(pair.key), secrets=str(directory))
    for file, content in build_secrets(tls).items():
        (directory / file).write_text(content, encoding="utf-8")
    section = f"tls: {{cert: {own.cert}, key: {own.key}, client_ca: {authority.ca}}}"
    return Secured(authority, tls, section, own, pair)
