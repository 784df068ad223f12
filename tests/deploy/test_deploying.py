"""docs/deploying.md as an operator uses it: what is to be typed exists, and does what it says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from controlplane.cli import cats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
KUBECTL = str(Path(sys.executable).parent / "kubectl")


def blocks(language: str) -> list[str]:
    """Return the code blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands(name: str) -> list[str]:
    """Return the lines that call *name*, and those within sentences that have an option."""
    whole = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    within = re.findall(
        rf"`({name} [^`]*--[^`]*)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    )
    return [line for line in (*whole, *within) if line.startswith(f"{name} ")]


@pytest.mark.parametrize("line", commands("cats"))
def test_every_command_of_ours_is_one(line: str) -> None:
    """Each option exists, and takes what is given."""
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cats
    context = click.Context(cats)
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"no command {name}"
        context, command = click.Context(found, parent=context, info_name=name), found
    required = {each.name for each in command.params if each.required}
    given, _, _ = command.make_parser(context).parse_args(words)
    assert required <= given.keys()


@pytest.mark.parametrize("line", [line for line in commands("kubectl") if " -k " in line])
def test_every_directory_that_is_applied_renders(line: str) -> None:
    """From the root of a clone."""
    words = shlex.split(line, comments=True)
    directory = ROOT / words[words.index("-k") + 1]
    done = subprocess.run([KUBECTL, "kustomize", directory], capture_output=True, check=False)
    assert (0, b"") == (done.returncode, done.stderr)


def test_what_is_named_in_the_cluster_is_in_a_rendering() -> None:
    """Deployments and services that commands address."""
    named = set(re.findall(r"\b((?:deployment|service)/[a-z-]+)", "\n".join(blocks("sh"))))
    made = set()
    for overlay in ("ha", "edge-site"):
        done = subprocess.run(
            [KUBECTL, "kustomize", ROOT / "deploy" / "kubernetes" / "overlays" / overlay],
            capture_output=True, check=True,
        )  # fmt: skip
        for each in yaml.safe_load_all(done.stdout):
            made.add(f"{each['kind'].lower()}/{each['metadata']['name']}")
    assert {"deployment/cats", "service/inference"} <= named
    assert set() == named - made


def test_an_image_is_changed_where_it_says(tmp_path: Path) -> None:
    """Written into an overlay, also for an upgrade: in every pod that runs it."""
    shutil.copytree(ROOT / "deploy" / "kubernetes", tmp_path / "kubernetes")
    (snippet,) = [each for each in blocks("yaml") if each.startswith("images:")]
    for overlay in ("ha", "single"):
        file = tmp_path / "kubernetes" / "overlays" / overlay / "kustomization.yaml"
        text = snippet.replace("newTag: 0.1.0", "newTag: 9.9.9")
        file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")
        done = subprocess.run(
            [KUBECTL, "kustomize", file.parent], capture_output=True, text=True, check=True
        )
        objects: list[dict[str, Any]] = list(yaml.safe_load_all(done.stdout))
        images = {
            container["image"]
            for each in objects
            if each["metadata"]["name"] == "cats" and each["kind"] == "Deployment"
            for container in each["spec"]["template"]["spec"]["containers"]
        }
        assert {"registry.example/cats-controlplane:9.9.9"} == images
