"""Reads ``agent.yaml`` in a process of its own, which then ends.

What checks a file, and says its faults so well, takes a third of the memory that an agent may
take in all, and is of no use once the file is read.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from pathlib import Path
from typing import NoReturn

from controlplane.agent.settings import AgentConfig
from controlplane.errors import ConfigError, ControlPlaneError, Fault


def read_agent_config(path: Path) -> AgentConfig:
    """Read and check the file here.

    Raises:
        ConfigError: with every fault found; an unreadable file is a fault, too.
    """
    from controlplane.agent.parse import parse_agent_config  # noqa: PLC0415 -- what is heavy
    from controlplane.runtime.config_file import read_text  # noqa: PLC0415

    return parse_agent_config(read_text(path), file=str(path))


def read_apart(path: Path) -> AgentConfig:
    """Read and check the file as `read_agent_config` does, in a child; no threads may run yet.

    Raises:
        ConfigError: with every fault found; an unreadable file is a fault, too.
        ControlPlaneError: the child failed, and has reported why.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _answer(path, writing)
    os.close(writing)
    with open(reading, "rb") as file:  # noqa: PTH123 -- a descriptor
        answer = file.read()
    os.waitpid(child, 0)
    if not answer:
        raise ControlPlaneError(f"{path}: could not be read; see the reason above")
    said: AgentConfig | list[Fault] = pickle.loads(answer)  # noqa: S301 -- our own words
    if isinstance(said, list):
        raise ConfigError(said)
    return said


def _answer(path: Path, writing: int) -> NoReturn:
    """Write the configuration, or the faults in it, and end this process."""
    said: AgentConfig | list[Fault]
    try:
        try:
            said = read_agent_config(path)
        except ConfigError as error:
            said = list(error.faults)
        with contextlib.suppress(BrokenPipeError), open(writing, "wb") as file:
            pickle.dump(said, file)
    except BaseException:  # noqa: BLE001 -- the parent goes on where this would go up to
        traceback.print_exc()
    finally:
        os._exit(0)
