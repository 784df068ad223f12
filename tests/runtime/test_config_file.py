"""The configuration file as it changes, on a real file system."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.config import Config
from controlplane.errors import ConfigError
from controlplane.runtime import config_file
from controlplane.runtime.config_file import ConfigFile, read_text
from testbed.background import running_task, until
from testbed.fakes.odd_files import KINDS, put_odd, remove


def fleet(period: str = "1s") -> str:
    """Return a valid file that says *period*."""
    return (
        "version: 1\nsites: [{name: s, kind: edge}]\nmodels: [{name: m}]\n"
        "services: [{name: x, match: [{path: /}], models: [{name: m}]}]\n"
        f"steering: {{period: {period}}}\n"
    )


def crowd(count: int) -> str:
    """Return a valid file of *count* instances."""
    lines = [
        f"  - {{name: i{n}, site: s, address: '10.0.0.{n}:80', model: m}}\n" for n in range(count)
    ]
    return f"{fleet()}instances:\n{''.join(lines)}"


class Changes:
    """What a `ConfigFile` yields, one at a time with a deadline."""

    def __init__(self, found: AsyncGenerator[Config | ConfigError, None]) -> None:
        self._found = found

    async def next(self) -> Config | ConfigError:
        """Return the next change."""
        async with asyncio.timeout(60):
            return await anext(self._found)

    async def period(self) -> float:
        """Return the period that the next change says."""
        changed = await self.next()
        assert isinstance(changed, Config), changed
        return changed.steering.period


@contextlib.asynccontextmanager
async def watched(
    path: Path, *, poll_period: float = 0.2
) -> AsyncIterator[tuple[ConfigFile, Changes]]:
    """Read *path* and watch it."""
    file = ConfigFile(path, poll_period=poll_period)
    file.read()
    async with contextlib.aclosing(file.changes()) as found:
        yield file, Changes(found)


def mount(directory: Path, version: str, text: str) -> None:
    """Publish *text* as the kubelet does: a new directory, then ``..data`` swapped to it."""
    place = directory / f"..{version}"
    place.mkdir()
    (place / "fleet.yaml").write_text(text)
    (directory / "..data_tmp").symlink_to(place.name)
    (directory / "..data_tmp").replace(directory / "..data")
    if not (directory / "fleet.yaml").is_symlink():
        (directory / "fleet.yaml").symlink_to("..data/fleet.yaml")


@pytest.mark.parametrize("turns", range(6))
async def test_the_watch_ends_at_whatever_moment_it_is_cancelled(
    tmp_path: Path, turns: int
) -> None:
    """A hint that comes with the cancellation would otherwise keep the process from its end."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    async with watched(path, poll_period=60.0) as (file, changes):
        reading = asyncio.create_task(changes.next())
        await asyncio.sleep(0.05)
        file.reload()
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        done, _ = await asyncio.wait({reading}, timeout=60.0)

    assert {reading} == done


async def test_a_changed_file_is_given(tmp_path: Path) -> None:
    """An edit in place arrives as a new configuration."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    async with watched(path) as (_, changes):
        path.write_text(fleet("2s"))

        assert 2.0 == await changes.period()


async def test_a_replaced_file_is_given(tmp_path: Path) -> None:
    """Editors that write beside and rename are followed."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    async with watched(path) as (_, changes):
        for period in (2, 3):
            (tmp_path / "new").write_text(fleet(f"{period}s"))
            (tmp_path / "new").replace(path)

            assert period == await changes.period()


async def test_a_swapped_mount_is_given(tmp_path: Path) -> None:
    """A Kubernetes ConfigMap changes by one symlink, again and again."""
    mount(tmp_path, "1", fleet("1s"))
    async with watched(tmp_path / "fleet.yaml") as (_, changes):
        for version in (2, 3):
            mount(tmp_path, str(version), fleet(f"{version}s"))

            assert version == await changes.period()


async def test_notifications_alone_are_enough(tmp_path: Path) -> None:
    """Where the kernel notifies, no one waits for the next look."""
    mount(tmp_path, "1", fleet("1s"))
    async with watched(tmp_path / "fleet.yaml", poll_period=3600) as (_, changes):

        async def swap_until_seen() -> None:
            for version in range(2, 200):  # the watch may not stand yet at the first
                mount(tmp_path, str(version), fleet("2s") + f"# {version}\n")
                await asyncio.sleep(0.1)

        async with running_task(swap_until_seen()):
            assert 2.0 == await changes.period()


