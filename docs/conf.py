"""The documentation as a site: `make docs` builds it from the repository's own Markdown into build/docs.

The source folder is the repository, so that a link works the same on the site and in the repository.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "ACIS MLOps"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
author = "the ACIS MLOps contributors"
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "examples/README.md",
    "k8s/base/README.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
# Read for files that match, and so kept small.
exclude_patterns = [
    ".*",
    "build",
    "var",
    "admin",
    "bench",
    "cli",
    "config",
    "devstack",
    "lab",
    "mlops",
    "tasks",
    "tests",
    "worker",
    "**/__pycache__",
]

# An anchor for every heading, as the repository's own page makes them.
myst_heading_anchors = 6
myst_enable_extensions = ["colon_fence"]

# Docstrings are plain text: `name` is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "ACIS MLOps"
html_extra_path = ["site"]
html_theme_options = {"footer_icons": []}
html_show_sphinx = False
html_copy_source = False


def setup(app: Any) -> None:  # noqa: ANN401 -- Sphinx calls it
    """Sphinx's hook for what a setting cannot say."""
    app.connect("autodoc-process-docstring", keep_indented_blocks)


def keep_indented_blocks(*arguments: Any) -> None:  # noqa: ANN401 -- the event's arguments; the last are the lines
    """Show what a docstring sets off by indentation (trees, tables, commands) as it stands, in place."""
    lines: list[str] = arguments[-1]
    found: list[str] = []
    inside = False
    for before, line in zip(["", *lines], lines, strict=False):
        is_indented = line.startswith("    ")
        if is_indented and not before.strip() and not inside and not found_directive(found):
            found += ["::", ""]
        inside = is_indented or (inside and not line.strip())
        found.append(line)
    lines[:] = found


def found_directive(lines: list[str]) -> bool:
    """The block that follows belongs to a directive, a list or a literal already."""
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last.startswith((".. ", "- ", "    ", ":")) or last.endswith("::")
