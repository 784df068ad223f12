"""Writes the bootstraps under ``deploy/`` from the fleets beside them; ``--check`` compares only.

A bootstrap is what `cats bootstrap` prints. Here the Envoys of one site share it, and each says who
it is by ``--service-node``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from controlplane.config import parse_config
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.resources.file_secrets import ClientTls, build_instance_secrets, build_secrets

DEPLOY = Path(__file__).parent
SITE = "edge-north"
NOTE = "# Written by `python -m deploy.render`; see docs/deploying.md.\n"
MOUNTED = ClientTls(
    ca="/etc/envoy/tls/ca.crt",
    cert="/etc/envoy/tls/tls.crt",
    key="/etc/envoy/tls/tls.key",
    server_name="cats.cats.svc",
    secrets="/etc/envoy/configuration",
)
SIDECAR_HEAP = 192e6
"""Bytes: three quarters of the sidecar's limit of 256 MiB, see docs/how-to/request-bodies.md."""
CHART_SITE, CHART_HOST = "replaced-site", "replaced-host"
CHART_FLEET = f"""
version: 1
sites: [{{name: {CHART_SITE}, kind: edge}}]
models: [{{name: m}}]
services: [{{name: s, match: [{{path: /}}], models: [{{name: m}}]}}]
instances: [{{name: i, site: {CHART_SITE}, address: "10.0.0.1:80", model: m}}]
"""
LOCAL = ClientTls(
    ca="/etc/cats/tls/ca.crt",
    cert="/etc/cats/tls/tls.crt",
    key="/etc/cats/tls/tls.key",
    server_name="cats.example",
    secrets="/etc/cats/envoy",
)


def rendered() -> dict[Path, str]:
    """Return file -> content."""
    fleet = DEPLOY / "kubernetes" / "base" / "fleet.yaml"
    config = parse_config(fleet.read_text(encoding="utf-8"), file=str(fleet))
    small = config.model_copy(
        update={"envoy": config.envoy.model_copy(update={"max_heap": SIDECAR_HEAP})}
    )
    files: dict[Path, str] = {}
    for place, host, tls, fleet_of in (
        (DEPLOY / "kubernetes" / "components" / "sidecar", "cats.cats.svc", MOUNTED, small),
        (DEPLOY / "kubernetes" / "components" / "gateway", "cats.cats.svc", MOUNTED, config),
        (DEPLOY / "envoy", "cats.example", LOCAL, config),
    ):
        files[place / "envoy.yaml"] = build_bootstrap(
            fleet_of, site=SITE, envoy_id="replaced-by-service-node", xds=(host, 18000), tls=tls
        )
        secrets = build_secrets(tls)
        if config.envoy.instance_tls is not None:
            secrets |= build_instance_secrets(config.envoy.instance_tls)
        files |= {place / name: text for name, text in secrets.items()}
    files |= _of_the_chart()
    return {path: NOTE + text for path, text in files.items()}


def _of_the_chart() -> dict[Path, str]:
    """Return the bootstrap in which the Helm chart replaces site and host."""
    place = DEPLOY / "helm" / "cats" / "files"
    config = parse_config(CHART_FLEET, file="fleet.yaml")
    tls = replace(MOUNTED, server_name=CHART_HOST)
    bootstrap = build_bootstrap(
        config, site=CHART_SITE, envoy_id="replaced-by-service-node",
        xds=(CHART_HOST, 18000), tls=tls,
    )  # fmt: skip
    secrets = {place / name: text for name, text in build_secrets(tls).items()}
    return {place / "envoy.yaml": bootstrap} | secrets


def main(arguments: list[str]) -> int:
    """Write, or compare with ``--check``."""
    stale = [
        path
        for path, text in rendered().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if "--check" in arguments:
            print(f"{path} is not what its fleet gives; run python -m deploy.render")
        else:
            path.write_text(rendered()[path], encoding="utf-8")
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
