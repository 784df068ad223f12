"""Each module is tested where its path says, or where this table says.

``controlplane/a/b.py`` is tested by ``tests/a/test_b.py``. What is tested through another module,
or by running the whole, is named here, so that no one has to search for it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT, TESTS = ROOT / "controlplane", ROOT / "tests"
GENERATED = "wire"
MOST_LINES = 60
"""Of a function."""
MOST_MODULE_LINES = 300
"""Of a module that ARCHITECTURE.md does not name."""
ELSEWHERE = {
    "__main__": "cli/test_cli.py",
    "admin_api/answers": "admin_api/test_routes.py",
    "admin_api/discovery": "features/test_discovery.py",
    "admin_api/effect": "features/test_override.py",
    "admin_api/event_stream": "admin_api/test_routes.py",
    "admin_api/instance_page": "app/test_serving.py",
    "admin_api/live": "admin_api/test_keyed.py",
    "admin_api/plan_documents": "cli/test_plan.py",
    "admin_api/served": "admin_api/test_routes.py",
    "agent/exporter_reader": "agent/test_run.py",
    "agent/orca_server": "sources/test_orca.py",
    "agent/parse": "agent/test_schema.py",
    "agent/settings": "agent/test_schema.py",
    "app/admin_port": "app/test_serving.py",
    "app/grpc_port": "app/test_serving.py",
    "app/kept_history": "app/test_serving.py",
    "app/listeners": "app/test_serving.py",
    "app/readers": "app/test_serving.py",
    "app/records": "features/test_tracing.py",
    "app/settings": "app/test_serving.py",
    "app/start_report": "app/test_serving.py",
    "bus/leased": "bus/test_kubernetes.py",
    "bus/local": "controller/test_control_plane.py",
    "bus/override_key": "bus/test_nats.py",
    "bus/packing": "bus/test_kubernetes.py",
    "bus/peer_messages": "bus/test_kubernetes.py",
    "bus/plan_key": "bus/test_nats.py",
    "bus/relay": "bus/test_kubernetes.py",
    "cli/agent": "agent/test_memory.py",
    "cli/api": "cli/test_explain.py",
    "cli/assignments": "cli/test_plan.py",
    "cli/doctor": "diagnostics/test_doctor.py",
    "cli/options": "cli/test_cli.py",
    "cli/override": "features/test_override.py",
    "cli/reference": "docs/test_docs.py",
    "cli/replay": "features/test_replay.py",
    "cli/schema": "config/test_json_schema.py",
    "cli/serve": "features/test_serve.py",
    "cli/suite": "cli/test_simulate.py",
    "cli/top": "cli/test_explain.py",
    "config/dialects": "cli/test_check_scrape.py",
    "config/discovered": "config/test_merge.py",
    "config/document": "config/test_source.py",
    "config/engine": "config/test_parse.py",
    "config/places": "config/test_merge.py",
    "config/reference": "docs/test_docs.py",
    "config/yaml_nodes": "config/test_source.py",
    "controller/config_changes": "controller/test_configuration.py",
    "controller/cycle": "controller/test_control_plane.py",
    "controller/cycle_record": "features/test_tracing.py",
    "controller/cycle_result": "controller/test_control_plane.py",
    "controller/discovery": "features/test_discovery.py",
    "controller/discovery_events": "features/test_discovery.py",
    "controller/discovery_saving": "features/test_discovery.py",
    "controller/discovery_status": "features/test_discovery.py",
    "controller/instance_events": "controller/test_notifier.py",
    "controller/leader_plan": "controller/test_control_plane.py",
    "controller/lease_replication": "features/test_lease_replicas.py",
    "controller/override_requests": "controller/test_overrides.py",
    "controller/persistence": "app/test_serving.py",
    "controller/publication": "controller/test_control_plane.py",
    "controller/rejection_events": "features/test_discovery.py",
    "controller/replicated_overrides": "features/test_override.py",
    "controller/reporter": "controller/test_notifier.py",
    "controller/reports": "app/test_serving.py",
    "controller/tracing": "features/test_tracing.py",
    "controller/xds_observer": "grpc_services/test_ads.py",
    "diagnostics/certificates": "diagnostics/test_doctor.py",
    "diagnostics/finding": "diagnostics/test_doctor.py",
    "diagnostics/reachability": "diagnostics/test_doctor.py",
    "diagnostics/recording": "features/test_replay.py",
    "diagnostics/replay": "features/test_replay.py",
    "diagnostics/scrape_report": "cli/test_check_scrape.py",
    "grpc_services/agent_registry": "admin_api/test_documents.py",
    "grpc_services/observation_streams": "grpc_services/test_envoy_metrics.py",
    "grpc_services/requests": "grpc_services/test_messages.py",
    "grpc_services/session": "grpc_services/test_ads.py",
    "grpc_services/xds_settings": "grpc_services/test_ads.py",
    "model": "telemetry/test_batches.py",
    "resources/wire_format": "resources/test_endpoints.py",
    "runtime/otlp": "features/test_tracing.py",
    "runtime/tls": "sources/test_scrape.py",
    "sources/http_session": "sources/test_scrape.py",
    "sources/kubernetes/api_answers": "sources/kubernetes/test_reflector.py",
    "sources/kubernetes/candidates": "sources/kubernetes/test_mapping.py",
    "sources/kubernetes/client": "sources/kubernetes/test_reflector.py",
    "sources/kubernetes/documents": "sources/kubernetes/test_mapping.py",
    "sources/kubernetes/gateway_api": "sources/kubernetes/test_mapping.py",
    "sources/kubernetes/http_routes": "sources/kubernetes/test_matches.py",
    "sources/kubernetes/leases": "bus/test_kubernetes.py",
    "sources/kubernetes/objects": "sources/kubernetes/test_mapping.py",
    "sources/kubernetes/placement": "sources/kubernetes/test_mapping.py",
    "sources/kubernetes/pool_routes": "sources/kubernetes/test_mapping.py",
    "sources/kubernetes/watches": "sources/kubernetes/test_mapping.py",
    "sources/pages": "sources/test_scrape.py",
    "sources/scrape_log": "sources/test_scrape.py",
    "sources/tokens": "sources/test_scrape.py",
    "telemetry/failure_classes": "telemetry/test_envoy_stats.py",
    "telemetry/limits": "telemetry/test_exposition.py",
    "xds/delta": "xds/test_stream.py",
    "xds/snapshot": "grpc_services/test_views.py",
    "xds/sotw": "xds/test_stream.py",
    "xds/type_state": "xds/test_stream.py",
    "xds/types": "xds/test_stream.py",
}
"""Module -> the test that covers it."""
TOGETHER = {
    "admin_api": "admin_api",
    "cli": "cli",
    "config/rules": "config",
    "config/schema": "config",
    "controller/metrics": "controller",
    "fleet": "fleet",
    "grpc_transport": "grpc_transport",
    "resources": "resources",
    "sim": "sim",
    "steering": "steering",
    "telemetry/engines": "telemetry",
}
"""Package -> the folder whose tests cover its modules together."""


def modules() -> list[str]:
    """Return every module of the product that is written by hand, as a path."""
    paths = (path.relative_to(PRODUCT).with_suffix("") for path in PRODUCT.rglob("*.py"))
    return sorted(
        str(path) for path in paths if path.name != "__init__" and GENERATED not in path.parts
    )


def own_test(module: str) -> Path:
    """Return where a module's test is by default."""
    path = Path(module)
    return TESTS / path.parent / f"test_{path.name}.py"


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_stated_test(module: str) -> None:
    """Beside its own path, in the table, or with its package."""
    together = [TESTS / folder for package, folder in TOGETHER.items()
                if module.startswith(f"{package}/")]  # fmt: skip
    places = [own_test(module), *together]
    if module in ELSEWHERE:
        places.append(TESTS / ELSEWHERE[module])
    assert any(place.exists() for place in places), f"{module}: add {own_test(module)}"


