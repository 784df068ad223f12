"""The configuration file as it changes: read, watched, read again.

A change is noticed in three ways: a notification of the kernel, a look every few seconds where
there are none (network file systems, inotify watches used up), and `ConfigFile.reload`, which is
what SIGHUP calls. Whatever the hint, the file's text decides: the same text yields nothing.
A mounted Kubernetes ConfigMap changes by swapping the symlink ``..data`` beside the file, so the
file's directory is watched and the file is opened again each time.

What a bad file says is the caller's to report; the caller keeps the last good configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from controlplane.config import Config, check_config
from controlplane.config.source import MAX_BYTES
from controlplane.errors import ConfigError, Fault
from controlplane.runtime.blocking import BlockingCalls
from controlplane.runtime.files import read_file

POLL_PERIOD = 2.0
"""Seconds between two looks at the file where no notification comes."""
SETTLE = 0.5
"""Seconds that a file must stay as it is before it is read: the beginning of a file that is still
being copied may be a valid configuration of fewer instances."""
CUT_SETTLE = 4.0
"""The same for one that looks as if it was still being copied over a link that stalls: its last
line has no end, or it is the beginning of what was read last."""
SETTLE_WITHIN = 10.0
"""Seconds after which a file that never stays as it is is read anyway."""
ANSWER_WITHIN = 5.0
"""Seconds that the file system may take to answer."""
SHRUNK = 0.5
"""Fraction of the instances below which a new configuration is held until it is confirmed."""
SHRUNK_BY = 3
"""Instances that must be gone for that; small fleets are edited by hand."""

_Signature = tuple[int, ...] | None


class ConfigFile:
    """A configuration file.

    Attributes:
        path: the file, possibly a symlink.
        warnings: of the last configuration that was accepted.
    """

    def __init__(self, path: Path, *, poll_period: float = POLL_PERIOD) -> None:
        self.path = path
        self.warnings: tuple[Fault, ...] = ()
        self._poll_period = poll_period
        self._seen: str | ConfigError | None = None
        """Text that was last read, or why it could not be read."""
        self._signature: _Signature = None
        self._hint = asyncio.Event()
        self._forced = False
        self._instances = 0
        """In the last configuration that was accepted."""
        self._calls = BlockingCalls("configuration file")

    def read(self) -> Config:
        """Read the file now, whether it changed or not.

        Raises:
            ConfigError: with every fault found; an unreadable file is a fault, too.
        """
        self._signature = self._stat()
        try:
            self._seen = self._text()
        except ConfigError as error:
            self._seen = error
            raise
        config = self._parse(self._seen)
        self._instances = len(config.instances)
        return config

    def reload(self) -> None:
        """Look at the file soon; safe to call from a signal handler of the event loop."""
        self._forced = True
        self._hint.set()

    async def changes(self) -> AsyncGenerator[Config | ConfigError, None]:
        """Return the configuration, or what is wrong with it, after each change since `read`.

        Never ends by itself; close it (`contextlib.aclosing`) or cancel the task that reads it.
        """
        watching = asyncio.create_task(self._watch(), name="config-file-watch")
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_period):
                        await self._hint.wait()
                self._hint.clear()
                changed = await self._changed()
                if changed is not None:
                    yield changed
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        """Turn the kernel's notifications into hints, as long as there are any."""
        import watchfiles  # noqa: PLC0415 -- commands that only read a file need not load it

        # Without notifications, the look every few seconds finds the change.
        with contextlib.suppress(OSError, RuntimeError):
            async for _ in watchfiles.awatch(
                self.path.parent, watch_filter=None, recursive=False, debounce=200, step=20
            ):
                self._hint.set()

    async def _changed(self) -> Config | ConfigError | None:
        forced, self._forced = self._forced, False
        try:
            # What could not be read is tried again: rights and mounts change without a trace here.
            unreadable = isinstance(self._seen, ConfigError)
            if await self._look() == self._signature and not (forced or unreadable):
                return None
            text = await self._settled_text(forced=forced)
        except TimeoutError:
            self._signature = None
            message = f"not read within {ANSWER_WITHIN:g} s; see the file system it is on"
            return self._unreadable(_refused(self.path, message))
        except ConfigError as error:
            return self._unreadable(error)
        if text == self._seen and not forced:
            return None
        again, self._seen = text == self._seen, text
        try:
            config = await asyncio.to_thread(self._parse, text)
            if not forced:
                self._hold_shrunk(config)
        except ConfigError as error:
            return error
        if again and len(config.instances) == self._instances:
            return None
        self._instances = len(config.instances)
        return config

    def _unreadable(self, error: ConfigError) -> ConfigError | None:
        """Return *error* unless it was returned before."""
        if isinstance(self._seen, ConfigError) and self._seen.faults == error.faults:
            return None
        self._seen = error
        return error

    def _hold_shrunk(self, config: Config) -> None:
        """Raise ConfigError where most instances would go at once, which is rarely meant."""
        left, gone = len(config.instances), self._instances - len(config.instances)
        if gone >= SHRUNK_BY and left < SHRUNK * self._instances:
            message = (
                f"held: {gone} of {self._instances} instances would be removed at once; if that is"
                " meant, confirm it with SIGHUP or a restart, else restore the file"
            )
            raise ConfigError([Fault(str(self.path), 1, 1, "instances", message)])

    async def _look(self) -> _Signature:
        return await self._calls.run(self._stat, within=ANSWER_WITHIN)

    async def _settled_text(self, *, forced: bool) -> str:
        """Return the file's text once it stays as it is; sooner if that is *forced*."""
        deadline = asyncio.get_running_loop().time() + SETTLE_WITHIN
        while True:
            self._signature = await self._look()
            stays = await self._stays(SETTLE)
            is_late = asyncio.get_running_loop().time() > deadline
            if not (stays or is_late):
                continue
            text = await self._calls.run(self._text, within=ANSWER_WITHIN)
            if forced or is_late or not self._looks_cut(text) or await self._stays(CUT_SETTLE):
                return text

    async def _stays(self, seconds: float) -> bool:
        """Return whether the file stays as it was noted, as soon as that is known."""
        ends = asyncio.get_running_loop().time() + seconds
        while True:
            await asyncio.sleep(min(SETTLE, seconds))
            if await self._look() != self._signature:
                return False
            if asyncio.get_running_loop().time() >= ends:
                return True

    def _looks_cut(self, text: str) -> bool:
        """Return whether *text* may be the beginning of a longer one."""
        seen = self._seen
        is_beginning = isinstance(seen, str) and len(text) < len(seen) and seen.startswith(text)
        # JSON has an end of its own; what is empty is an error, whose end should not be late.
        has_end = text.endswith("\n") or (text.startswith("{") and text.endswith("}"))
        return bool(text) and (is_beginning or not has_end)

    def _stat(self) -> _Signature:
        try:
            found = self.path.stat()  # follows symlinks, so a swap shows
        except OSError:
            return None
        # A change of rights or owner shows in the inode's change time only.
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _text(self) -> str:
        return read_text(self.path)

    def _parse(self, text: str) -> Config:
        checked = check_config(text, file=str(self.path))
        self.warnings = checked.warnings
        return checked.config


def read_text(path: Path, *, pipes: bool = False) -> str:
    """Return the text of a configuration file.

    Args:
        path: the file.
        pipes: whether a FIFO is read too, which waits for its writer: for commands, never for a
            server, which reads the file again and must not wait.

    Raises:
        ConfigError: it cannot be read, is no regular file, is too long, or is not UTF-8.
    """
    try:
        if pipes:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        else:
            content = read_file(path, limit=MAX_BYTES + 1)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}; see its name and owner") from error
    return decode(content, file=str(path))


def decode(content: bytes, *, file: str) -> str:
    """Return the text of a configuration's bytes, of which `MAX_BYTES` + 1 at most were read.

    Raises:
        ConfigError: it is too long, or is not UTF-8.
    """
    if len(content) > MAX_BYTES:
        raise _refused(file, f"longer than {MAX_BYTES // 10**6} MB; is this a configuration?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Fault(file, line, column, "", message)]) from error


def _refused(file: Path | str, message: str) -> ConfigError:
    return ConfigError([Fault(str(file), 1, 1, "", message)])
