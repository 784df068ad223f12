"""Which model of an instance serves a service, and under which name the instance knows it."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping

from controlplane.config.schema import Config
from controlplane.config.schema.instances import Instance, InstanceModel
from controlplane.config.schema.models import Model, Protocol
from controlplane.config.schema.services import Service


def serving_model(service: Service, instance: Instance) -> InstanceModel | None:
    """Return the model with which *instance* serves *service*: the one of least penalty.

    None if the service lists none of its models, or only such as must never serve it.
    """
    best = preferred_model(service, instance.model_names)
    if best is None:
        return None
    return next(model for model in instance.serves if model.name == best)


def preferred_model(service: Service, names: Container[str]) -> str | None:
    """Return which of *names* serves *service* best; None if none may."""
    least, best = math.inf, None
    for listed in service.models:
        if listed.penalty < least and listed.name in names:
            least, best = listed.penalty, listed.name
    return best


def served_name(model: InstanceModel, models: Mapping[str, Model]) -> str:
    """Return the name by which an instance knows *model*; its own ``served_as`` goes first."""
    general = models.get(model.name)
    return model.served_as or (general and general.served_as) or model.name


def protocol_of(service: Service, models: Mapping[str, Model]) -> Protocol:
    """Return what the instances of *service* are spoken to in."""
    if service.protocol is not Protocol.AUTO:
        return service.protocol
    own = (models[each.name].protocol for each in service.models if each.name in models)
    return next((each for each in own if each is not Protocol.AUTO), Protocol.AUTO)


def asked_names(service: Service, config: Config) -> set[str]:
    """Return the names by which clients ask *service* for models.

    Those of its matches; where none reads the model, those of the models that instances run.
    """
    asked = {match.model for match in service.match if match.model is not None}
    if asked:
        return asked
    running = {name for instance in config.instances for name in instance.model_names}
    return {each.name for each in service.models if each.penalty < math.inf} & running


def rewrites_model(service: Service, config: Config) -> bool:
    """Return whether requests of *service* need the name of their model replaced on their way.

    They do where its instances know it by different names, or by another than clients ask for.
    Where clients may ask for anything, since a match does not read the model, one name that all
    instances share is taken for the clients' own unless the configuration says ``served_as``.
    """
    if not config.envoy.rewrite_models:
        return False
    models = {model.name: model for model in config.models}
    pairs = [
        (model, served_name(model, models))
        for model in (serving_model(service, instance) for instance in config.instances)
        if model is not None
    ]
    served = {name for _, name in pairs}
    asked = {match.model for match in service.match}
    if len(served) > 1 or (asked - {None}) - served:
        return bool(served)
    return None in asked and any(name != model.name for model, name in pairs)
