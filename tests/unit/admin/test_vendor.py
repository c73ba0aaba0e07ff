"""What the browser runs of others is what they published, and nothing else is there."""

from __future__ import annotations

import hashlib
import re

from admin.responses import FOLDER, environment

VENDOR = FOLDER / "vendor"


def recorded() -> dict[str, str]:
    text = (VENDOR / "README.md").read_text()
    rows = re.findall(r"^\| (\S+) \| \S+ \| \S+ \| \S+ \| ([0-9a-f]{64}) \|$", text, re.MULTILINE)
    return dict(rows)


def test_each_vendored_file_has_the_recorded_digest() -> None:
    found = {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.suffix in {".js", ".css"}
    }
    assert found == recorded()
    assert len(found) >= 3


def test_each_library_has_its_licence_beside_it() -> None:
    assert {path.name for path in VENDOR.iterdir() if path.is_dir() and not (path / "LICENSE").is_file()} == set()


def test_no_template_has_a_script_a_style_or_an_address_elsewhere() -> None:
    loader = environment().loader
    assert loader is not None
    for name in loader.list_templates():
        text, *_ = loader.get_source(environment(), name)
        assert not re.search(
            r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|(?:src|href)=\"(?:https?:)?//", text
        ), name
