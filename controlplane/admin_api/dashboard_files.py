"""The dashboard: files of the package, which are read once."""

from __future__ import annotations

import importlib.resources

from aiohttp import web

from controlplane.admin_api.answers import json_error

_PAGE = {
    name: (importlib.resources.files("controlplane.admin_api") / "dashboard" / name).read_bytes()
    for name in (
        "index.html",
        "style.css",
        "app.js",
        "chart.js",
        "dom.js",
        "events.js",
        "explanation.js",
        "flows.js",
        "format.js",
        "glossary.js",
        "live.js",
        "map.js",
        "moment.js",
        "pages.js",
        "tables.js",
    )
}
"""The dashboard's files, which are small; what is not named here is not served."""
_CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


async def serve_dashboard(request: web.Request) -> web.Response:
    """Answer with a file of the dashboard, the page itself for ``/``."""
    name = request.match_info.get("name", "index.html")
    if name not in _PAGE:
        return json_error(404, "the dashboard has no such file; it is at /")
    return web.Response(
        body=_PAGE[name],
        content_type=_CONTENT_TYPES[name.rpartition(".")[2]],
        charset="utf-8",
    )
