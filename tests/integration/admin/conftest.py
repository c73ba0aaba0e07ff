"""The page over fakes, an operator, a viewer and nobody at it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute

from admin.app import create_app
from admin.auth import sign_in
from admin.pages import Pages
from mlops import passwords
from mlops.domain.policies import PromotionPolicy
from mlops.domain.records import RunState
from tasks import dispatch
from tests.integration.retraining.test_promote_stage import decided, registered
from tests.support.admin import Browser, add_people
from tests.support.services import FakeServices

_add_to = Pages.add_to


@cache
def routes_of(pages: Pages) -> list[BaseRoute]:
    """Made once in a process: FastAPI takes a tenth of a second for all of them, and hundreds of tests have an application."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _add_to(pages, app)
    return app.routes


@pytest.fixture
def app(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """With `anna`, an operator, and `victor`, a viewer."""
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    monkeypatch.setattr(Pages, "add_to", lambda pages, app: app.router.routes.extend(routes_of(pages)))
    monkeypatch.setattr(passwords, "LOG2_N", 4)  # a slow hash is for attackers
    monkeypatch.setattr(sign_in, "BELIEVED_S", 0.0)  # the ledger's clock moves, and a closed limit opens
    add_people(services.ledger, {"anna": "operator", "victor": "viewer"})
    app = create_app(services)
    yield app
    # Refusals that were counted are written some seconds later: into the ledger of the test after this one.
    app.state.refusals.close()
    app.state.passwords.close()


@pytest.fixture
def nobody(app: FastAPI) -> Browser:
    """Not signed in."""
    return Browser(app)


@pytest.fixture
def operator(app: FastAPI) -> Browser:
    """`anna`."""
    browser = Browser(app)
    assert browser.sign_in("anna").status_code == 303
    return browser


@pytest.fixture
def viewer(app: FastAPI) -> Browser:
    """`victor`."""
    browser = Browser(app)
    assert browser.sign_in("victor").status_code == 303
    return browser


@pytest.fixture
def waiting(services: FakeServices) -> str:
    """A run whose version 1 would be promoted and awaits approval."""
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services)
    grant, outcome = decided(services)
    assert outcome.run_state is RunState.AWAITING_APPROVAL
    return grant.run_id