async def test_a_look_is_enough_without_notifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that does not notify, the change is found all the same."""

    async def no_watch(_: ConfigFile) -> None:
        return

    monkeypatch.setattr(config_file.ConfigFile, "_watch", no_watch)
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    async with watched(path) as (_, changes):
        path.write_text(fleet("2s"))

        assert 2.0 == await changes.period()


async def test_a_bad_file_is_reported_and_the_next_good_one_given(tmp_path: Path) -> None:
    """A mistake costs a message, and its repair is taken, even back to what was before."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    async with watched(path) as (_, changes):
        path.write_text(fleet("1"))
        bad = await changes.next()
        path.write_text(fleet("1s"))
        good = await changes.period()

    assert isinstance(bad, ConfigError)
    assert (5, 20, "steering.period") == (
        bad.faults[0].line,
        bad.faults[0].column,
        bad.faults[0].path,
    )
    assert 1.0 == good


async def test_a_vanished_file_is_reported_once(tmp_path: Path) -> None:
    """A file that is gone is a fault, not an end, and not one every few seconds."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    async with watched(path) as (file, changes):
        path.unlink()
        gone = await changes.next()
        file.reload()
        path.write_text(fleet("3s"))
        back = await changes.period()

    assert isinstance(gone, ConfigError)
    assert f"{path}:1:1: cannot be read: No such file or directory; see its name and owner" == str(
        gone
    )
    assert 3.0 == back


async def test_the_same_text_yields_nothing(tmp_path: Path) -> None:
    """A touched or rewritten file is no change, nor is SIGHUP alone."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    file = ConfigFile(path)
    file.read()

    os.utime(path, (1, 1))
    assert await file._changed() is None
    path.write_text(fleet("1s"))
    file.reload()
    assert await file._changed() is None
    path.write_text(fleet("4s"))
    changed = await file._changed()

    assert isinstance(changed, Config)
    assert 4.0 == changed.steering.period


async def test_sighup_reads_the_file_at_once(tmp_path: Path) -> None:
    """A signal is a hint like any other, also where size and time say nothing."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    loop = asyncio.get_running_loop()
    async with watched(path, poll_period=3600) as (file, changes):
        loop.add_signal_handler(signal.SIGHUP, file.reload)
        try:
            before = path.stat()
            path.write_text(fleet("2s"))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.kill(os.getpid(), signal.SIGHUP)

            assert 2.0 == await changes.period()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)


def test_reading_gives_the_configuration_and_its_warnings(tmp_path: Path) -> None:
    """The first read is a plain call; warnings are kept for anyone who logs them."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("2s"))
    file = ConfigFile(path)

    assert 2.0 == file.read().steering.period
    assert ["services[0].models"] == [warning.path for warning in file.warnings]


def test_a_file_that_is_not_utf8_is_a_fault_at_its_byte(tmp_path: Path) -> None:
    """The place is reported as for any other fault."""
    path = tmp_path / "fleet.yaml"
    path.write_bytes(b"version: 1\nname: \xe4\n")

    with pytest.raises(ConfigError) as caught:
        read_text(path)
    assert f"{path}:2:7: byte 0xe4 is not UTF-8; save the file as UTF-8" == str(caught.value)


def test_an_endless_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A device or a log named by mistake is not read to its end."""
    monkeypatch.setattr(config_file, "MAX_BYTES", 10)
    path = tmp_path / "fleet.yaml"
    path.write_text("x" * 11)

    with pytest.raises(ConfigError, match="is this a configuration"):
        read_text(path)
    with pytest.raises(ConfigError, match="a directory, not a regular file"):
        read_text(tmp_path)


async def test_a_file_that_was_made_readable_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chmod changes neither size nor time of the content."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    opened, allowed = os.open, False

    def open_if_allowed(name: object, *args: int, **rest: int) -> int:
        if name == path and not allowed:  # root may read everything, so the kernel cannot refuse
            raise PermissionError(13, "Permission denied", str(path))
        return opened(name, *args, **rest)  # type: ignore[arg-type]

    async with watched(path) as (_, changes):
        monkeypatch.setattr(os, "open", open_if_allowed)
        path.write_text(fleet("2s"))
        refused = await changes.next()
        allowed = True
        path.chmod(0o640)

        assert isinstance(refused, ConfigError)
        assert "Permission denied" in str(refused.faults[0])
        assert 2.0 == await changes.period()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_file_in_the_files_place_is_an_error_and_no_hang(
    tmp_path: Path, kind: str
) -> None:
    """It is reported, and the file that replaces it is read."""
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    async with watched(path) as (_, changes):
        put_odd(path, kind)
        refused = await changes.next()
        remove(path)
        path.write_text(fleet("3s"))

        assert isinstance(refused, ConfigError)
        assert "cannot be read" in str(refused.faults[0])
        assert 3.0 == await changes.period()


async def test_a_file_system_that_hangs_is_reported_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch goes on, no thread is waited for, and what answers again is read."""
    monkeypatch.setattr(config_file, "ANSWER_WITHIN", 0.2)
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet("1s"))
    answers = threading.Event()
    async with watched(path) as (file, changes):
        text = file._text

        def hang() -> str:
            answers.wait(60)
            return text()

        monkeypatch.setattr(file, "_text", hang)
        path.write_text(fleet("2s"))
        refused = await changes.next()
        answers.set()

        assert isinstance(refused, ConfigError)
        assert "not read within" in str(refused.faults[0])
        assert 2.0 == await changes.period()


