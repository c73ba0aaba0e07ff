"""A browser of the machine, driven by Playwright; what it complains about fails the test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "BROWSER_TESTS"
"""`required` in this variable: a machine without a browser fails, and does not skip."""
PICTURES = "ADMIN_PICTURES"
"""A folder in this variable gets a picture of each page: that is how docs/images/admin was made. Those of experiments are
of tests/integration/admin/test_story_in_browser.py, since the demo runs none."""
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1360, "height": 860}
WAIT_MS = 15_000
"""The machine may be shared; what takes longer is not there."""


def program() -> str:
    """The browser's path; without one the test is skipped, or fails where that is asked for."""
    found = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if found is None:
        words = f"no browser on this machine ({', '.join(PROGRAMS)}); `make browser` as root installs Debian's Chromium"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(words)
        pytest.skip(words)
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """One process for many tests."""
    path = program()
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that a container's root has not; it sees our own pages alone.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=[*options, "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visitor:
    """Somebody's window, with what the browser complained about."""

    context: BrowserContext
    page: Page
    home: str
    complaints: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)
    """Statuses whose line in the console is no complaint."""

    def sign_in(self, name: str, password: str) -> None:
        """By the form."""
        self.go("/admin/sign-in")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/admin/")

    def go(self, path: str) -> Response | None:
        """A page by its path."""
        return self.page.goto(self.home + path)

    def sure(self) -> None:
        """Yes to the question that an action asks."""
        self.page.locator("#confirm[open]").get_by_role("button", name="Yes").click()

    def faults_of_access(self) -> list[str]:
        """Serious and critical violations that axe-core finds on the page as it is."""
        # Not by a script tag: the page's own policy would forbid it.
        self.page.evaluate(AXE_SCRIPT)
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['help']}: {', '.join(str(node['target']) for node in one['nodes'][:3])}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]

    def picture(self, path: str, look: str) -> None:
        """Of the page as it is, into the folder of PICTURES. path : of the route, which names it"""
        folder = os.environ.get(PICTURES)
        if folder:
            name = re.sub(r"[^a-z_]+", "-", path.removeprefix("/admin").strip("/")).strip("-") or "overview"
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=Path(folder) / f"{name}-{look}.png", full_page=True)

    def note(self, message: ConsoleMessage) -> None:
        """A line of the console."""
        is_expected = any(f"status of {status}" in message.text for status in self.expected)
        if message.type in {"error", "warning"} and not is_expected:
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


@contextmanager
def visitor(browser: Browser, home: str, **options: Any) -> Iterator[Visitor]:
    """A window with cookies of its own; at the end nothing may be in its console. home : `http://host:port`"""
    context = browser.new_context(**{"viewport": DESK, "timezone_id": "Europe/Berlin", "locale": "en-GB", **options})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    found = Visitor(context=context, page=page, home=home)
    page.on("console", found.note)
    page.on("pageerror", lambda error: found.complaints.append(f"exception: {error}"))
    try:
        yield found
    finally:
        context.close()
    assert not found.complaints, "the console says:\n" + "\n".join(found.complaints)