@pytest.mark.parametrize("module", ELSEWHERE)
def test_the_table_names_what_there_is(module: str) -> None:
    """Modules and tests that exist; one that has its own test by now is no longer listed."""
    assert (PRODUCT / f"{module}.py").exists(), "the module is gone; remove its entry"
    assert (TESTS / ELSEWHERE[module]).exists(), f"{ELSEWHERE[module]} is gone"
    assert not own_test(module).exists(), "it has a test of its own; remove its entry"


def long_functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return the functions that have more than `MOST_LINES` lines beside their docstring."""
    found = []
    for path in (*PRODUCT.rglob("*.py"), *(ROOT / "testbed").rglob("*.py")):
        if GENERATED in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first, *_ = node.body
            said = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) else 0
            if (node.end_lineno or 0) - node.lineno + 1 - said > MOST_LINES:
                found.append((f"{path.relative_to(ROOT)}:{node.name}", node))
    return found


def test_a_long_function_says_why_it_is_long() -> None:
    """In its docstring, with the word *long*; the others fit a screen."""
    silent = [
        name
        for name, node in long_functions()
        if "long" not in (ast.get_docstring(node) or "").lower()
    ]
    assert [] == silent, "split these, or say why they are long"


def named_modules() -> list[str]:
    """Return the modules of which ARCHITECTURE.md says why they are long."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return re.findall(
        r"^\| `((?:controlplane|testbed)/[^`]+\.py)` \| [^|]+ \|$", text, re.MULTILINE
    )


def test_a_long_module_says_why_it_is_whole() -> None:
    """In a table of ARCHITECTURE.md; the others have one subject each and fit some screens."""
    named = named_modules()
    silent = [
        name
        for path in (*PRODUCT.rglob("*.py"), *(ROOT / "testbed").rglob("*.py"))
        if GENERATED not in path.parts
        and (name := str(path.relative_to(ROOT))) not in named
        and path.read_text(encoding="utf-8").count("\n") > MOST_MODULE_LINES
    ]

    assert [] == silent, "split these by subject, or say in ARCHITECTURE.md why they are whole"
    assert all(
        (ROOT / name).read_text(encoding="utf-8").count("\n") > MOST_MODULE_LINES for name in named
    ), "these are gone, or short by now; remove their rows"
