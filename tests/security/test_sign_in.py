"""Sign-in under attack, tokens and refusals: as a stranger, a viewer, and the holder of a narrow token."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from admin.app import create_app
from admin.auth.refusals import MOST_LINES
from admin.auth.sign_in import MOST_OF_A_NAME, MOST_OF_A_NAME_FROM_EVERYWHERE, WAITING
from admin.events import MOST_OF_A_SESSION
from admin.pages import guarded_routes
from config.settings import ROOT, Settings
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.people.auditing import AuditLine
from mlops.ledger.people.sign_in_limits import Limit
from mlops.ledger.schema import migrate
from tasks.services import connect
from tests.support.admin_server import environment, served, sign_in
from tests.support.waiting import wait_for

PASSWORD = "a password for tests"
SECRET = "hunter2-in-the-wrong-field"
HTML = {"accept": "text/html"}
_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Page:
    """The page behind a proxy that it trusts, so that a test chooses its visitors' addresses."""

    home: str
    ledger: SqlLedger
    folder: Path
    url: str

    @property
    def log(self) -> str:
        return (self.folder / "admin.log").read_text(errors="replace")

    def new_user(self, role: str = "viewer") -> str:
        name = f"user{next(_numbers)}"
        self.ledger.add_user(name, PASSWORD, role=role, created_by="test")
        return name

    def lines(self, action: str, **filtered: str) -> list[AuditLine]:
        return self.ledger.audit_lines(action=action, limit=10_000, **filtered)


