"""`python -m tests.support.site FOLDER`: every link inside a built site leads to a file, and to an anchor that is there.

Addresses elsewhere are left alone: a check must not depend on other people's servers.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None and name in ("href", "src"):
                self.targets.append(value)
            elif value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A folder of pages."""

    folder: Path
    _pages: dict[Path, _Page] = field(default_factory=dict, repr=False)

    @cached_property
    def paths(self) -> list[Path]:
        """All pages."""
        return sorted(self.folder.rglob("*.html"))

    def page(self, path: Path) -> _Page:
        """A page, read once."""
        if path not in self._pages:
            self._pages[path] = _Page(path.read_text(encoding="utf-8"))
        return self._pages[path]

    def broken(self) -> list[str]:
        """`page: link` for each that leads nowhere."""
        return [
            f"{path.relative_to(self.folder)}: {target}"
            for path in self.paths
            for target in dict.fromkeys(self.page(path).targets)
            if not self._leads_somewhere(path, target)
        ]

    def _leads_somewhere(self, path: Path, target: str) -> bool:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            return True
        place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if place.is_dir():
            place /= "index.html"
        if not place.is_file() or not place.is_relative_to(self.folder.resolve()):
            return False
        fragment = unquote(parts.fragment)
        return not fragment or place.suffix != ".html" or fragment in self.page(place).anchors


def main(arguments: list[str]) -> int:
    """Exit code: 1 where a link is broken, or there is no page."""
    site = Site(folder=Path(arguments[0]).resolve())
    broken = site.broken()
    for line in broken:
        sys.stderr.write(f"BROKEN {line}\n")
    sys.stdout.write(f"checked the links of {len(site.paths)} pages\n")
    return 1 if broken or not site.paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
