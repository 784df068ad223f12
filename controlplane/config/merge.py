"""The configuration of the file together with the instances that were found while running.

The file wins: a found instance that does not fit is refused with its reason, and the rest serve.
What is merged obeys every rule that `controlplane.config.rules` holds a file to, so nothing
after this checks it again. Who found an instance, and when, is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controlplane.config.discovered import (
    Conflict,
    DiscoveredInstance,
    DiscoveredMatch,
    MergedConfig,
    RejectedInstance,
)
from controlplane.config.eligibility import may_serve
from controlplane.config.faults import nearest
from controlplane.config.places import Place, Places, place_of
from controlplane.config.schema import Config
from controlplane.config.schema.instances import Instance
from controlplane.config.schema.services import HttpRouteSource, Match, Service
from controlplane.config.schema.sites import Site, SiteKind

MAX_FOUND = 10_000
"""DiscoveredInstance instances of one configuration; more are refused."""
MAX_MATCHES = 1_000
"""Matches from HTTPRoutes of one configuration; each is a route in every Envoy."""
MAX_SITES_MADE = 200
"""Sites that are made of labels; each is a row of every assignment."""


def merge(
    config: Config,
    found: Iterable[DiscoveredInstance] = (),
    *,
    matches: Iterable[DiscoveredMatch] = (),
    before: Iterable[DiscoveredInstance] = (),
    awaited: bool = False,
) -> MergedConfig:
    """Return *config* with what was found.

    Args:
        config: as the file has it.
        found: what is there now; an earlier rule goes before a later one.
        matches: what HTTPRoutes say, in an order that every replica has.
        before: what took part until now. Where a service would be left without any instance,
            those of its instances stay: they may be gone, but an empty set of endpoints is
            certain to fail every request.
        awaited: whether there are rules whose objects are not known yet. Until they are, what
            other rules found stays as well, and what a previous file had (as of no rule).
    """
    if config.discovery is None:
        return MergedConfig(config)
    config, taken_matches, refused_matches = _with_matches(config, matches)
    merging = _Merging(config)
    for each in merging.ordered(found):
        merging.add(each)
    refused = tuple(sorted({*merging.refused, *refused_matches}))
    alone = unserved(merging.config())
    sites = {site.name: site for site in config.sites}
    held = tuple(
        each
        for each in (merging.ordered(before, of_any_rule=awaited) if alone else ())
        if any(may_serve(service, each.instance, _sites_with(sites, each)) for service in alone)
        and merging.add(each)
    )
    return MergedConfig(merging.config(), tuple(merging.taken), held, refused, taken_matches)


def route_sources(config: Config) -> tuple[tuple[str, Service, HttpRouteSource], ...]:
    """Return each entry of the services' ``http_routes`` with its name and its service.

    The names hold a slash, so none is that of a rule.
    """
    return tuple(
        (f"http_routes/{service.name}" + (f"/{number}" if number else ""), service, source)
        for service in config.services
        for number, source in enumerate(service.http_routes)
    )


def _with_matches(
    config: Config, matches: Iterable[DiscoveredMatch]
) -> tuple[Config, tuple[DiscoveredMatch, ...], list[RejectedInstance]]:
    """Return *config* with the matches of HTTPRoutes, those taken, and those that are not."""
    by_source: dict[str, list[DiscoveredMatch]] = {}
    for each in matches:
        by_source.setdefault(each.source, []).append(each)
    owners = {_match_key(m): service.name for service in config.services for m in service.match}
    taken: list[DiscoveredMatch] = []
    refused: list[RejectedInstance] = []
    own: dict[str, list[Match]] = {}
    for name, service, _ in route_sources(config):
        for each in by_source.get(name, ()):
            owner = owners.setdefault(_match_key(each.match), service.name)
            if owner != service.name:
                message = (
                    f"service '{owner}' has the match {_shown(each.match)} as well; a request can"
                    " belong to one service only"
                )
                refused.append(
                    RejectedInstance(name, each.route, Conflict.MATCH, message, each.about)
                )
            elif len(taken) >= MAX_MATCHES:
                message = f"HTTPRoutes say more than {MAX_MATCHES} matches; name fewer of them"
                refused.append(
                    RejectedInstance(name, each.route, Conflict.LIMIT, message, each.about)
                )
            elif each.match not in (*service.match, *own.get(service.name, ())):
                taken.append(each)
                own.setdefault(service.name, []).append(each.match)
    if not own:
        return config, (), refused
    services = tuple(
        service.model_copy(update={"match": (*service.match, *own[service.name])})
        if service.name in own
        else service
        for service in config.services
    )
    return config.model_copy(update={"services": services}), tuple(taken), refused


def _match_key(match: Match) -> tuple[object, ...]:
    headers = frozenset((name.lower(), value) for name, value in match.header.items())
    return match.host, match.path, match.model, match.body_size, headers


def _shown(match: Match) -> str:
    said = match.model_dump(exclude_none=True, exclude_defaults=True)
    return ", ".join(f"{key} {value}" for key, value in said.items())


def unserved(config: Config) -> tuple[Service, ...]:
    """Return the services that no instance may serve."""
    sites = {site.name: site for site in config.sites}
    return tuple(
        service
        for service in config.services
        if not any(may_serve(service, instance, sites) for instance in config.instances)
    )


def _sites_with(sites: Mapping[str, Site], found: DiscoveredInstance) -> Mapping[str, Site]:
    """Return *sites* with the one that a label made for *found*."""
    if found.site is None or found.site.name in sites:
        return sites
    return {**sites, found.site.name: found.site}


def _place_in_line(instance: Instance) -> tuple[str, ...]:
    return instance.name, instance.address, instance.site, instance.model


class _Merging:
    """A configuration that grows, instance by instance."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.taken: list[DiscoveredInstance] = []
        self.refused: list[RejectedInstance] = []
        self._rules = {
            rule.name: number
            for number, rule in enumerate(config.discovery.rules if config.discovery else ())
        }
        self._sites = {site.name: site for site in config.sites}
        self._made: dict[str, Site] = {}
        self._models = {model.name: model for model in config.models}
        self._owners = {instance.name: "the file" for instance in config.instances}
        self._places = Places(config.services)
        for item in config.instances:
            self._places.add(self._place(self._sites[item.site], item), item)
        self._homes = {
            item.instance: item.site
            for item in config.overrides
            if item.instance is not None and item.site is not None
        }

    def ordered(
        self, found: Iterable[DiscoveredInstance], *, of_any_rule: bool = False
    ) -> Sequence[DiscoveredInstance]:
        """Return them in an order that every replica has; without those of rules that are gone."""
        last = len(self._rules)
        return sorted(
            (each for each in found if of_any_rule or each.rule in self._rules),
            key=lambda each: (self._rules.get(each.rule, last), *_place_in_line(each.instance)),
        )

    def add(self, found: DiscoveredInstance) -> bool:
        """Let an instance take part, or note why it does not."""
        why = self._why_not(found)
        if why is not None:
            self.refused.append(
                RejectedInstance(found.rule, found.instance.name, *why, found.about)
            )
            return False
        self.taken.append(found)
        self._owners[found.instance.name] = f"rule '{found.rule}'"
        if found.site is not None and found.site.name not in self._sites:
            self._sites[found.site.name] = self._made[found.site.name] = found.site
        site = self._sites[found.instance.site]
        self._places.add(self._place(site, found.instance), found.instance)
        return True

    def config(self) -> Config:
        """Return what it has become."""
        instances = (*self._config.instances, *(each.instance for each in self.taken))
        runs = {each.name: set(each.model_names) for each in instances}
        serves = {s.name: {m.name for m in s.models} for s in self._config.services}
        overrides = tuple(
            item
            for item in self._config.overrides
            if item.instance is None
            or (
                item.instance in runs
                and (item.service is None or runs[item.instance] & serves[item.service])
            )
        )
        if not self.taken and overrides == self._config.overrides:
            return self._config
        update: dict[str, object] = {"instances": instances, "overrides": overrides}
        if self._made:
            made = (self._made[name] for name in sorted(self._made))
            update["sites"] = (*self._config.sites, *made)
        return self._config.model_copy(update=update)

    @staticmethod
    def _place(site: Site, instance: Instance) -> Place:
        return place_of(instance, (site.name,) if site.kind is SiteKind.DEVICE else ())

    def _why_not(self, found: DiscoveredInstance) -> tuple[Conflict, str] | None:
        instance = found.instance
        if len(self.taken) >= MAX_FOUND:
            return Conflict.LIMIT, f"more than {MAX_FOUND} were found; narrow the rules' selectors"
        site = self._sites.get(instance.site, found.site)
        if site is not None and site is found.site and len(self._made) >= MAX_SITES_MADE:
            return (
                Conflict.SITE,
                f"labels would make more than {MAX_SITES_MADE} sites; use one of larger areas",
            )
        if site is None:
            hint = nearest(instance.site, self._sites)
            return Conflict.SITE, f"no site is named '{instance.site}'{hint}"
        if instance.model not in self._models:
            hint = nearest(instance.model, self._models)
            return Conflict.MODEL, f"no model is named '{instance.model}'{hint}"
        owner = self._owners.get(instance.name)
        if owner is not None:
            return (
                Conflict.NAME,
                f"{owner} has an instance of this name; give instance_name a prefix",
            )
        rival = self._places.rival(self._place(site, instance), instance)
        if rival is not None:
            message = f"{instance.address} is already the address of '{rival.name}'"
            if rival.gateway == instance.gateway:
                return Conflict.ADDRESS, f"{message}; remove one of the two"
            both = ", ".join(sorted(self._places.shared(rival, instance)))
            return Conflict.ADDRESS, (
                f"{message}, and the service {both} has both; have the gateway listen for one of"
                " them at another port"
            )
        port = self._config.envoy.port if site.listener.port is None else site.listener.port
        if instance.host in ("127.0.0.1", "::1") and instance.port == port:
            return (
                Conflict.CIRCLE,
                f"Envoys of '{site.name}' listen at {instance.address}; take another port",
            )
        home = self._homes.get(instance.name, site.name)
        if home != site.name:
            return (
                Conflict.OVERRIDE,
                f"is at '{site.name}', and an override says '{home}'; fix the override",
            )
        return None
