"""Write a software bill of materials of what the image installs: CycloneDX, as JSON.

From the lock alone, so that it says what is pinned, with each file's hash, and needs no network.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from controlplane import __version__  # noqa: E402 -- the root is on the path now

_PINNED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def components(lock: str) -> Iterator[Component]:
    """Yield what *lock*, the text of a requirements file with hashes, pins."""
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock):
        pinned = _PINNED.match(entry)
        if pinned is None:
            continue
        name, version = pinned["name"].lower(), pinned["version"]
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", name=name, version=version),
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=digest)
                for digest in _HASH.findall(entry)
            ],
        )


def main(arguments: list[str] | None = None) -> int:
    """Print the bill of materials of a lock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", nargs="?", type=Path, default=HERE / "image.txt")
    options = parser.parse_args(arguments)
    own = Component(name="cats-controlplane", version=__version__, type=ComponentType.APPLICATION)
    installed = list(components("\n" + options.lock.read_text(encoding="utf-8")))
    bom = Bom(components=installed)
    bom.metadata.component = own
    bom.register_dependency(own, installed)
    print(JsonV1Dot6(bom).output_as_string(indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
