"""The production file of the documentation is one."""

from __future__ import annotations

import re
from pathlib import Path

from controlplane.config import check_config

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "a-production-file.md"


def test_the_production_file_is_valid_and_complete() -> None:
    """Without a warning, and with each of the parts that the page promises."""
    found = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None

    checked = check_config(found[1], file="production")

    assert () == checked.warnings
    server = checked.config.server
    assert None not in (server.tls, server.admin.token_file, server.admin.tls, server.bus_tls)
    assert server.agents
    assert 3 == len(server.bus.split(","))