@pytest.fixture(scope="module")
def page(postgres_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    url, folder = postgres_database(), tmp_path_factory.mktemp("page")
    migrate(url)
    with ExitStack() as stack:
        ledger = open_ledger(url)
        stack.callback(ledger.close)
        home = stack.enter_context(served(folder, DATABASE_URL=url, ACIS_ADMIN_PROXIES="127.0.0.1"))
        yield Page(home=home, ledger=ledger, folder=folder, url=url)


def tried(
    page: Page,
    name: str,
    password: str = "wrong",  # noqa: S107 -- it is none
    *,
    address: str = "192.0.2.1",
    cookies: Mapping[str, str] | None = None,
    **headers: str,
) -> requests.Response:
    """A sign-in by whoever makes up both the form's token and its cookie, as a script does."""
    return requests.post(
        f"{page.home}/admin/sign-in",
        data={"csrf": "x", "name": name, "password": password},
        cookies={"acis_sign_in": "x", **(cookies or {})},
        headers={**HTML, "x-forwarded-for": address, **headers},
        allow_redirects=False,
        timeout=60,
    )


def fresh_address() -> str:
    number = next(_numbers)
    return f"10.1.{number >> 8}.{number & 255}"


def locked(page: Page, name: str) -> None:
    """Close the name for browsers that are not known, as guesses from everywhere do, without comparing passwords."""
    everywhere = Limit(key=f"name {name}", most=MOST_OF_A_NAME_FROM_EVERYWHERE, user=name, is_kept=True)
    for _ in range(MOST_OF_A_NAME_FROM_EVERYWHERE):
        assert not page.ledger.begin_try([everywhere])
    assert tried(page, name, PASSWORD, address=fresh_address()).status_code == 429


def device(page: Page, name: str) -> dict[str, str]:
    """The cookie that a browser has kept from its user's sign-in."""
    answer = tried(page, name, PASSWORD, address=fresh_address())
    assert answer.status_code == 303
    return {"acis_device": answer.cookies["acis_device"]}


# ---- Guesses


def test_an_address_is_what_the_trusted_proxy_saw_and_a_household_of_ipv6_is_one(page: Page) -> None:
    """First: of more than a hundred refusals in an hour the addresses are not kept one by one."""
    name = page.new_user()
    tried(page, name, address="203.0.113.9, 198.51.100.7")
    assert page.lines("sign_in.refused", subject=name)[0].address == "198.51.100.7"
    household = page.new_user()
    statuses = [
        tried(page, household, address=f"2001:db8:0:7::{n:x}").status_code for n in range(1, MOST_OF_A_NAME + 2)
    ]
    assert statuses == [401] * MOST_OF_A_NAME + [429]
    assert tried(page, household, PASSWORD, address="2001:db8:0:8::1").status_code == 303


def test_of_many_guesses_at_once_no_more_are_answered_than_promised_and_the_others_are_told_when(page: Page) -> None:
    name = page.new_user()
    with ThreadPoolExecutor(WAITING) as pool:
        answers = list(pool.map(lambda n: tried(page, name, f"guess {n}"), range(120)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {401, 429}
    assert statuses[401] <= MOST_OF_A_NAME
    closed = tried(page, name, PASSWORD)
    assert closed.status_code == 429
    assert 0 < int(closed.headers["retry-after"]) <= 900
    assert re.search(r"try again in (\d+ minutes|a minute)", closed.text)
    refused = page.lines("sign_in", subject=name)
    assert len(refused) <= 2, "one line for what was answered, one for what was not"
    wait_for(
        lambda: sum(line.detail.get("times", 1) for line in page.lines("sign_in", subject=name)) >= 121,
        "each of them is counted",
        within_s=20,
    )


def test_a_stranger_at_one_address_closes_the_name_for_that_address_alone(page: Page) -> None:
    name = page.new_user()
    assert [tried(page, name).status_code for _ in range(MOST_OF_A_NAME + 1)] == [401] * MOST_OF_A_NAME + [429]
    assert tried(page, name, PASSWORD, address="192.0.2.2").status_code == 303


def test_who_guesses_from_everywhere_locks_out_no_browser_in_which_the_user_has_signed_in(page: Page) -> None:
    name = page.new_user()
    known = device(page, name)
    with ThreadPoolExecutor(4) as pool:
        guesses = pool.map(lambda _: tried(page, name, address=fresh_address()), range(MOST_OF_A_NAME_FROM_EVERYWHERE))
        assert {answer.status_code for answer in guesses} == {401}
    assert tried(page, name, PASSWORD, address=fresh_address()).status_code == 429
    assert tried(page, name, PASSWORD, address=fresh_address(), cookies=known).status_code == 303


def test_a_known_browser_has_a_limit_of_its_own(page: Page) -> None:
    name = page.new_user()
    known = device(page, name)
    statuses = [tried(page, name, cookies=known).status_code for _ in range(MOST_OF_A_NAME + 1)]
    assert statuses == [401] * MOST_OF_A_NAME + [429]
    assert tried(page, name, PASSWORD, address=fresh_address()).status_code == 303


def test_a_cookie_that_was_made_up_or_is_anothers_or_was_revoked_passes_no_limit(page: Page) -> None:
    name, other = page.new_user(), page.new_user()
    known, others = device(page, name), device(page, other)
    id_, at, signature = known["acis_device"].split(".")
    made_up = [f"{id_}.{at}.{signature[::-1]}", f"{id_}.{int(at) + 1}.{signature}", "..", f"{id_}.²." + signature, ""]
    locked(page, name)
    for cookie in (*made_up, others["acis_device"]):
        answer = tried(page, name, PASSWORD, address=fresh_address(), cookies={"acis_device": cookie.encode().hex()})
        assert answer.status_code == 429
    for cookie in made_up[:3]:
        answer = tried(page, name, PASSWORD, address=fresh_address(), cookies={"acis_device": cookie})
        assert answer.status_code == 429, cookie
    page.ledger.set_password(name, "another password")

    def is_forgotten() -> bool:
        return tried(page, name, "another password", address=fresh_address(), cookies=known).status_code == 429

    wait_for(is_forgotten, "the change of password revokes the cookie", within_s=10)


def test_signing_out_everywhere_ends_sessions_and_forgets_browsers(page: Page) -> None:
    name = page.new_user()
    session = sign_in(page.home, name, PASSWORD)
    known = {"acis_device": session.cookies["acis_device"]}
    csrf = re.search(r'name="csrf" value="([^"]+)"', session.get(f"{page.home}/admin/").text)
    assert csrf
    other = sign_in(page.home, name, PASSWORD)
    assert session.post(f"{page.home}/admin/account/sign-out-everywhere", data={"csrf": csrf[1]}).ok
    assert other.get(f"{page.home}/admin/", allow_redirects=False).status_code == 303
    locked(page, name)
    assert tried(page, name, PASSWORD, address=fresh_address(), cookies=known).status_code == 429


def test_an_operator_unlocks_a_name_on_the_command_line_and_sees_on_the_page_who_is_guessed_at(page: Page) -> None:
    operator, name = page.new_user("operator"), page.new_user()
    locked(page, name)
    for _ in range(MOST_OF_A_NAME_FROM_EVERYWHERE):
        assert tried(page, name, address=fresh_address()).status_code == 429
    shown = sign_in(page.home, operator, PASSWORD)
    # Beyond a hundred lines guesses are counted, and written every five seconds.
    wait_for(lambda: f"somebody guesses at {name}" in shown.get(f"{page.home}/admin/").text, "it is shown", within_s=20)
    assert "guessed at" in shown.get(f"{page.home}/admin/users").text
    viewer = sign_in(page.home, page.new_user(), PASSWORD)
    assert "somebody guesses" not in viewer.get(f"{page.home}/admin/").text
    program = Path(sys.executable).with_name("acis")
    values = environment(ACIS_VAR_DIR=str(page.folder), DATABASE_URL=page.url)
    for asked, code in ((name, 0), ("nobody-of-that-name", 2)):
        ended = subprocess.run(
            [program, "users", "--unlock", asked], env=values, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert bool(ended.returncode) == bool(code), ended.stderr
    wait_for(lambda: tried(page, name, PASSWORD, address=fresh_address()).status_code == 303, "it is open", within_s=20)
    (line,) = page.lines("user.unlock", subject=name)
    assert "acis users" in line.actor


def test_guesses_at_names_that_nobody_has_are_answered_like_others(page: Page) -> None:
    """Else ten tries would tell which names there are."""
    nobody, known = f"nobody{next(_numbers)}", page.new_user()
    for name in (nobody, known):
        address = fresh_address()
        found = [tried(page, name, address=address) for _ in range(MOST_OF_A_NAME + 1)]
        assert [one.status_code for one in found] == [401] * MOST_OF_A_NAME + [429]
        assert "Name or password is wrong." in found[0].text


def test_a_flood_from_many_addresses_fills_neither_the_audit_nor_the_memory(page: Page) -> None:
    before = len(page.lines("sign_in.refused", actor="nobody"))
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda n: tried(page, "x", address=f"198.51.{n >> 8}.{n & 255}", cookies={"acis_sign_in": "other"}),
            range(3 * MOST_LINES),
        )
        assert {answer.status_code for answer in answers} == {403}
    lines = page.lines("sign_in.refused", actor="nobody")
    assert len(lines) - before <= MOST_LINES + 3, "one for each name beyond"
    wait_for(
        lambda: any(
            line.address is None and line.detail.get("times", 1) > MOST_LINES
            for line in page.lines("sign_in.refused", actor="nobody")
        ),
        "those beyond the bound are counted in one line",
        within_s=20,
    )


def test_a_flood_leaves_the_page_to_others(page: Page) -> None:
    """More guesses wait than comparisons have places: the rest is told so at once, and a known browser has its own."""
    name = page.new_user("operator")
    known = device(page, name)
    with ThreadPoolExecutor(6 * WAITING) as pool:
        flood = [
            pool.submit(tried, page, f"flood{n}", address=f"203.0.{n >> 8}.{n & 255}") for n in range(12 * WAITING)
        ]

        def is_answered_meanwhile() -> bool:
            assert requests.get(f"{page.home}/healthz", timeout=30).text == "ok\n"
            return not all(one.done() for one in flood)

        n_answered = int(is_answered_meanwhile())
        assert tried(page, name, PASSWORD, address=fresh_address(), cookies=known).status_code == 303
        n_answered += sum(is_answered_meanwhile() for _ in flood)
        statuses = Counter(one.result().status_code for one in flood)
    assert n_answered > 0, "/healthz answered while guesses were under way"
    assert set(statuses) == {401, 429}, "some were compared, and some were told to come again"
    assert statuses[429] > WAITING


# ---- What a stranger's words leave behind


def test_a_name_that_nobody_has_is_nowhere_as_it_was_typed(page: Page) -> None:
    answer = tried(page, SECRET, SECRET, referer=f"{page.home}/admin/sign-in?name={SECRET}")
    requests.get(f"{page.home}/admin/sign-in?name={SECRET}&password={SECRET}", timeout=30)
    assert SECRET not in answer.text
    assert SECRET not in page.log
    told = json.dumps([vars(line) for line in page.lines("")], default=str)
    assert "(no such user)" in told
    assert SECRET not in told


def test_each_request_is_a_line_of_json_without_secrets_whose_id_is_the_answers(page: Page) -> None:
    name = page.new_user()
    token, text = page.ledger.add_token("ci", user=name, role="viewer")
    session = sign_in(page.home, name, PASSWORD)
    session.get(f"{page.home}/admin/audit?q={SECRET}")
    session.get(f"{page.home}/admin/runs/{SECRET}")
    refused = session.get(f"{page.home}/admin/users", headers=HTML)
    requests.get(f"{page.home}/admin/", headers={"authorization": f"Bearer {text}"}, timeout=30)
    requests.get(f"{page.home}/admin/nowhere/{SECRET}", headers=HTML, timeout=30)
    log = page.log
    for secret in (SECRET, PASSWORD, text, text[-20:], *session.cookies.values()):
        assert secret not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith('{"timestamp"')]
    known = [(line["path"], line["status"], line["token"]) for line in lines if line["user"] == name]
    assert known == [
        ("/admin/sign-in", 303, None),
        ("/admin/", 200, None),
        ("/admin/audit", 200, None),
        ("/admin/runs/{run_id}", 404, None),
        ("/admin/users", 403, None),
        ("/admin/", 200, token.id),
    ]
    assert {line["path"] for line in lines if line["status"] == 404} == {"/admin/runs/{run_id}", "(no such path)"}
    assert not any(line["path"] == "/healthz" for line in lines)
    (own,) = [line for line in lines if line["request_id"] == refused.headers["x-request-id"]]
    assert (own["method"], own["status"], own["address"]) == ("GET", 403, "127.0.0.1")
    assert own["duration_ms"] >= 0
    assert f"request {own['request_id']}" in refused.text


# ---- Refusals of every kind are on record


def test_role_form_origin_scope_and_rate_are_refused_and_on_record(page: Page) -> None:
    name = page.new_user()
    session = sign_in(page.home, name, PASSWORD)
    csrf = re.search(r'name="csrf" value="([^"]+)"', session.get(f"{page.home}/admin/").text)
    assert csrf
    _, text = page.ledger.add_token("narrow", user=name, role="viewer")
    program = {"authorization": f"Bearer {text}"}
    tokens, origin = f"{page.home}/admin/account/tokens", {"origin": "https://elsewhere.example"}
    right, other = {"csrf": csrf[1], "name": "t"}, {"csrf": "other", "name": "t"}
    assert session.get(f"{page.home}/admin/users").status_code == 403
    assert session.post(tokens, data=other).status_code == 403
    assert session.post(tokens, data=right, headers=origin).status_code == 403
    assert requests.post(tokens, data=right, headers=program, timeout=30).status_code == 403
    assert requests.post(f"{page.home}/admin/runs/x/cancel", headers=program, timeout=30).status_code == 403
    with ExitStack() as stack:
        open_lines = []
        for _ in range(MOST_OF_A_SESSION):
            stream = stack.enter_context(session.get(f"{page.home}/admin/events", stream=True, timeout=60))
            open_lines.append(stream.iter_lines(chunk_size=1))  # kept: one that is dropped closes its stream
            next(open_lines[-1])
        answer = stack.enter_context(session.get(f"{page.home}/admin/events", stream=True, timeout=60))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert not page.ledger.tokens(name)[1:], "no token was made"
    found = {
        (line.action, line.actor, line.address): line.detail.get("refused", "")
        for line in page.ledger.audit_lines(limit=10_000)
        if line.actor in {name, f"{name} (narrow)"} and line.detail.get("refused")
    }
    assert set(found) == {
        ("users.read", name, "127.0.0.1"),
        ("account.token.add", name, "127.0.0.1"),
        ("account.token.add", f"{name} (narrow)", "127.0.0.1"),
        ("run.cancel", f"{name} (narrow)", "127.0.0.1"),
        ("events.follow", name, "127.0.0.1"),
    }
    words = {line.detail["refused"] for line in page.lines("account.token.add", actor=name)}
    assert len(words) == 2, "the form of another session, and another site"


def test_a_refusal_that_comes_again_is_counted_in_its_line(page: Page) -> None:
    name = page.new_user()
    session = sign_in(page.home, name, PASSWORD)
    for _ in range(40):
        assert session.get(f"{page.home}/admin/users").status_code == 403

    def times() -> int:
        (line,) = page.lines("users.read", actor=name)
        return int(line.detail.get("times", 1))

    wait_for(lambda: times() == 40, "all are counted", within_s=20)


# ---- What a program reads


def json_paths(page: Page) -> list[str]:
    """Each page that needs nothing but a session or a token, and each of a run or strategy that is not there."""
    services = connect(Settings(database_url=page.url, var_dir=page.folder))  # type: ignore[arg-type]
    routes = [route.path for route, _ in guarded_routes(create_app(services)) if "GET" in route.methods]
    return [re.sub(r"\{\w+(:\w+)?\}", "growth", path) for path in routes if path != "/admin/events"]


def test_no_answer_in_json_has_what_a_session_could_be_acted_with(page: Page) -> None:
    name = page.new_user("operator")
    session = sign_in(page.home, name, PASSWORD)
    _, text = page.ledger.add_token("reader", user=name, role="operator")
    digests = {one.digest for one in page.ledger.sessions(name)} | {one.csrf for one in page.ledger.sessions(name)}
    assert digests
    n_read = 0
    for path in json_paths(page):
        for asked in (
            requests.get(page.home + path, headers={"authorization": f"Bearer {text}"}, timeout=60),
            session.get(page.home + path, headers={"accept": "application/json"}),
        ):
            if "json" not in asked.headers.get("content-type", ""):
                continue
            n_read += 1
            assert asked.status_code < 500 or asked.status_code == 503, (path, asked.text)
            assert not any(digest in asked.text for digest in digests), path
            assert not [key for key in keys_of(asked.json()) if key in {"csrf", "digest", "password_hash"}], path
    assert n_read > 40


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item)


# ---- Errors to strangers


def test_a_stranger_is_told_neither_host_nor_user_nor_database_when_a_server_is_away(tmp_path: Path) -> None:
    url = "postgresql://ledgerowner:pw-of-the-ledger@127.0.0.1:9/ledgerbase"
    with served(tmp_path, DATABASE_URL=url) as home:
        asked = [
            requests.get(f"{home}/admin/", cookies={"acis_session": "x"}, headers=HTML, timeout=60),
            requests.get(f"{home}/admin/runs", headers={"authorization": "Bearer acis_x_y"}, timeout=60),
            requests.post(
                f"{home}/admin/sign-in",
                data={"csrf": "x", "name": "a", "password": "b"},
                cookies={"acis_sign_in": "x"},
                headers=HTML,
                timeout=60,
            ),
        ]
    assert [answer.status_code for answer in asked] == [503, 503, 503]
    for answer in asked:
        for word in ("ledgerowner", "ledgerbase", "127.0.0.1", "pw-of-the-ledger", "port 9", "psycopg"):
            assert word not in answer.text
        assert "does not answer" in answer.text
    log = (tmp_path / "admin.log").read_text()
    assert "ledgerbase" in log, "whoever runs it is told where"
    assert "pw-of-the-ledger" not in log
