"""Take a defence out of the product, and see which test of its row in docs/threats.md fails.

``python -m testbed.tools.defences [WORD...]`` does it with those whose row contains a word, in a
copy of the sources: a defence that no test misses is reported, and ends with status 1.
Rows that have no defence here are tried on a running control plane by tests/docs/test_threats.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = ["refused", "answer", "log line", "metric", "test"]
COPIED = ("controlplane", "testbed", "tests", "pyproject.toml")
LONGEST = 900.0
"""Seconds of a row's tests, after which they count as failed."""


@dataclass(frozen=True, slots=True)
class Defence:
    """Lines of the product that refuse what a row of the table says."""

    row: str
    """What the row's first cell begins with."""
    module: str
    """Where, below ``controlplane/``."""
    text: str
    """Stands there once."""
    without: str
    """What *text* becomes where the defence is absent."""


DEFENCES = (
    Defence(
        "a client of the gRPC port without a certificate",
        "runtime/certificate_files.py",
        "context.verify_mode = self._verify",
        "context.verify_mode = ssl.CERT_NONE",
    ),
    Defence(
        "an Envoy that claims another site",
        "auth/identity.py",
        'if site not in identity.sites and places.get("site") != site:',
        "if False:",
    ),
    Defence(
        "an Envoy that claims another site",
        "auth/identity.py",
        'elif places.get("id", claimed) != claimed:',
        "elif False:",
    ),
    Defence(
        "the same on any other stream",
        "auth/identity.py",
        "if identity.role is not role:",
        "if False:",
    ),
    Defence(
        "the same on any other stream",
        "grpc_services/agents.py",
        "self._identities.check(call.names, Role.AGENT, id=agent.id, site=agent.site)",
        "pass",
    ),
    Defence(
        "the question who has what",
        "grpc_services/csds.py",
        "self._identities.check(call.names, Role.OBSERVER)",
        "pass",
    ),
    Defence(
        "the question who has what",
        "grpc_services/csds.py",
        "elif not is_loopback(call.host):",
        "elif False:",
    ),
    Defence(
        "the external scaler's questions",
        "grpc_services/external_scaler.py",
        'self._identities.check(call.call.names, Role.OBSERVER, id="", site="")',
        "pass",
    ),
    Defence(
        "what the older of two statistics streams",
        "grpc_services/envoy_metrics.py",
        "if newer is not None and self._clock() - newer.opened_at < ALIVE_AFTER:",
        "if False:",
    ),
    Defence(
        "what the older of two statistics streams",
        "grpc_services/envoy_metrics.py",
        'stats.envoy = f"{stats.envoy} ({stream.peer})"',
        "return False",
    ),
    Defence(
        "xDS streams before there is a plan",
        "grpc_services/ads.py",
        "if not self.views.ready:",
        "if False:",
    ),
    Defence(
        "more xDS streams at once",
        "grpc_services/ads.py",
        "wait = bucket.reserve(now=now, patience=patience)",
        "wait = 0.0",
    ),
    Defence(
        "more xDS streams at once",
        "grpc_services/ads.py",
        "others = self._starts.reserve(now=now, patience=patience)",
        "others = 0.0",
    ),
    Defence(
        "frames and calls that would stop",
        "grpc_transport/connection.py",
        "if not self._budget.spend(price(kind, size, len(self.streams)), now=self.now):",
        "if False:",
    ),
    Defence(
        "an open-file limit",
        "runtime/acceptor.py",
        "self._pause(listener, tls, FILES_PAUSE)",
        "pass",
    ),
    Defence(
        "an xDS client that does not read",
        "grpc_transport/connection.py",
        "return Cut.SLOW_READER",
        "return None",
    ),
    Defence(
        "connections beyond `--max-connections`",
        "grpc_transport/server.py",
        "if count >= most:",
        "if False:",
    ),
    Defence(
        "HTTP/2 that is malformed",
        "grpc_transport/connection.py",
        "return Cut.SILENT if now - self._pinged_at > limits.keepalive_timeout else None",
        "return None",
    ),
    Defence(
        "calls beyond those",
        "grpc_transport/served.py",
        "or len(self.streams) >= self.limits.max_streams:",
        "or False:",
    ),
    Defence(
        "an admin port that others can reach",
        "app/admin_port.py",
        "if is_loopback(address[0]):\n            return None",
        "if True:\n            return None",
    ),
    Defence(
        "a plan from bus or disk",
        "controller/decider.py",
        "places.get(allocation.instance) == allocation.site",
        "True",
    ),
    Defence(
        "a plan from bus or disk",
        "controller/cycle.py",
        "if not covers(saved.plan, config):",
        "if False:",
    ),
    Defence(
        "a plan from bus or disk",
        "controller/cycle.py",
        "if shared is not None and covers(shared, config):",
        "if shared is not None:",
    ),
    Defence(
        "an instance whose certificate is of another authority",
        "resources/instance_tls.py",
        "match_typed_subject_alt_names=[_name(each) for each in tls.names]",
        "match_typed_subject_alt_names=[]",
    ),
)


