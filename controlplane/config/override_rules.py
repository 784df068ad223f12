"""What an override may say: the same rules for the file and for the API."""

from __future__ import annotations

from collections.abc import Collection, Iterator

EFFECTS = ("drain", "pin", "weight", "max_share", "min_share")
"""The keys that do something; an override has one of them at least."""


def contradictions(
    *,
    drain: bool,
    pin: bool,
    min_share: float | None,
    max_share: float | None,
) -> Iterator[tuple[str, str]]:
    """Return (key, what is wrong with it) for keys that exclude each other."""
    if min_share is not None and max_share is not None and min_share > max_share:
        yield "min_share", "is more than max_share; swap or change them"
    if drain and pin:
        yield "pin", "contradicts drain; remove one"
    if drain and min_share:
        yield "min_share", "contradicts drain; remove one"
    if pin and max_share is not None and max_share < 1:
        yield "max_share", "contradicts pin; remove one"


def misplacements(
    *,
    instance: str,
    home: str,
    site: str | None,
    models: Collection[str],
    service: str | None,
    served: Collection[str],
) -> Iterator[tuple[str, str]]:
    """Return (key, what is wrong with it) for an override of an instance.

    Args:
        instance: its name.
        home: the site where it is.
        site: the site that the override names, if any.
        models: what the instance runs.
        service: the service that the override names, if any.
        served: the models of that service.
    """
    if site is not None and site != home:
        yield "site", f"instance '{instance}' is at '{home}', not at '{site}'; remove site"
    if service is not None and not set(models) & set(served):
        runs = ", ".join(models)
        yield (
            "instance",
            f"'{instance}' runs '{runs}', which service '{service}' does not list under models",
        )


NO_PLACE = "names neither instance nor site; add the one meant"
NO_EFFECT = f"has no effect; give one of {', '.join(EFFECTS)}"