async def test_a_file_is_taken_when_it_has_stopped_changing(tmp_path: Path) -> None:
    """A valid beginning of a longer file is not a configuration."""
    path = tmp_path / "fleet.yaml"
    path.write_text(crowd(4))
    lines = crowd(40).splitlines(keepends=True)
    async with watched(path) as (_, changes):

        async def copy_slowly() -> None:
            with path.open("w") as file:
                for line in lines:
                    file.write(line)
                    file.flush()
                    await asyncio.sleep(0.06)

        copying = asyncio.create_task(copy_slowly())
        changed = await changes.next()
        await copying

        assert isinstance(changed, Config)
        assert 40 == len(changed.instances)


@pytest.mark.parametrize(
    ("before", "cut"),
    [
        pytest.param(40, crowd(30), id="at the end of a line of what it was"),
        pytest.param(40, crowd(30)[:-20], id="in a line of what it was"),
        pytest.param(10, crowd(40)[:-1], id="before the last end of a line"),
        pytest.param(10, fleet("2s") + crowd(40)[len(fleet()) : -1], id="with another beginning"),
    ],
)
async def test_a_copy_that_stalls_is_not_taken_before_its_end(
    before: int, cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the stall is, as far as the beginning shows that it is one."""
    monkeypatch.setattr(config_file, "CUT_SETTLE", 3600.0)
    monkeypatch.setattr(config_file, "SETTLE_WITHIN", 3600.0)
    monkeypatch.setattr(config_file, "SETTLE", 0.02)
    path = tmp_path / "fleet.yaml"
    path.write_text(crowd(before))
    looks = 0
    stat = ConfigFile._stat

    def counted(self: ConfigFile) -> Any:
        nonlocal looks
        looks += 1
        return stat(self)

    monkeypatch.setattr(ConfigFile, "_stat", counted)
    async with watched(path) as (_, changes):
        path.write_text(cut)
        coming = asyncio.create_task(changes.next())
        await until(lambda: looks >= 20)
        assert not coming.done()
        path.write_text(crowd(50))

        changed = await coming

        assert isinstance(changed, Config)
        assert 50 == len(changed.instances)


@pytest.mark.parametrize("text", [crowd(3), crowd(3)[:-1]], ids=["a beginning", "no last newline"])
async def test_what_only_looks_cut_is_taken_a_little_later(text: str, tmp_path: Path) -> None:
    """Instances at the end that were removed, and an editor that ends no last line."""
    path = tmp_path / "fleet.yaml"
    path.write_text(crowd(4))
    async with watched(path) as (_, changes):
        path.write_text(text)

        changed = await changes.next()

        assert isinstance(changed, Config)
        assert 3 == len(changed.instances)


async def test_a_fleet_that_shrinks_to_a_fraction_is_held_until_it_is_confirmed(
    tmp_path: Path,
) -> None:
    """A cut file and a template that rendered nothing look like that; SIGHUP confirms."""
    path = tmp_path / "fleet.yaml"
    path.write_text(crowd(10))
    async with watched(path) as (file, changes):
        path.write_text(crowd(4))
        held = await changes.next()
        file.reload()
        confirmed = await changes.next()
        path.write_text(crowd(2))  # two fewer is an edit
        edited = await changes.next()

        assert isinstance(held, ConfigError)
        assert "6 of 10 instances would be removed at once" in str(held.faults[0])
        assert "SIGHUP" in str(held.faults[0])
        assert isinstance(confirmed, Config)
        assert 4 == len(confirmed.instances)
        assert isinstance(edited, Config)
        assert 2 == len(edited.instances)


async def test_a_held_fleet_whose_file_is_restored_is_no_longer_held(tmp_path: Path) -> None:
    """What is in force again is given again, so that the error ends."""
    path = tmp_path / "fleet.yaml"
    path.write_text(crowd(10))
    async with watched(path) as (_, changes):
        path.write_text(crowd(1))
        assert isinstance(await changes.next(), ConfigError)
        path.write_text(crowd(10))

        restored = await changes.next()

        assert isinstance(restored, Config)
        assert 10 == len(restored.instances)
