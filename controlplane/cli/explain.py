"""``cats explain``: why each weight is what it is, in milliseconds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from controlplane.cli import BadInput, Failure, examples
from controlplane.cli.alike import FEW
from controlplane.cli.api import fetch
from controlplane.cli.assignment_sums import demand_assumed, pair_lines
from controlplane.cli.assignments import Selection, explanation_lines, print_lines
from controlplane.cli.options import admin_option, complete_from_api, each_option, selection_options
from controlplane.cli.request_log import find_request, request_words, when, word
from controlplane.cli.text import echo, mark, milliseconds, name_list, number, screen, wrap


@click.command(
    epilog=examples(
        "cats explain chat --from edge-north",
        "cats explain --instance north-a",
        "cats explain --request 7f1c22ee-0c4d-9d3f-8a2f-6d2b6f0e3c11 --log access.log",
        "cats explain chat --from edge-north --json | jq '.instances[0].terms'",
    )
)
@click.argument("name", metavar="[SERVICE]", required=False, shell_complete=complete_from_api)
@selection_options
@each_option
@admin_option
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON document.")
@click.option("--request", metavar="ID", help="Explain one request, by its x-request-id.")
@click.option(
    "--log",
    metavar="FILE",
    default="-",
    help="Envoy access log that contains it (envoy.access_log); - for standard input.",
)
def command(
    name: str | None,
    selection: Selection,
    admin_url: str,
    *,
    each: bool,
    as_json: bool,
    request: str | None,
    log: str,
) -> None:
    """Explain where the requests of SERVICE go from a client site, and why.

    Nearly equal instances share one line; --each shows every instance, --json every term.
    Without SERVICE or --from: one line for each pair of both, such as all that send to --instance.
    With --request: one request, from its line in an Envoy's access log.
    """
    if request is not None:
        _explain_request(find_request(request, log), admin_url, as_json=as_json)
        return
    if None not in (name, selection.service) and name != selection.service:
        raise BadInput(f"SERVICE is '{name}' and --service is '{selection.service}'; name one")
    service = name or selection.service
    if service is None or selection.site is None:
        if service is None and selection.site is None and selection.instance is None:
            raise BadInput("name a SERVICE and --from SITE, or an --instance")
        chosen = Selection(service, selection.site, selection.instance)
        _print_pairs(fetch(admin_url, "/api/v1/plan"), chosen, as_json=as_json)
        return
    query = {"service": service, "from": selection.site}
    document = fetch(admin_url, "/api/v1/explain", query)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    print_explanation(document, instance=selection.instance, each=each)


def _explain_request(fields: dict[str, Any], admin_url: str, *, as_json: bool) -> None:
    """Print what became of a request, the plan that stood then, and the terms of now."""
    at = when(fields)
    query = {"service": word(fields, "cats.service"), "from": word(fields, "cats.from")}
    sample = document = failure = None
    if at is not None:
        with contextlib.suppress(BadInput, Failure):  # nothing is kept yet
            sample = fetch(admin_url, "/api/v1/history", {"at": f"{at:.3f}"})
    try:
        document = fetch(admin_url, "/api/v1/explain", query)
    except BadInput:  # no service matched it, or its site is not known
        pass
    except Failure as error:
        failure = error
    if as_json:
        if failure is not None:
            raise failure
        then = None if sample is None else {"at": sample["at"], "plan": sample["plan"]}
        click.echo(json.dumps({"request": fields, "then": then, "now": document}, indent=2))
        return
    width, _ = screen()
    for words in request_words(fields, sample):
        print_lines(wrap(words.split(), width))
    if failure is not None:  # what the line says is known without the control plane
        raise failure
    if document is None:
        return
    same = sample is not None and sample["plan"] == document["plan"]
    print_lines(["", "the same plan stands:" if same else "another plan stands now:"])
    print_explanation(document, instance=word(fields, "cats.instance") or None)


def _print_pairs(plan: dict[str, Any], selection: Selection, *, as_json: bool) -> None:
    pairs = [
        {
            "service": service,
            "from": site,
            "note": "",
            "demand": None,
            "instances": items,
        }
        for service, entry in plan["services"].items()
        for site, items in entry["from"].items()
        if selection.holds(service, site)
    ]
    if selection.instance is not None:
        pairs = [pair for pair in pairs if selection.keep(pair["instances"])]
    if as_json:
        click.echo(json.dumps(pairs, indent=2))
        return
    if not pairs:
        click.echo("no pair of a service and a client site matches")
        return
    print_lines(pair_lines(pairs, screen()[0], instance=selection.instance))


def print_explanation(
    document: dict[str, Any], *, instance: str | None = None, each: bool = False
) -> None:
    """Print ``/api/v1/explain`` for people."""
    width, _ = screen()
    demand = mark(number(document["demand"]), assumed=demand_assumed(document))
    head = (
        f"{document['service']} from {document['from']}: policy {document['policy']},"
        f" demand {demand}/s, plan {document['plan']}"
    )
    if document.get("gap"):
        head += f", at most {document['gap']:.1%} above the optimum"
    if document["held"]:
        head += " (held: a better plan would gain too little to be pushed)"
    for line in wrap(head.split(), width):
        echo(line, bold=True)
    for kind, promise in document.get("promises", {}).items():
        for line in wrap(_promise_words(kind, promise).split(), width):
            echo(line)
    if document["note"]:
        for line in wrap(document["note"].split(), width):
            echo(line, fg="yellow")
    print_lines(explanation_lines(document, width, instance=instance, each=each))
    if proposed := document.get("proposed"):
        split = split_words(proposed, every=each)
        print_lines(wrap(f"without observe mode it would be: {split}".split(), width))
    if document.get("canary"):
        print_lines(wrap(canary_words(document["canary"], every=each).split(), width))
    lagging = [envoy["id"] for envoy in document["envoys"] if not envoy["acknowledged"]]
    known = len(document["envoys"])
    words = (
        f"{known - len(lagging)} of {known} connected Envoys of {document['from']} have"
        " acknowledged these weights"
    )
    words += f"; not yet: {name_list(lagging, most=10)}" if lagging else ""
    print_lines(wrap(words.split(), width))


def split_words(items: Iterable[dict[str, Any]], *, every: bool = False) -> str:
    """Name the instances that get requests with their shares, the largest first if not *every*."""
    used = [item for item in items if not item["priority"]]
    if len(used) > FEW and not every:
        used.sort(key=lambda item: -item["share"])
    named = [f"{item['instance']} {item['share']:.1%}" for item in used]
    return name_list(named, most=len(named) if every else FEW)


def canary_words(canary: dict[str, Any], *, every: bool = False) -> str:
    """Say what a canary does, and what the baseline policy would do in its place."""
    standing = canary["standing"]
    split = split_words(standing["instances"], every=every)
    times = (canary["predicted_latency"], standing["predicted_latency"])
    return (
        f"canary: {canary['service']} from {canary['from']} is decided by"
        f" {canary['policy']}; elsewhere {standing['policy']} decides, here it would be:"
        f" {split or 'not known'};"
        f" predicted {milliseconds(times[0])} ms instead of {milliseconds(times[1])} ms"
    )


def _promise_words(kind: str, promise: Mapping[str, Any]) -> str:
    """Return what is foreseen of one promise, in a sentence."""
    text = f"promise {kind} {promise['limit']:g} s: "
    if promise["predicted"] is None:
        return text + "no requests"
    text += f"99 of 100 within {number(promise['predicted'])} s by the plan"
    if promise["missed_by"] > 0.02 * promise["limit"]:
        text += f", {number(promise['missed_by'])} s too late"
    if promise["binds"]:
        text += f"; binds: a late answer is charged {number(promise['charge'])} s"
    return text
