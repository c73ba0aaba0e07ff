"""Who comes in, what a viewer may, and what a form needs, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.chromium import Visitor


def test_a_wrong_password_is_refused_in_words(nobody: Visitor) -> None:
    nobody.expected.add(401)
    nobody.go("/admin/runs")
    expect(nobody.page).to_have_url(f"{nobody.home}/admin/sign-in?next=/admin/runs")
    nobody.page.get_by_label("Name").fill("operator")
    nobody.page.get_by_label("Password").fill("not the password")
    nobody.page.get_by_role("button", name="Sign in").click()
    expect(nobody.page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    assert nobody.faults_of_access() == []


def test_after_the_sign_in_one_is_where_one_wanted_to_be_and_after_the_sign_out_nowhere(
    operator: Visitor,
) -> None:
    page = operator.page
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You have signed out.")
    operator.go("/admin/runs")
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_viewer_reads_and_is_forbidden_to_act(viewer: Visitor) -> None:
    viewer.expected.add(403)
    viewer.go("/admin/runs")
    viewer.page.get_by_role("row").nth(1).get_by_role("link").first.click()
    expect(viewer.page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(viewer.page.get_by_role("button", name="Ask again")).to_have_count(0)
    run_path = viewer.page.url.removeprefix(viewer.home)
    csrf = viewer.page.locator("input[name=csrf]").first.input_value()
    assert posted(viewer, f"{run_path}/again", csrf) == 403
    answer = viewer.go("/admin/users")
    assert answer is not None
    assert answer.status == 403
    expect(viewer.page.get_by_role("alert")).to_contain_text("needs an operator")


def test_a_form_without_the_sessions_token_is_refused(operator: Visitor) -> None:
    operator.expected.add(403)
    operator.go("/admin/account")
    assert posted(operator, "/admin/account/tokens", "another") == 403
    operator.page.locator("form[action='/admin/account/tokens'] input[name=csrf]").evaluate("one => one.value = ''")
    operator.page.get_by_label("What uses it").fill("a forged form")
    operator.page.get_by_role("button", name="Make").click()
    expect(operator.page.get_by_role("alert")).to_contain_text("not of this session")


def test_a_token_is_made_shown_once_used_by_a_program_and_revoked(operator: Visitor) -> None:
    page = operator.page
    operator.go("/admin/account")
    page.get_by_label("What uses it").fill("acceptance")
    page.get_by_role("button", name="Make").click()
    token = page.locator("#secret").inner_text()
    program = {"authorization": f"Bearer {token}"}
    request = operator.context.request
    assert request.get(f"{operator.home}/admin/", headers=program).json()["totals"]["strategies"] == 5
    page.get_by_role("link", name="I have kept it").click()
    expect(page.get_by_text(token)).to_have_count(0)
    page.get_by_role("row", name="acceptance").get_by_role("button", name="revoke").click()
    operator.sure()
    expect(page.get_by_role("status")).to_have_text("The token acceptance is revoked.")
    assert request.get(f"{operator.home}/admin/", headers=program).status == 401


def test_a_user_is_made_and_disabled_and_the_audit_names_who_did_it(operator: Visitor, secrets: dict[str, str]) -> None:
    page = operator.page
    operator.go("/admin/users")
    page.get_by_label("Name").fill("winona")
    adding = page.locator("form[action='/admin/users']")
    adding.get_by_label("Your own password").fill(secrets["admin_password"])
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Password of winona")).to_be_visible()
    operator.go("/admin/users")
    page.get_by_role("row", name="winona").get_by_role("button", name="disable").click()
    operator.sure()
    expect(page.get_by_role("status")).to_contain_text("winona is disabled")
    operator.go("/admin/audit?q=winona")
    rows = page.get_by_role("row")
    expect(rows.nth(1)).to_contain_text("user.disable")
    expect(rows.nth(2)).to_contain_text("user.add")
    expect(rows.nth(1)).to_contain_text("operator")


def posted(visitor: Visitor, path: str, csrf: str) -> int:
    """Status of a form that the page does not offer, sent with the session's cookie."""
    answer = visitor.context.request.post(
        visitor.home + path, form={"csrf": csrf, "name": "x"}, headers={"origin": visitor.home}
    )
    return answer.status
