"""Stands in for kubectl and its cluster: knows the objects that were applied, and runs nothing.

What is rendered or made is the real kubectl's work; a name that no applied object has is a fault,
as it would be at a real cluster. For commands of the documentation.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from controlplane.cli import COMMANDS

STORE = Path(os.environ["HOME"]) / "cluster.json"
Object = dict[str, Any]


def main(words: list[str]) -> str:
    """Run one command; return what it prints.

    Raises:
        SystemExit: it would fail.
    """
    namespace = "default"
    if words[0] == "-n":
        namespace, words = words[1], words[2:]
    match words:
        case ["apply", "-k", directory]:
            return store(yaml.safe_load_all(run("kustomize", directory)))
        case ["create", *rest]:
            made = ("--kubeconfig", os.devnull, "create", *rest)  # which no cluster is asked for
            text = run(*made, "-n", namespace, "--dry-run=client", "-o", "yaml")
            return store([yaml.safe_load(text)])
        case ["get", "secret", name, "-o", path]:
            key = re.fullmatch(r"jsonpath=\{\.data\.((?:\w|\\\.)+)\}", path)
            if key is None:
                raise SystemExit(f"only jsonpath={{.data.KEY}} is known, not {path}")
            return str(find("secret", name, namespace)["data"][key[1].replace("\\", "")])
        case ["config", *rest]:
            return run("config", *rest)
    return act(words, namespace)


def act(words: list[str], namespace: str) -> str:
    """Do a command about something that was applied."""
    match words:
        case ["rollout", "status" | "undo", name]:
            find(*split(name), namespace)
            return f"{name} rolled out"
        case ["set", "image", name, change]:
            container(find(*split(name), namespace), change.partition("=")[0])
            return f"{name} image updated"
        case ["label", "node", name, label] if re.fullmatch(r"[\w./-]+=[\w.-]*", label):
            return f"node/{name} labeled"
        case ["label", "service", name, label] if re.fullmatch(r"[\w./-]+=[\w.-]*", label):
            return f"service/{name} labeled"  # it is the reader's, and so is not among what we know
        case ["port-forward", name, ports]:
            offers(find(*split(name), namespace), int(ports.rpartition(":")[2]))
            return f"Forwarding from 127.0.0.1:{ports}"
        case ["exec", name, "--", "cats", command, "-c", file]:
            runs_in(find(*split(name), namespace), command, Path(file))
            return f"{name} would run it"
    raise SystemExit(f"not known here: kubectl {' '.join(words)}")


def run(*words: str) -> str:
    """Run the real kubectl, which needs no cluster for this."""
    return subprocess.run(
        [os.environ["KUBECTL"], *words], check=True, capture_output=True, text=True
    ).stdout


def known() -> list[Object]:
    """Return what was applied so far."""
    return list(json.loads(STORE.read_text(encoding="utf-8"))) if STORE.exists() else []


def store(objects: Any) -> str:
    """Apply *objects*; what names a namespace needs it to be there."""
    made = [each for each in objects if each]
    for each in made:
        if each.get("type") == "kubernetes.io/service-account-token":
            each["data"] = {"token": _TOKEN, "ca.crt": _encoded(Path("ca.crt").read_bytes())}
    STORE.write_text(json.dumps([*known(), *made]), encoding="utf-8")
    return "\n".join(f"{each['kind']}/{each['metadata']['name']} applied" for each in made)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


_TOKEN = _encoded(b"what the cluster signs")


def find(kind: str, name: str, namespace: str) -> Object:
    """Return an object that was applied."""
    for each in known():
        place = each["metadata"].get("namespace", "default")
        if (each["kind"].lower(), each["metadata"]["name"], place) == (kind, name, namespace):
            return each
    raise SystemExit(f"no {kind} {name} in the namespace {namespace}")


def split(name: str) -> tuple[str, str]:
    """Return kind and name of ``KIND/NAME``."""
    kind, _, rest = name.partition("/")
    return kind, rest


def containers(workload: Object) -> list[Object]:
    """Return the containers of a Deployment."""
    return list(workload["spec"]["template"]["spec"]["containers"])


def offers(target: Object, port: int) -> None:
    """Check that a Service, or a container of a Deployment, has the *port*."""
    if target["kind"] == "Service":
        ports = [each["port"] for each in target["spec"]["ports"]]
    else:
        ports = [p["containerPort"] for part in containers(target) for p in part.get("ports", ())]
    if port not in ports:
        raise SystemExit(f"there are the ports {ports}, not {port}")


def runs_in(workload: Object, command: str, file: Path) -> None:
    """Check that a command of cats would find its configuration *file* in a pod."""
    mounts = [m["mountPath"] for part in containers(workload) for m in part.get("volumeMounts", ())]
    if not any(file.is_relative_to(mount) for mount in mounts):
        raise SystemExit(f"{mounts} are mounted, and {file} is in none of them")
    if command not in COMMANDS:
        raise SystemExit(f"cats has no command {command}")


def container(workload: Object, name: str) -> Object:
    """Return one of them."""
    for each in containers(workload):
        if each["name"] == name:
            return each
    raise SystemExit(f"no container {name}")


if __name__ == "__main__":
    print(main(sys.argv[1:]))
