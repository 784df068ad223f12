"""A rotation that goes wrong keeps the last good pair, and is reported."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from controlplane.config import Tls
from controlplane.errors import StartError
from controlplane.runtime.certificate_files import CertificateFiles
from testbed.fakes.certificates import Authority, KeyPair, serial_number


def copy(pair: KeyPair, directory: Path, *, cert: bool = True, key: bool = True) -> None:
    """Write one or both files of *pair* to where the port reads them."""
    if cert:
        shutil.copy(pair.cert, directory / "tls.crt")
    if key:
        shutil.copy(pair.key, directory / "tls.key")


def make_files(directory: Path, **settings: Any) -> CertificateFiles:
    """Return those of a port whose pair is in *directory*."""
    return CertificateFiles(
        Tls(cert=str(directory / "tls.crt"), key=str(directory / "tls.key")),
        section="server.tls",
        alpn="h2",
        verify=ssl.CERT_REQUIRED,
        log=structlog.get_logger(),
        **settings,
    )


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


def spoil(fault: str, directory: Path, authority: Authority) -> None:
    """Rotate to a pair that cannot be used."""
    cert, key = directory / "tls.crt", directory / "tls.key"
    match fault:
        case "another key":
            copy(authority.issue("localhost"), directory, cert=False)
        case "no key":
            key.unlink()
        case "no certificate":
            cert.unlink()
        case "garbage":
            cert.write_text("not a certificate")
        case "empty files":
            cert.write_text("")
            key.write_text("")
        case "half a certificate":
            cert.write_bytes(cert.read_bytes()[: cert.stat().st_size // 2])
        case "key with a passphrase":
            copy(authority.issue("localhost", passphrase="secret"), directory)
        case "expired":
            copy(authority.issue("localhost", lasts=-60.0), directory)
        case "not valid yet":
            copy(authority.issue("localhost", begins=60.0), directory)
        case "FIFO":
            key.unlink()
            os.mkfifo(key)
        case "directory":
            cert.unlink()
            cert.mkdir()
        case "loop of links":
            key.unlink()
            key.symlink_to(key)


def restore(directory: Path) -> None:
    """Remove what is no regular file."""
    for file in (directory / "tls.crt", directory / "tls.key"):
        if file.is_dir():
            file.rmdir()
        elif file.is_fifo() or file.is_symlink():
            file.unlink()


FAULTS = (
    *("another key", "no key", "no certificate", "garbage", "empty files", "half a certificate"),
    *("key with a passphrase", "expired", "not valid yet", "FIFO", "directory", "loop of links"),
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pair_that_does_not_fit_is_not_taken(tmp_path: Path, fault: str) -> None:
    """The last good pair serves, a warning and a state say so once, and a good pair ends it."""
    authority = Authority(tmp_path)
    first, third = (authority.issue("localhost") for _ in range(2))
    first_number, third_number = serial_number(first), serial_number(third)
    copy(first, tmp_path)
    states: list[bool] = []
    with capture_logs() as logs:
        files = make_files(tmp_path, on_state=states.append)
        spoil(fault, tmp_path, authority)
        kept = [served(files, authority) for _ in range(3)]
        restore(tmp_path)
        copy(third, tmp_path)
        renewed = served(files, authority)

    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [first_number] * 3 == kept
    assert third_number == renewed
    assert [True, False, True] == [state for state, _ in itertools.groupby(states)]
    assert 1 == len(warnings)
    assert "server.tls" == warnings[0]["section"]
    assert "valid" == warnings[0]["in_use"]
    assert warnings[0]["remedy"]


def test_a_certificate_that_becomes_valid_is_taken_without_another_change(tmp_path: Path) -> None:
    """So does one that was refused by a clock that was wrong."""
    authority = Authority(tmp_path)
    first, second = authority.issue("localhost"), authority.issue("localhost", begins=60.0)
    copy(first, tmp_path)
    now = time.time()
    files = make_files(tmp_path, unix_time=lambda: now)
    copy(second, tmp_path)
    files.renew()
    before = files.answering
    now += 61.0
    files.renew()

    assert before is files.context
    assert files.answering is not files.context


def test_a_clock_that_is_right_again_ends_the_warning(tmp_path: Path) -> None:
    """Set a year ahead and back: the certificate is looked at by the clock as it is now."""
    copy(Authority(tmp_path).issue("localhost", lasts=86_400.0), tmp_path)
    began = now = time.time()
    states: list[bool] = []
    with capture_logs() as logs:
        files = make_files(tmp_path, unix_time=lambda: now, on_state=states.append)
        for seconds in (365 * 86_400.0, 1.0, 2.0):
            now = began + seconds
            files.renew()

    assert [True, False, True] == [state for state, _ in itertools.groupby(states)]
    assert ["warning", "info"] == [line["log_level"] for line in logs]


def test_a_certificate_that_expires_while_it_serves_is_reported_once(tmp_path: Path) -> None:
    """It goes on serving: a client may be more patient than none at all."""
    copy(Authority(tmp_path).issue("localhost", lasts=100.0), tmp_path)
    now = time.time()
    states: list[bool] = []
    with capture_logs() as logs:
        files = make_files(tmp_path, unix_time=lambda: now, on_state=states.append)
        for seconds in (50.0, 60.0, 30.0):
            now += seconds
            files.renew()

    (warning,) = (line for line in logs if line["log_level"] == "warning")
    assert "expired" == warning["in_use"]
    assert [True, False] == [state for state, _ in itertools.groupby(states)]
    assert files.answering is files.context


def test_an_expired_certificate_at_the_start_is_served_and_reported(tmp_path: Path) -> None:
    """A restart does not take down what other files repair while it runs."""
    copy(Authority(tmp_path).issue("localhost", lasts=-60.0), tmp_path)
    with capture_logs() as logs:
        make_files(tmp_path)
    (warning,) = logs
    assert ("warning", "expired") == (warning["log_level"], warning["in_use"])


@pytest.mark.parametrize("fault", ["key with a passphrase", "FIFO", "directory", "empty files"])
def test_files_that_cannot_be_used_at_the_start_end_it_with_a_reason(
    tmp_path: Path, fault: str
) -> None:
    """It neither asks for a passphrase at the terminal nor waits for a writer."""
    authority = Authority(tmp_path)
    copy(authority.issue("localhost"), tmp_path)
    spoil(fault, tmp_path, authority)
    with pytest.raises(StartError, match=r"server\.tls: .*tls\."):
        make_files(tmp_path)
