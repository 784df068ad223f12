"""Which model of an instance serves a service, and under which name the instance knows it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from controlplane.config.schema import Config, Instance, InstanceModel, Model, Service


def serving_model(service: Service, instance: Instance) -> InstanceModel | None:
    """Return the model with which *instance* serves *service*: the one of least penalty.

    None if the service lists none of its models, or only such as must never serve it.
    """
    least, best = math.inf, None
    for listed in service.models:
        if listed.penalty < least and listed.name in instance.model_names:
            least, best = listed.penalty, listed.name
    if best is None:
        return None
    return next(model for model in instance.serves if model.name == best)


def served_name(model: InstanceModel, models: Mapping[str, Model]) -> str:
    """Return the name by which an instance knows *model*; its own ``served_as`` goes first."""
    general = models.get(model.name)
    return model.served_as or (general and general.served_as) or model.name


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
