"""Which services are classes of one by the length of the body."""

from __future__ import annotations

from controlplane.config.length_classes import group_classes
from testbed.fakes.views import make_config, make_instance, make_service

PATH = "/v1/chat/completions"
ANY = {"path": PATH}
LONG = {"path": PATH, "body_size": {"least": "32kB"}}


def test_what_differs_by_more_than_the_length_is_no_class() -> None:
    """Paths, headers and models make services; the length of a body makes classes."""
    services = make_config(
        services=[
            make_service("chat", match=[ANY]),
            make_service("images", match=[{"path": "/v1/images/generations"}]),
            make_service("long", match=[LONG]),
            make_service("longest", match=[{**ANY, "body_size": {"least": "1MB"}}]),
            make_service("retail", match=[{**LONG, "model": "retail"}]),
        ],
        instances=[make_instance("a", "near")],
    ).services
    assert [(0, 2, 3)] == [*group_classes(services)]


def test_without_a_length_there_are_no_classes() -> None:
    """The same match twice is an error elsewhere, and no class here."""
    services = make_config(
        services=[make_service(name, match=[ANY]) for name in ("one", "other")],
        instances=[make_instance("a", "near")],
    ).services
    assert () == group_classes(services)
