"""Every page of the running stack, in light, dark and phone width: no complaint in the console, no barrier."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser

from admin.app import create_app
from admin.auth.guard import Guard
from admin.pages import guarded_routes
from config.settings import Settings
from mlops.bootstrap import Services
from tests.acceptance.conftest import SECOND, Demo
from tests.support.chromium import DESK, PHONE, visitor
from tests.support.served_stack import ServedStack

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": PHONE},
}
PAGES = [
    route.path
    for route, guard in guarded_routes(create_app(Services(Settings())))
    if isinstance(guard, Guard) and "GET" in route.methods and route.path != "/admin/events"
]


def address(path: str, demo: Demo) -> str:
    """The path with something of the demo in the place of each value."""
    growth = demo.of_pass(SECOND)["growth"]
    examples = {
        "run_id": growth.run_id,
        "strategy": "growth",
        "name": "growth",
        "version": "2",
        "first": "1",
        "second": "2",
        "word": "drift_check",
    }
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: examples[match[1]], path)


@pytest.mark.parametrize("look", list(LOOKS))
def test_every_page_has_no_error_no_barrier_and_fits_the_window(
    browser: Browser, home: str, stack: ServedStack, demo: Demo, look: str
) -> None:
    secrets = json.loads(stack.endpoints.flower_credentials.read_text(encoding="utf-8"))
    faults: dict[str, object] = {}
    with visitor(browser, home, **LOOKS[look]) as found:
        found.sign_in(secrets["admin_user"], secrets["admin_password"])
        for path in PAGES:
            answer = found.go(address(path, demo))
            assert answer is not None
            if answer.status >= 400:
                faults[path] = answer.status
                continue
            if "text/html" not in answer.headers["content-type"] or not found.page.locator("main").count():
                continue  # a part, or a document for a frame
            barriers = found.faults_of_access()
            if barriers:
                faults[path] = barriers
            width = found.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if width > 0:
                faults[f"{path} is wider than the window"] = width
            found.picture(path, look)
    assert faults == {}
