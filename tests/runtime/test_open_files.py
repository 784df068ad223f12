"""Open files and clients."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from controlplane.runtime.open_files import RESERVED, connections_within


@pytest.mark.parametrize(
    ("files", "wanted", "want"),
    [
        pytest.param(65_536, 20_000, 20_000, id="enough"),
        pytest.param(1024, 20_000, 1024 - RESERVED, id="what is left"),
        pytest.param(100, 20_000, 64, id="some in any case"),
        pytest.param(100, 10, 10, id="not more than are wanted"),
        pytest.param(resource.RLIM_INFINITY, 20_000, 20_000, id="no limit"),
    ],
)
def test_clients_get_what_the_rest_leaves(files: int, wanted: int, want: int) -> None:
    """Scrapes, bus and state need files, too."""
    assert want == connections_within(files, wanted)


def test_the_soft_limit_is_raised_as_far_as_it_may() -> None:
    """In a process of its own, as a hard limit cannot be raised again."""
    script = (
        "import json, resource\n"
        "from controlplane.runtime.open_files import take_files\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1600))\n"
        "first = take_files(500), resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "print(json.dumps([first, take_files(20_000)]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert [[500, [500 + RESERVED, 1600]], 1600 - RESERVED] == json.loads(ran.stdout)
