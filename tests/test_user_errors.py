"""Every mistake that an operator can make ends with what to do about it.

Faults inside a configuration are listed in tests/config/test_faults.py, wrong overrides in
tests/controller/test_overrides.py, the doctor's findings in tests/diagnostics/test_doctor.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from controlplane.auth.agent_rights import AgentGate
from controlplane.cli import COMMANDS, cats
from controlplane.controller.override_requests import OverrideError
from controlplane.controller.overrides import OverrideStore
from controlplane.controller.state_file import StateError, StateFile
from controlplane.errors import IdentityError
from testbed.fakes.views import make_config
from testbed.processes.ports import free_ports

FLEET = "examples/quickstart/fleet.yaml"
AWAY = f"http://127.0.0.1:{free_ports(1)[0]}"

MISTAKES = [
    pytest.param("serv", 2, "did you mean 'serve'?", id="misspelt command"),
    pytest.param("check nowhere.yaml", 2, "does not exist", id="no file"),
    pytest.param("check WRONG", 2, "polcy", id="unknown key"),
    pytest.param("serve", 2, "Missing option '-c'", id="no configuration"),
    pytest.param(f"serve -c {FLEET} --xds 18000", 2, "such as 127.0.0.1:18000", id="no host"),
    pytest.param(f"serve -c {FLEET} --admin ::1:80", 2, "in brackets", id="bare IPv6"),
    pytest.param("serve -c WRONG", 2, "polcy", id="wrong configuration"),
    pytest.param(f"bootstrap -c {FLEET} --id a", 2, "'--site'", id="no site"),
    pytest.param(
        f"bootstrap -c {FLEET} --site office --id a --cert c.pem", 2, "go together", id="half TLS"
    ),
    pytest.param(f"plan -c {FLEET} --policy best", 2, "known: optimal", id="no such policy"),
    pytest.param(f"plan -c {FLEET} --reports WRONG", 2, "WRONG:1:1", id="wrong reports"),
    pytest.param("replay .", 2, "--policy nearest", id="nothing to compare"),
    pytest.param("replay . --policy nearest", 1, "cats serve --record", id="no recording"),
    pytest.param("explain", 2, "name a SERVICE and --from SITE", id="nothing to explain"),
    pytest.param(f"explain chat --from a --admin {AWAY}", 1, "is 'cats serve' running", id="away"),
    pytest.param("top --once --admin localhost", 2, "such as http://", id="no URL"),
    pytest.param(f"top --once --admin {AWAY}", 1, "is 'cats serve' running", id="top away"),
    pytest.param("doctor", 2, "name what to check", id="doctor of nothing"),
    pytest.param("override add --instance a --drain", 2, "'--for'", id="override for ever"),
    pytest.param("override remove file-0", 2, "remove it there", id="override of the file"),
    pytest.param(
        "override add --site a --max-share lots --for 1m --reason x", 2, "such as 30%", id="share"
    ),
    pytest.param("simulate nowhere.yaml", 2, "does not exist", id="no scenario"),
    pytest.param("simulate", 2, "or ask for --suite", id="nothing to simulate"),
    pytest.param("simulate --suite SCENARIO", 2, "leave the file out", id="suite of a file"),
    pytest.param("simulate --suite --only xyz", 2, "there are", id="no such case"),
    pytest.param("simulate SCENARIO --policy best", 2, "there are controlplane", id="no policy"),
    pytest.param("simulate SCENARIO --plot p.png", 2, "name the file with .svg", id="no SVG"),
    pytest.param("simulate SCENARIO --plot DIR/gone/p.svg", 2, "writable directory", id="plot"),
    pytest.param("replay DIR/recording --policy nearest", 1, "remove the line", id="broken line"),
    pytest.param("replay DIR/empty --policy nearest", 2, "for some periods", id="no cycle"),
    pytest.param(
        "replay DIR/empty --against examples/cloud-edge/fleet.yaml",
        2,
        "must have the sites, services and instances of the recording",
        id="another fleet",
    ),
]
SCENARIOS = {
    "unknown key": ("duratoin: 4s", "did you mean 'duration'?"),
    "no unit": ("duration: 5", "write a duration such as 250ms or 1s"),
    "no such policy": ("policies: [best]", "there are controlplane"),
    "no such trace": ("workload: {trace: mine}", "there are azure"),
    "no one there": ("events: [{what: death, at: 1s, instances: [x]}]", "known: cloud"),
    "no fleet's file": ("fleet: {kind: custom}", "as fleet.yaml"),
    "no clients": ("fleet: {kind: custom, config: FLEET}", "add one with site, service and rate"),
    "no such engine": (
        "fleet: {kind: custom, config: FLEET, engines: {x: {}}, clients: [CLIENT]}",
        "known: far, near",
    ),
    "no such site": (
        "fleet: {kind: custom, config: FLEET, clients: [{site: x, service: chat, rate: 1}]}",
        "known: cloud-1, office",
    ),
    "no such service": (
        "fleet: {kind: custom, config: FLEET, clients: [{site: office, service: x, rate: 1}]}",
        "known: chat",
    ),
    "unknown steering": ("steering: {polcy: optimal}", "known: "),
    "wrong steering": ("steering: {min_gain: lots}", "steering.min_gain: "),
}
"""What is wrong in a scenario: its line, and the remedy."""
STARTS = {
    "no token file": ("admin: {token_file: DIR/gone}", (), "an existing file"),
    "no login": ("", ("--admin", "0.0.0.0:0"), "bind it to 127.0.0.1"),
    "no certificate": ("tls: {cert: DIR/gone, key: DIR/gone}", (), "an existing file"),
    "not a certificate": ("tls: {cert: DIR/text, key: DIR/text}", (), "use PEM files"),
    "not a certificate for people": (
        "admin: {tls: {cert: DIR/text, key: DIR/text}}", (), "use PEM files",
    ),
    "no authority of the bus": (
        "bus: 'tls://127.0.0.1:1', bus_tls: {ca: DIR/gone}", (), "an existing file",
    ),
    "not an authority of the bus": (
        "bus: 'tls://127.0.0.1:1', bus_tls: {ca: DIR/text}", (), "use PEM files",
    ),
    "not a certificate for the bus": (
        "bus: 'tls://127.0.0.1:1', bus_tls: {cert: DIR/text, key: DIR/text}", (), "use PEM files",
    ),
    "port taken, xDS": ("", ("--xds", "TAKEN"), "choose another with --xds"),
    "port taken, admin": ("", ("--admin", "TAKEN"), "choose another with --admin"),
    "no place to record": ("", ("--record", "DIR/text/below"), "writable directory"),
}  # fmt: skip
"""What keeps a control plane from starting: a line of ``server``, options, and the remedy."""


@pytest.mark.parametrize(("line", "status", "remedy"), MISTAKES)
def test_a_mistake_is_reported_with_its_remedy(
    line: str, status: int, remedy: str, tmp_path: Path
) -> None:
    """One message, the right status, no traceback."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("polcy: optimal\n", encoding="utf-8")
    (tmp_path / "scenario.yaml").write_text("duration: 1s\npolicies: [capacity]\n")
    for name, content in (("recording", "{}\n"), ("empty", "")):
        (tmp_path / name).mkdir()
        write_fleet(tmp_path / name)
        (tmp_path / name / "reports.jsonl").write_text(content)
    words = [
        word.replace("WRONG", str(wrong))
        .replace("SCENARIO", str(tmp_path / "scenario.yaml"))
        .replace("DIR", str(tmp_path))
        for word in line.split()
    ]

    result = CliRunner().invoke(cats, words, prog_name="cats")

    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert status == result.exit_code, result.output
    assert remedy.replace("WRONG", str(wrong)) in " ".join(result.output.split())


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_wrong_scenario_is_reported_with_its_remedy(name: str, tmp_path: Path) -> None:
    """One that does not fit its fleet as well as one that cannot be read."""
    line, remedy = SCENARIOS[name]
    write_fleet(tmp_path)
    line = line.replace("FLEET", "fleet.yaml")
    line = line.replace("CLIENT", "{site: office, service: chat, rate: 1}")
    file = tmp_path / "scenario.yaml"
    file.write_text(line + "\n", encoding="utf-8")

    result = CliRunner().invoke(cats, ["simulate", str(file), "--policy", "capacity"])

    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert 2 == result.exit_code, result.output
    assert str(file) in result.output
    assert remedy in " ".join(result.output.split())


