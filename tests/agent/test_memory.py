"""What an agent loads: it runs beside engines on small machines, and must stay small."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from controlplane.grpc_services.agents import AgentService
from controlplane.grpc_transport.server import GrpcServer
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.ports import free_ports

MOST = 60e6
"""Bytes of resident memory, shared libraries included."""
NOT_NEEDED = {
    "grpc": "the line to the control plane is controlplane.grpc_transport's",
    "numpy": "nothing is computed that needs it",
    "pydantic": "the file is read in a process of its own",
    "rich": "nothing is drawn",
    "watchfiles": "the file is read once",
    "yaml": "the file is read in a process of its own",
    "controlplane.config.schema": "the fleet's configuration is the control plane's",
    "controlplane.fleet": "nothing is decided",
    "controlplane.steering": "nothing is decided",
    "controlplane.resources": "nothing is decided",
    "envoy": "an agent does not know Envoy",
}
"""Module and why an agent does without it."""

AGENT = """\
version: 1
id: north-1
site: north
period: 100ms
control_planes: [{{address: "127.0.0.1:{port}"}}]
instances:
  - {{name: a, engine: vllm, scrape: {{url: "http://{engine}/metrics", period: 100ms}}}}
discover: {{ports: [{free}]}}
training: {{processes: [torchrun]}}
probes: {{targets: [{{site: cloud, address: "{engine}", kind: http, path: /health}}]}}
orca: [{{instance: a, address: "127.0.0.1:{orca}"}}]
"""

RUN = """\
import asyncio, json, sys
from controlplane.cli import agent as cli

def run(config_file):
    from pathlib import Path
    from controlplane.agent.config_file import read_apart
    config = read_apart(Path(config_file))
    cli.load_structlog()
    from controlplane.agent.run import running_agent
    from controlplane.runtime.log import set_up_logs
    set_up_logs(level="error")

    async def until_told():
        async with running_agent(config) as agent:
            while agent.links[0].accepted < 20:
                await asyncio.sleep(0.05)
            print(json.dumps(sorted(sys.modules)))
            print(open("/proc/self/statm").read(), end="")

    asyncio.run(until_told())

run(sys.argv[1])
"""
"""As the command does, but for the end."""


async def test_an_agent_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """A real agent, with everything on but the port, after it has reported its control plane."""
    free, orca = free_ports(2)
    server = GrpcServer()
    AgentService(lambda _: None).serve_on(server)
    port = await server.listen("127.0.0.1", 0)
    file = tmp_path / "agent.yaml"
    try:
        async with EmulatedInstance(InstanceSettings(model="m")) as engine, asyncio.timeout(180):
            file.write_text(AGENT.format(port=port, engine=engine.address, free=free, orca=orca))
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", RUN, str(file)), stdout=asyncio.subprocess.PIPE
            )
            output, _ = await child.communicate()
    finally:
        await server.stop()

    assert 0 == child.returncode
    modules, statm = output.decode().splitlines()
    loaded = {name for name in json.loads(modules) if name in NOT_NEEDED}
    assert {} == {name: NOT_NEEDED[name] for name in loaded}
    assert int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") <= MOST
