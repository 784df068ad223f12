"""TLS contexts of clients: what they trust and what they show; certificates and keys in files."""

from __future__ import annotations

import errno
import ssl
from pathlib import Path
from typing import Any, NoReturn

from controlplane.runtime.files import stat_file


def client_context(
    ca: str | None, *, pem: str = "", cert: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """Return a context that verifies chain, names and dates of a server's certificate.

    Args:
        ca: file of the authorities that may have signed it; by default the system's.
        pem: these authorities themselves, beside or instead of a file.
        cert: file of a certificate to show, if any.
        key: file of its key; by default in *cert*.

    Raises:
        OSError: a file cannot be read, or holds something else.
    """
    if ca is not None:
        stat_file(Path(ca))
    context = ssl.create_default_context(cafile=ca, cadata=pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None or pem:
        # Since Python 3.13 the default demands RFC 5280's key identifiers, which authorities of
        # many clusters lack (kubeadm before 1.30, k3s, minikube). The file names the authority, so
        # the identifiers, which help to find an issuer among many, decide nothing here.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cert is not None:
        load_pair(context, cert, key)
    return context


def load_pair(context: ssl.SSLContext, cert: str, key: str | None = None) -> None:
    """Let *context* show a certificate.

    Args:
        context: that of a client or a server.
        cert: file of the certificate and what leads to its authority.
        key: file of its key; by default in *cert*.

    Raises:
        ssl.SSLError: they do not fit.
        OSError: a file cannot be read, is no regular file, or holds an encrypted key: by itself
            OpenSSL asks for the passphrase at the terminal, and waits.
    """
    for file in (cert, key or cert):
        stat_file(Path(file))

    def refuse() -> NoReturn:
        reason = "the key is encrypted; write it without a passphrase"
        raise OSError(errno.EINVAL, reason, key or cert)

    context.load_cert_chain(cert, key, password=refuse)


def dates_of(cert: str) -> tuple[float, float] | None:
    """Return from when to when (Unix time) a file's first certificate is valid; None if none is."""
    # The standard library reads a certificate's fields only here; nothing else is worth a package.
    decode: Any = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        found = decode(cert)
        starts, ends = (ssl.cert_time_to_seconds(found[each]) for each in ("notBefore", "notAfter"))
    except (OSError, ValueError, KeyError):
        return None
    return starts, ends
