"""The page of the running stack in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.admin import PASSWORD
from tests.support.chromium import Visitor, chromium, visitor
from tests.support.served_stack import ServedStack


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Skipped, or failed, before the stack is started."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="package")
def home(browser: Browser, stack: ServedStack) -> str:
    """Where the page is, without its path."""
    return stack.endpoints.admin_url.removesuffix("/admin")


@pytest.fixture
def nobody(browser: Browser, home: str) -> Iterator[Visitor]:
    """Not signed in."""
    with visitor(browser, home) as found:
        yield found


@pytest.fixture
def secrets(stack: ServedStack) -> dict[str, str]:
    """What was made at the first start."""
    found: dict[str, str] = json.loads(stack.endpoints.flower_credentials.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def operator(nobody: Visitor, secrets: dict[str, str]) -> Visitor:
    """The first user, with the password that was made."""
    nobody.sign_in(secrets["admin_user"], secrets["admin_password"])
    return nobody


@pytest.fixture
def viewer(browser: Browser, home: str, stack: ServedStack) -> Iterator[Visitor]:
    """A user who reads."""
    if stack.services.ledger.user("victor") is None:
        stack.services.ledger.add_user("victor", PASSWORD, role="viewer", created_by="test")
    with visitor(browser, home) as found:
        found.sign_in("victor", PASSWORD)
        yield found
