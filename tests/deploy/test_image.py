"""The image: what it is built of is pinned, and it is built with whatever builder there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from controlplane import __version__

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "docker" / "build.sh"
DIGEST = "sha256:" + "a" * 64
PIN = re.compile(r"^(\S+?)==(\S+)((?:[^\n]*\n[ ]+--hash=\S+)+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """Return the version of each package that a lock pins by hash."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {package: version for package, version, _ in PIN.findall(text)}


def test_every_package_of_the_image_is_pinned_as_the_tests_have_it() -> None:
    """What serves, the client of the bus, and what builds the overrides; all by hash."""
    shipped = pins("image")

    assert pins("run").items() <= shipped.items()
    assert {"nats-py"} == shipped.keys() - pins("run").keys()
    assert {"setuptools"} == pins("build").keys()
    assert (shipped | pins("build")).items() <= pins("dev").items()


def test_the_containerfile_installs_by_hash_alone() -> None:
    """And leaves nothing that could install more."""
    text = (ROOT / "deploy" / "docker" / "Containerfile").read_text(encoding="utf-8")
    commands = re.sub(r"\\\n\s*", " ", text).replace("&&", "\n").splitlines()
    installs = [line for line in commands if "pip" in line and " install " in line]
    _, final = text.split("\nFROM ", 2)[1:]

    assert 3 == len(installs)
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    assert "--without-pip" in text
    assert "rm -rf /usr/local/bin/pip*" in final
    assert "USER 65532:65532" in final


@pytest.fixture
def builders(tmp_path: Path) -> Path:
    """Return a directory for programs that stand in for builders, and write down what they do."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sed", "dirname", "mkdir", "sh"):
        (directory / name).symlink_to(shutil.which(name) or name)
    return directory


def put(directory: Path, name: str, *, digest: str = DIGEST, options: str = "--sbom") -> None:
    """Install a stand-in, whose help names *options*."""
    program = directory / name
    program.write_text(
        "#!/bin/sh\n"
        f'echo "{name} $*" >> "{directory.parent}/asked"\n'
        f'case "$*" in *inspect*) echo "{digest}" ;; *--help*) echo "{options}" ;; esac\n',
        encoding="utf-8",
    )
    program.chmod(0o755)


def build(directory: Path, **environment: str) -> tuple[int, str, list[str]]:
    """Run the script; return its status, what it says, and what was asked of the builder."""
    done = subprocess.run(
        [directory / "sh", SCRIPT], capture_output=True, text=True, check=False,
        env={"PATH": str(directory), "HOME": os.environ["HOME"]} | environment,
    )  # fmt: skip
    asked = directory.parent / "asked"
    lines = asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []
    return done.returncode, done.stdout + done.stderr, lines


@pytest.mark.parametrize("builder", ["podman", "docker"])
def test_the_base_is_named_by_the_digest_that_the_builder_finds(
    builders: Path, builder: str
) -> None:
    """For both architectures, with an SBOM; pushed only on request."""
    put(builders, builder)
    status, said, asked = build(builders, IMAGE="registry.example/cats:1")
    (command,) = [line for line in asked if " build " in line and "--platform" in line]

    assert 0 == status, said
    assert f"--build-arg PYTHON_IMAGE=docker.io/library/python:3.13-slim@{DIGEST}" in command
    assert "--platform linux/amd64,linux/arm64" in command
    assert "--sbom" in command
    assert "registry.example/cats:1" in command
    assert not any("push" in line for line in asked)


def test_a_builder_that_knows_no_sbom_builds_without_one(builders: Path) -> None:
    """As Debian 12's buildah 1.28 does; it says so."""
    put(builders, "buildah", options="--manifest")
    status, said, asked = build(builders)

    assert 0 == status, said
    assert "buildah writes no SBOM" in said
    assert "--sbom" not in asked[-1]


def test_what_was_built_can_be_built_again_from_the_same_base(builders: Path) -> None:
    """And pushed."""
    put(builders, "podman")
    base = f"mirror.example/python@{DIGEST}"
    status, said, asked = build(builders, BASE=base, PUSH="1")

    assert 0 == status, said
    assert not any("pull" in line for line in asked)
    assert any(f"PYTHON_IMAGE={base}" in line for line in asked)
    assert asked[-1].endswith(f"manifest push --all cats-controlplane:{__version__}")


def test_a_base_without_a_digest_is_refused(builders: Path) -> None:
    """A tag names another image tomorrow."""
    put(builders, "podman", digest="")
    status, said, _ = build(builders)

    assert (1, True) == (status, "the base has no digest" in said)


def test_without_a_builder_it_says_which_there_are(builders: Path) -> None:
    """Exit status 2, as for any command that cannot begin."""
    status, said, _ = build(builders)

    assert 2 == status
    assert "podman, buildah, or docker with buildx" in said