def rows() -> list[list[str]]:
    """Return the cells of the table of refusals in docs/threats.md, row by row."""
    text = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
    section = text.split("## What is refused\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    if cells[0] != HEAD:
        raise ValueError(f"the table of refusals begins with {cells[0]}, not with {HEAD}")
    return cells[2:]


def names_in(cell: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def tests_of(defence: Defence) -> list[str]:
    """Return the tests that the row of *defence* names."""
    (row,) = [cells for cells in rows() if cells[0].startswith(defence.row)]
    return names_in(row[4])


def take_out(defence: Defence, sources: Path) -> None:
    """Remove *defence* from the copy of the sources in the directory *sources*.

    Raises:
        ValueError: its text does not stand there once.
    """
    file = sources / "controlplane" / defence.module
    text = file.read_text(encoding="utf-8")
    if text.count(defence.text) != 1:
        raise ValueError(f"{defence.module}: {text.count(defence.text)} times: {defence.text}")
    file.write_text(text.replace(defence.text, defence.without), encoding="utf-8")


@contextmanager
def copied_sources() -> Iterator[Path]:
    """Copy what tests run; the rest, such as the environment with Envoy, is linked."""
    with tempfile.TemporaryDirectory(prefix="defences-") as directory:
        copy = Path(directory)
        for each in ROOT.iterdir():
            if each.name not in COPIED:
                (copy / each.name).symlink_to(each)
            elif each.is_dir():
                shutil.copytree(
                    each, copy / each.name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(each, copy / each.name)
        yield copy


def failed_without(defence: Defence) -> list[str]:
    """Return the tests of the row that fail without *defence*, up to the first one."""
    tests = tests_of(defence)
    named = re.compile(rf"def ({'|'.join(map(re.escape, tests))})\(")
    with copied_sources() as copy:
        take_out(defence, copy)
        files = [
            path
            for path in sorted((copy / "tests").rglob("test_*.py"))
            if named.search(path.read_text(encoding="utf-8"))
        ]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "--tb=no", "-rfE"]
        command += ["-p", "no:cacheprovider", "-k", " or ".join(tests)]
        environment = {key: value for key, value in os.environ.items() if key != "CATS_FAULTS"}
        try:
            done = subprocess.run(
                [*command, *map(str, files)],
                cwd=copy,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return ["all: they do not end"]
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return re.findall(r"^FAILED \S*::(test_\w+)", done.stdout, re.MULTILINE)


def main(words: Sequence[str]) -> int:
    """Take out each defence whose row contains one of *words*; all by default."""
    missed = 0
    for defence in DEFENCES:
        if words and not any(word in defence.row for word in words):
            continue
        failed = failed_without(defence)
        missed += not failed
        print(
            f"{defence.row} ({defence.module}): {', '.join(failed) or 'no test fails'}", flush=True
        )
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
