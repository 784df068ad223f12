"""A rotation that goes wrong keeps the last good pair, and is reported."""

from __future__ import annotations

import contextlib
import shutil
import ssl
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from controlplane.config import Tls
from controlplane.runtime.certificate_files import CertificateFiles
from testbed.fakes.certificates import Authority, KeyPair, serial_number


def copy(pair: KeyPair, directory: Path, *, cert: bool = True, key: bool = True) -> None:
    """Write one or both files of *pair* to where the port reads them."""
    if cert:
        shutil.copy(pair.cert, directory / "tls.crt")
    if key:
        shutil.copy(pair.key, directory / "tls.key")


def served(files: CertificateFiles, authority: Authority) -> int:
    """Shake hands in memory; return the serial number of the certificate shown."""
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    client = trusting.wrap_bio(client_in, client_out, server_hostname="localhost")
    server = files.context.wrap_bio(server_in, server_out, server_side=True)
    for _ in range(10):
        for side, out, into in ((client, client_out, server_in), (server, server_out, client_in)):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            into.write(out.read())
    shown = client.getpeercert()
    assert shown is not None
    return int(str(shown["serialNumber"]), 16)


@pytest.mark.parametrize("fault", ["another key", "no key", "no certificate", "garbage"])
def test_a_pair_that_does_not_fit_is_not_taken(tmp_path: Path, fault: str) -> None:
    """The last good pair serves, a warning and a state say so once, and a good pair ends it."""
    authority = Authority(tmp_path)
    first, second, third = (authority.issue("localhost") for _ in range(3))
    first_number, third_number = serial_number(first), serial_number(third)
    copy(first, tmp_path)
    states: list[bool] = []
    with capture_logs() as logs:
        files = CertificateFiles(
            Tls(cert=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key")),
            section="server.tls",
            alpn="h2",
            verify=ssl.CERT_REQUIRED,
            on_state=states.append,
            log=structlog.get_logger(),
        )
        match fault:
            case "another key":
                copy(second, tmp_path, cert=False)
            case "no key":
                (tmp_path / "tls.key").unlink()
            case "no certificate":
                (tmp_path / "tls.crt").unlink()
            case "garbage":
                (tmp_path / "tls.crt").write_text("not a certificate")
        kept = [served(files, authority) for _ in range(3)]
        copy(third, tmp_path)
        renewed = served(files, authority)

    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [first_number] * 3 == kept
    assert third_number == renewed
    assert [True, False, True] == states
    assert 1 == len(warnings)
    assert "server.tls" == warnings[0]["section"]
    assert warnings[0]["remedy"]
