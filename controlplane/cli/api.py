"""Asking a running control plane, for commands that show what it knows."""

from __future__ import annotations

import json
import os
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from controlplane.cli import BadInput, Failure

TIMEOUT = 20.0
"""Seconds for one answer."""

TOKEN_FILE = "CATS_ADMIN_TOKEN_FILE"  # noqa: S105 -- a name
"""Environment variable: file of the token, where the admin port asks for one; first line."""


def fetch(
    admin_url: str,
    path: str,
    query: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: Mapping[str, Any] | None = None,
) -> Any:
    """Return the JSON document at *path*, after sending *body* as JSON if there is one.

    Raises:
        BadInput: the URL is none, or the API does not know what was asked for.
        Failure: no one answers, or not in JSON.
    """
    parts = urllib.parse.urlsplit(admin_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput(f"--admin: '{admin_url}' is not a URL such as http://127.0.0.1:18080")
    url = f"{admin_url.rstrip('/')}{path}"
    if query:
        url = f"{url}?{urllib.parse.urlencode(query)}"
    headers = _login()
    content = None
    if body is not None:
        content = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(  # noqa: S310 -- checked above
        url, headers=headers, method=method, data=content
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 -- as above
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            text = _error_text(error)
        if error.code == 401:
            raise BadInput(f"{url}: {text}; {TOKEN_FILE} names the file of the token") from error
        if error.code in (400, 404):
            raise BadInput(text) from error
        raise Failure(f"{url}: {text}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Failure(
            f"no control plane answers at {admin_url} ({reason}); is 'cats serve' running, and is"
            f" this its --admin address?"
        ) from error
    except ValueError as error:
        raise Failure(f"{url}: not JSON; is this a control plane's admin address?") from error


def fetch_date(admin_url: str) -> str | None:
    """Return the control plane's own time, as its answers carry it; None if it does not say."""
    try:
        request = urllib.request.Request(  # noqa: S310 -- `fetch` checks it
            f"{admin_url.rstrip('/')}/healthz", headers=_login()
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 -- as above
            date = answer.headers.get("Date")
            return str(date) if date else None
    except (OSError, ValueError):
        return None


def _login() -> dict[str, str]:
    """Return the headers by which the admin port knows us."""
    name = os.environ.get(TOKEN_FILE)
    if not name:
        return {}
    try:
        lines = pathlib.Path(name).read_text(encoding="utf-8").split()
    except OSError as error:
        raise BadInput(
            f"{TOKEN_FILE}: {name}: {error.strerror}; name an existing file that you may read"
        ) from error
    return {"Authorization": f"Bearer {lines[0]}"} if lines else {}


def _error_text(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
