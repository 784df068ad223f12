"""Reads the list of the models that an engine holds, beside its metrics and less often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from controlplane.telemetry.loaded_models import parse_loaded_models

PERIOD = 15.0
"""Seconds between two looks at a list: homes of adapters are reviewed no more often."""


class LoadedModels:
    """The last good list of one instance."""

    def __init__(self, fetch: Callable[[], Awaitable[str]], *, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._due_at = clock()
        self.names: tuple[str, ...] = ()

    async def refresh(self) -> None:
        """Read the list if that is due; a failure leaves the names as they are.

        Raises:
            ReportError: the answer is no list of models.
            aiohttp.ClientError, OSError, ValueError: no answer.
        """
        now = self._clock()
        if now < self._due_at:
            return
        self._due_at = now + PERIOD
        self.names = parse_loaded_models(await self._fetch())
