"""The bill of materials names each pinned package, with its hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_bill_of_materials_is_of_the_lock() -> None:
    """Each package once, at its version, with as many hashes as the lock has."""
    lock = (ROOT / "requirements" / "image.txt").read_text(encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "requirements/sbom.py"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    bom = json.loads(ran.stdout)

    pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;\\]+)", lock, re.MULTILINE))
    found = {each["name"]: each for each in bom["components"]}
    assert "CycloneDX" == bom["bomFormat"]
    assert "cats-controlplane" == bom["metadata"]["component"]["name"]
    assert {name.lower(): version for name, version in pinned.items()} == {
        name: each["version"] for name, each in found.items()
    }
    assert len(found) == len(bom["components"]) > 10
    assert all(each["hashes"] for each in found.values())
    assert "pkg:pypi/numpy@" in found["numpy"]["purl"]
