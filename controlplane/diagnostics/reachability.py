"""Whether what the configuration names can be read from here: metrics pages, names, Kubernetes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import aiohttp

from controlplane.config import Config, Discovery, Instance
from controlplane.config.resolution import SHARED_ADDRESS_REMEDY, names_of, shared_addresses
from controlplane.controller.followers import sources_of
from controlplane.diagnostics.finding import Finding
from controlplane.errors import ReportError
from controlplane.model import InstanceReport
from controlplane.sources.dns import Answer
from controlplane.sources.kubernetes.access import Access, AccessError
from controlplane.sources.kubernetes.api_answers import ApiError, Failure
from controlplane.sources.kubernetes.client import ApiClient, new_session
from controlplane.sources.kubernetes.watches import Watch
from controlplane.sources.names import first_choice, usable_addresses
from controlplane.sources.pages import fetch_page, remedy_of
from controlplane.sources.pages import new_session as new_scrape_session
from controlplane.sources.scrape import read_page
from controlplane.telemetry.engines import Dialect
from controlplane.telemetry.engines.custom import build_dialects

RESOLVED_WITHIN = 5.0
"""Seconds that a DNS answer may take."""
AT_ONCE = 20


async def examine_scrapes(config: Config) -> list[Finding]:
    """Read the metrics of every instance that we would scrape, from here, as ``serve`` does."""
    scraped = [item for item in config.instances if item.scrape is not None]
    dialects = build_dialects(config.telemetry.dialects)
    gate = asyncio.Semaphore(AT_ONCE)
    async with new_scrape_session() as http:

        async def one(instance: Instance) -> list[Finding]:
            async with gate:
                return await _examine_scrape(http, instance, dialects)

        return [finding for found in await asyncio.gather(*map(one, scraped)) for finding in found]


async def _examine_scrape(
    http: aiohttp.ClientSession, instance: Instance, dialects: Mapping[str, Dialect]
) -> list[Finding]:
    scrape = instance.scrape
    if scrape is None:
        return []
    try:
        text = await fetch_page(scrape, http, url=scrape.url)
        report = read_page(text, instance, at=0.0, wall=time.time(), dialects=dialects)
    except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
        reason, remedy = remedy_of(error)
        return [Finding("bad", f"{instance.name}: {scrape.url} cannot be read: {reason}", remedy)]
    return list(_examine_report(instance, report))


async def examine_names(
    config: Config, look_up: Callable[[str], Awaitable[Answer]]
) -> list[Finding]:
    """Resolve the DNS names of instances' addresses, from here, as ``serve`` does."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> str | Finding:
        try:
            async with gate, asyncio.timeout(RESOLVED_WITHIN):
                usable = usable_addresses(await look_up(name))
        except OSError as error:  # a timeout is one
            reason = error.strerror or str(error) or f"no answer within {RESOLVED_WITHIN:.0f} s"
        else:
            return first_choice(usable)
        those = ", ".join(each.name for each in config.instances if each.host == name)
        return Finding(
            "bad",
            f"the DNS name {name} of {those} is not resolved: {reason}",
            "fix the name or the resolver, or look from where the control plane runs;"
            " without an address an instance gets no requests",
        )

    names = sorted(names_of(config))
    found = dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
    addresses = {name: each for name, each in found.items() if isinstance(each, str)}
    return [
        *(each for each in found.values() if isinstance(each, Finding)),
        *(
            Finding(
                "bad",
                f"{name} gets no requests: its name resolves to the address of {holder}",
                SHARED_ADDRESS_REMEDY,
            )
            for name, holder in shared_addresses(config, addresses).items()
        ),
    ]


def _examine_report(instance: Instance, report: InstanceReport) -> Iterator[Finding]:
    name, engine = instance.name, str(instance.engine)
    if not report.ready:
        yield Finding(
            "bad", f"{name}: it gets no requests: {report.not_ready_reason}", "see its own log"
        )
    if report.missing:
        names = ", ".join(signal.value for signal in report.missing)
        yield Finding(
            "warning", f"{name}: its metrics lack {names}",
            f"see that the engine is {engine} and exports them; steering uses its prior meanwhile",
        )  # fmt: skip
    for line in report.refused:
        yield Finding("warning", f"{name}: {line}", "see its engine in the configuration")
    for line in report.ignored:
        if "repeats" in line:
            yield Finding(
                "warning", f"{name}: {line}", "see what exports this page, or filter its series"
            )


async def examine_discovery(config: Config) -> list[Finding]:
    """Ask the Kubernetes API, from here, for one object of each kind that a rule needs."""
    discovery = config.discovery
    if discovery is None:
        return []
    found: list[Finding] = []
    wanted: dict[str, dict[Watch, list[str]]] = {}
    for source in sources_of(config):
        for key in source.keys:
            wanted.setdefault(key.name, {}).setdefault(key.wanted, []).append(source.name)
    async with new_session() as http:
        for name, of_cluster in wanted.items():
            found += await _examine_cluster(discovery, name, of_cluster, http)
    return found


async def _examine_cluster(
    discovery: Discovery,
    name: str,
    wanted: Mapping[Watch, list[str]],
    http: aiohttp.ClientSession,
) -> list[Finding]:
    cluster = discovery.cluster(name)
    try:
        Access(cluster).place()
    except AccessError as error:
        if name:
            return [Finding("bad", f"cluster {name}: {error}", error.remedy)]
        remedy = "run it where the control plane runs, or ask that one with --admin"
        return [Finding("warning", f"discovery cannot be tried from here: {error}", remedy)]
    except OSError:
        pass  # reported below, with its remedy
    client = ApiClient(cluster, http)
    found = []
    for each, rules in wanted.items():
        of = f"rule {', '.join(rules)}: {each.resource.name}"
        try:
            page = await client.list_page(
                each.resource, each.namespace, selector=each.selector, limit=1
            )
        except ApiError as error:
            found.append(Finding("bad", f"{of} cannot be read: {error}", error.remedy))
            if error.failure is Failure.UNREACHABLE:
                break  # nor can the others, and each would wait as long
            continue
        if not page.items:
            found.append(
                Finding(
                    "warning", f"{of}: none in {each.namespace or 'the cluster'}",
                    "see namespace, selector and service of the rule",
                )
            )  # fmt: skip
    return found
