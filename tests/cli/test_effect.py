"""What an override would change is read as figures, not as powers of ten."""

from __future__ import annotations

import pytest

from controlplane.cli.effect import print_effect


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
def test_no_figure_is_written_in_powers_of_ten(
    capsys: pytest.CaptureFixture[str], scale: float
) -> None:
    """Nor is what nothing is known of."""
    pair = {
        "service": "chat", "from": "office", "moved": 1.0, "latency": [None, 1.917 * scale],
        "shares": {"far": [0.0, 1.0]}, "note": "",
    }  # fmt: skip
    values = [0.368 * scale, 1.917 * scale]
    print_effect(
        {
            "pairs": [pair], "pairs_left_out": 0, "latency": values, "cost": values,
            "money_per_hour": values, "carbon_grams_per_hour": [0.0, 0.0],
        }
    )  # fmt: skip

    text = capsys.readouterr().out
    assert "e+" not in text
    assert "e-" not in text
    assert "- -> " in text
    assert "far 0% -> 100%" in text
