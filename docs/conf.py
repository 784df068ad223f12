"""How Sphinx builds the documentation: ``make docs``; a warning is an error.

The source folder is the repository itself, so that README, examples and `deploy/` are pages too,
and a link that works in a clone works in the built pages. Nothing is fetched when a page is read.
"""

from __future__ import annotations

from controlplane import __version__

project = "Computing-aware traffic steering"
version = release = __version__
root_doc = "docs/index"
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/**.md", "deploy/**.md", "examples/**.md", "protos/**.md"]
exclude_patterns = ["build", "**/.*"]
nitpicky = True
smartquotes = False  # quotes in the text are what is typed

myst_heading_anchors = 4
myst_links_external_new_tab = False

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_copyright = False
html_permalinks_icon = "#"
html_additional_pages = {"index": "to_documentation.html"}
templates_path = ["_templates"]
