"""Errors quote what is written, and say what the shape of a mistake gives away."""

from __future__ import annotations

import pytest

from controlplane.config import check_config
from controlplane.errors import ConfigError

HEAD = """version: 1
sites: [{name: s, kind: edge}]
models: [{name: m}]
services: [{name: x, match: [{path: /}], models: [{name: m}]}]
"""


def faults_of(instance: str, head: str = HEAD) -> str:
    """Return what is wrong with a file that ends in *instance*."""
    with pytest.raises(ConfigError) as raised:
        check_config(f"{head}instances:\n{instance}\n", file="f")
    return "\n".join(map(str, raised.value.faults))


def with_name(name: str) -> str:
    """Write an instance named *name*."""
    return f"  - {{name: {name}, site: s, address: '10.0.0.1:80', model: m}}"


def with_address(address: str) -> str:
    """Write an instance at *address*."""
    return f"  - {{name: a, site: s, address: {address}, model: m}}"


@pytest.mark.parametrize("name", ["007", "1e5", "0x1F", "1_000.0", "1.50", "true"])
def test_a_name_that_is_no_text_is_quoted_as_it_is_written(name: str) -> None:
    """Not as what YAML makes of it: an operator finds 007, and no 7."""
    if name == "1_000.0":  # text in YAML 1.2
        check_config(f"{HEAD}instances:\n{with_name(name)}\n", file="f")
        return
    assert f"{name} must be text; write it in quotes, '{name}'" in faults_of(with_name(name))


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        pytest.param(
            "  - name:x\n    site: s", "put a space after the colon of 'name:x'", id="colon"
        ),
        pytest.param(with_address("::1:80"), 'and quotes: "[::1]:80"', id="bare IPv6"),
        pytest.param(with_address("[fd00::12]:8000"), '"[fd00::12]:8000"', id="IPv6 in brackets"),
        pytest.param(with_address("'${HOST}:80'"), "looks like a template", id="variable, quoted"),
        pytest.param(with_address("${HOST}:80"), "'${HOST}' looks like a template", id="variable"),
        pytest.param("  - name: {{ .Values.a }}", "looks like a template; render it", id="Helm"),
        pytest.param(
            with_address("'http://10.0.0.1:80/v1'"),
            "a URL; write only its address, 10.0.0.1:80",
            id="URL",
        ),
    ],
)
def test_the_remedy_fits_the_mistake(instance: str, message: str) -> None:
    """Each is a mistake that people make, and its way out."""
    assert message in faults_of(instance)


def test_a_version_in_quotes_is_reported_as_text() -> None:
    """It is 1, and yet it is not."""
    head = HEAD.replace("version: 1", 'version: "1"')
    assert "'1' is text; write 1 without quotes" in faults_of(with_name("a"), head)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://10.0.0.1:80", True),
        ("http://10.0.0.1:80/", True),
        ("http://10.0.0.1:80/metrics", False),
        ("http://10.0.0.1:80/?format=prometheus", False),
    ],
)
def test_a_metrics_url_without_a_path_is_a_warning(url: str, warned: bool) -> None:
    """It may be meant, and hardly ever is."""
    scrape = f"{with_name('a')[:-1]}, scrape: {{url: '{url}'}}}}"

    checked = check_config(f"{HEAD}instances:\n{scrape}\n", file="f")

    assert warned == any("/metrics" in str(each) for each in checked.warnings)
