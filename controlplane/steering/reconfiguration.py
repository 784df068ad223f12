"""What a new configuration changes: settings, instances, or overrides alone."""

from __future__ import annotations

from controlplane.config import Config


def changes_settings(old: Config, new: Config) -> bool:
    """Return whether more has changed than which instances there are.

    Those that come and go, as discovered ones do all the time, are seen by what is in use.
    """
    known = {instance.name: instance for instance in old.instances}
    bare = {"instances": ()}
    return old.model_copy(update=bare) != new.model_copy(update=bare) or any(
        known.get(instance.name, instance) != instance for instance in new.instances
    )


def only_adds_overrides(old: Config, new: Config) -> bool:
    """Return whether *new* is *old* with more overrides, none of which sets a weight."""
    if old.model_copy(update={"overrides": ()}) != new.model_copy(update={"overrides": ()}):
        return False
    added = [each for each in new.overrides if each not in old.overrides]
    kept = [each for each in new.overrides if each in old.overrides]
    return bool(added) and kept == list(old.overrides) and all(a.weight is None for a in added)
