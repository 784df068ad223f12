"""TLS contexts of clients: what they trust and what they show."""

from __future__ import annotations

import ssl


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
    context = ssl.create_default_context(cafile=ca, cadata=pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None or pem:
        # Since Python 3.13 the default demands RFC 5280's key identifiers, which authorities of
        # many clusters lack (kubeadm before 1.30, k3s, minikube). The file names the authority, so
        # the identifiers, which help to find an issuer among many, decide nothing here.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context
