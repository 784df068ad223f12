"""A certificate authority for tests: certificates with the names and the lifetime that are asked.

Keys are elliptic, so that a test pays a millisecond for one.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Files of a certificate and its key."""

    cert: Path
    key: Path


_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    **dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "encipher_only", "decipher_only"),
        ),
        False,
    ),
)


class Authority:
    """Issues certificates into a directory.

    Args:
        directory: takes the files.
        name: of the authority and its files.
        identified: whether certificates have the key identifiers and uses of RFC 5280, which
            Python demands by default since 3.13; authorities of many clusters leave them out.
    """

    def __init__(self, directory: Path, *, name: str = "ca", identified: bool = True) -> None:
        self._identified = identified
        self._directory = directory
        self._name = name
        self._numbers = itertools.count()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = directory / f"{name}.pem"
        """File of its own certificate."""
        now = dt.datetime.now(dt.UTC)
        own = (
            x509.CertificateBuilder()
            .subject_name(self._subject)
            .issuer_name(self._subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        )
        if identified:
            public = self._key.public_key()
            own = own.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(public), critical=False
            )
            own = own.add_extension(_SIGNS, critical=True)
        self.ca.write_bytes(
            own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def issue(
        self,
        *names: str,
        lasts: float = 3600.0,
        begins: float = -86_400.0,
        over: KeyPair | None = None,
        passphrase: str = "",
    ) -> KeyPair:
        """Issue a certificate.

        Args:
            names: URIs (with ``://``), addresses or DNS names.
            lasts: seconds from now; negative for one that has expired.
            begins: seconds from now; positive for one that is not valid yet.
            over: files to replace, as a rotation does; by default new ones.
            passphrase: what the key is encrypted with; empty for a key in clear text.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        request = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(seconds=begins))
            .not_valid_after(now + dt.timedelta(seconds=lasts))
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=True
            )
        )
        if self._identified:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            request = request.add_extension(issuer, critical=False)
        certificate = request.sign(self._key, hashes.SHA256())
        stem = self._directory / f"{self._name}-{next(self._numbers)}"
        pair = over or KeyPair(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        pem = serialization.Encoding.PEM
        encryption = (
            serialization.BestAvailableEncryption(passphrase.encode())
            if passphrase
            else serialization.NoEncryption()
        )
        _replace(pair.key, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
        _replace(pair.cert, certificate.public_bytes(pem))
        return pair


def server_context(pair: KeyPair, *, clients_of: Path | None = None) -> ssl.SSLContext:
    """Return the TLS of a server that shows *pair* and lets in whom *clients_of* has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients_of is not None:
        context.load_verify_locations(clients_of)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def serial_number(pair: KeyPair) -> int:
    """Return what says a certificate from its successor."""
    return x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(path)


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