def write_fleet(directory: Path, more: str = "") -> Path:
    """Return a good configuration with *more* at its end."""
    file = directory / "fleet.yaml"
    file.write_text(Path(FLEET).read_text(encoding="utf-8") + more, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", STARTS)
async def test_what_keeps_it_from_starting_is_reported_with_its_remedy(
    name: str, tmp_path: Path
) -> None:
    """In one line, with the setting or the option to change."""
    server, options, remedy = STARTS[name]
    (tmp_path / "text").write_text("no certificate\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        file = write_fleet(tmp_path, f"server: {{{server}}}\n".replace("DIR", str(tmp_path)))
        given = {"--xds": "127.0.0.1:0", "--admin": "127.0.0.1:0"}
        given |= dict(zip(options[::2], options[1::2], strict=True))
        words = [
            word.replace("TAKEN", place).replace("DIR", str(tmp_path))
            for pair in given.items()
            for word in pair
        ]
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane", "serve", "-c", str(file), *words),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await asyncio.wait_for(child.communicate(), 60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()

    last = said.decode().splitlines()[-1]
    assert (1, "Error: ") == (child.returncode, last[:7])
    assert remedy in last


@pytest.mark.parametrize(
    ("file", "content", "remedy"),
    [
        ("plan.json", b"x" * 99, "another one is made; set aside as plan.unreadable"),
        ("plan.json", b'{"format": 9}', "start the version that wrote it"),
        ("plan.json", None, "check who owns --state-dir"),
        ("learned.json", b"{}", "it is learned again; set aside"),
        ("learned.json", b'{"format": 9}', "is not 1, the one this version reads"),
        ("learned.json", None, "check who owns --state-dir"),
    ],
)
def test_state_that_cannot_be_used_is_reported_with_its_remedy(
    file: str, content: bytes | None, remedy: str, tmp_path: Path
) -> None:
    """The log has it as the reason; the start goes on. Without content it is no file."""
    path, state = tmp_path / file, StateFile(tmp_path)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(StateError, match=remedy):
        state.load(now=0.0) if file == "plan.json" else state.load_memory()


def test_overrides_that_cannot_be_read_are_reported_with_their_remedy(tmp_path: Path) -> None:
    """The rest of the store's errors are in tests/controller/test_overrides.py."""
    (tmp_path / "overrides.json").write_text("{}")
    with pytest.raises(OverrideError, match=r"remove the file and add the overrides again"):
        OverrideStore(tmp_path).load(unix_now=0.0)


AGENTS = {
    "not registered": ("n-2", "", None, "add it there, or correct the agent's id"),
    "no token": ("n-1", "", "", "set token_file of its control_planes"),
    "no hash": ("n-1", "Bearer t", None, "see its token_hash_file at the control plane"),
    "another token": ("n-1", "Bearer t", "0" * 64, "compare its SHA-256"),
}


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_that_is_turned_away_is_reported_with_the_remedy(
    name: str, tmp_path: Path
) -> None:
    """What it may not report is in tests/auth/test_agent_rights.py."""
    agent, header, content, remedy = AGENTS[name]
    if content is not None:
        (tmp_path / "hash").write_text(content)
    config = make_config(
        server={
            "agents": [
                {"name": "n-1", "token_hash_file": str(tmp_path / "hash"), "sites": ["near"]}
            ]
        }
    )
    with pytest.raises(IdentityError, match=remedy):
        AgentGate(config, enforced=False).admit(agent, {"authorization": header})


def test_every_command_is_in_the_list() -> None:
    """A new command brings its mistakes; `schema` takes nothing, an agent's are elsewhere."""
    lines = [str(item.values[0]) for item in MISTAKES]
    assert set() == set(COMMANDS) - {line.split()[0] for line in lines} - {"schema", "agent"}
