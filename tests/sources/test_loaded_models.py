"""A list of loaded models is read at its own period."""

from __future__ import annotations

import pytest

from controlplane.errors import ReportError
from controlplane.sources.loaded_models import PERIOD, LoadedModels


async def test_a_list_is_read_once_a_period_and_its_last_good_answer_stays() -> None:
    """A failure is raised once, and the next look is a period later."""
    now, answers = [0.0], ['{"data": [{"id": "a"}]}', "down", '{"data": [{"id": "b"}]}']

    async def fetch() -> str:
        return answers.pop(0)

    models = LoadedModels(fetch, clock=lambda: now[0])
    await models.refresh()
    await models.refresh()
    assert (("a",), 2) == (models.names, len(answers))
    now[0] += PERIOD
    with pytest.raises(ReportError, match="no JSON"):
        await models.refresh()
    await models.refresh()
    assert (("a",), 1) == (models.names, len(answers))
    now[0] += PERIOD
    await models.refresh()
    assert ("b",) == models.names
