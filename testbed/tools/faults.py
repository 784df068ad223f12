"""Writes docs/faults.md from the rows that tests write where ``CATS_FAULTS`` names a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

HEADING = """# Faults

What was done to a running system, and what its clients noticed.
Real processes: control planes, NATS, agents, Envoy, two instances; fifty requests a second.
Lost is every request that was not answered with 200, retries by Envoy included in the answer.
Recovered is when the part that was hit did its work again; clients were served all along.
A second subscriber, but for the cut site and where certificates change, lost no resource.

Written by `make faults` from the rows of the tests, which hold `lost` to 0 at every run.

| fault | what was done | sent | lost | recovered after | test |
|---|---|---:|---:|---:|---|
"""


FAILING_HEADING = """
## One instance fails among equal ones

Equal instances of 100 ms behind one Envoy, default settings, `slo: {ttft: 200ms, latency: 500ms}`.
The fault lasts 60 s; it comes before the engine, so that the metrics are those of an idle machine.
An error that is answered with 200 is none of them: no status shows it.
It draws requests; see [how attempts end](phases.md#how-attempts-end).
Lost is what was not answered with 200 to its end within 30 s.
Share is the part of all attempts that reached the instance from the sixth second on.
Recovered is when its share over 5 s was nine tenths of an even one again.
Demand is what the control plane took for it, over what clients sent.

| fault | instances | requests/s | scraped | sent | lost | before | share | recovered | demand |
|---|---:|---:|---|---:|---:|---:|---:|---:|---:|
"""

CLIENT_HEADING = """
A client that asks for a model that no instance has, as often as the others ask for theirs:

| instances | requests/s | scraped | sent by others | lost | share before | meanwhile |
|---:|---:|---|---:|---:|---:|---:|
"""


def write_row(**row: object) -> None:
    """Append a row to the file that ``CATS_FAULTS`` names, if it does."""
    if name := os.environ.get("CATS_FAULTS"):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _failing_line(row: dict[str, Any]) -> str:
    recovered = row["seconds"]
    cells = [
        row["fault"], row["instances"], f"{row['rate']:.0f}", _yes(row["scraped"]), row["sent"],
        row["lost"], f"{row['before']:.0%}", f"{row['share']:.1%}",
        "never" if recovered == float("inf") else f"{recovered:.0f} s", f"{row['demand']:.1%}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def _client_line(row: dict[str, Any]) -> str:
    cells = [
        row["instances"], f"{row['rate']:.0f}", _yes(row["scraped"]), row["sent"], row["lost"],
        f"{row['before']:.1%}", f"{row['share']:.1%}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def write_table(rows: Path, table: Path) -> None:
    """Write docs/faults.md from the rows of a run."""
    every = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    failing = [row for row in every if row.get("table") == "failing"]
    clients = [row for row in every if row.get("table") == "client"]
    lines = sorted((row for row in every if "test" in row), key=lambda row: row["test"])
    table.write_text(
        HEADING
        + "".join(
            f"| {row['fault']} | {row['done']} | {row['sent']} | {row['lost']} |"
            f" {row['seconds']} s | `{row['test']}` |\n"
            for row in lines
        )
        + (FAILING_HEADING + "".join(map(_failing_line, failing)) if failing else "")
        + (CLIENT_HEADING + "".join(map(_client_line, clients)) if clients else ""),
        encoding="utf-8",
    )


if __name__ == "__main__":
    import sys

    write_table(Path(sys.argv[1]), Path(sys.argv[2]))
