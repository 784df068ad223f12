"""Faults print as the place, the path and the message."""

from __future__ import annotations

from controlplane.errors import ConfigError, Fault


def test_a_fault_prints_its_place_its_path_and_what_is_wrong() -> None:
    """The line can be clicked in an editor and read by a person."""
    fault = Fault("fleet.yaml", 3, 9, "sites[0].kind", "'egde' is none of cloud, edge, device")

    assert "fleet.yaml:3:9: sites[0].kind: 'egde' is none of cloud, edge, device" == str(fault)


def test_a_config_error_lists_its_faults_in_the_order_of_their_places() -> None:
    """Anyone who fixes a file starts at its top."""
    late, early = Fault("f", 9, 1, "b", "wrong"), Fault("f", 2, 1, "a", "wrong")

    assert (early, late) == ConfigError([late, early]).faults
