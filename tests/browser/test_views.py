"""Every view in every state: laid out for both screens, usable by everybody, and quiet whatever texts it shows."""

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.chromium import NARROW, WIDE, Tab
from tests.browser.hostile import MARKUP
from tests.browser.pages import DIALOGS, SCREENS, VIEWS, check_accessible, check_layout

SECTIONS = ("/", "/recipes", "/jobs/new", "/data", "/models", "/playground", "/review", "/compare", "/spend", "/system")
FOR_EVERYBODY = ("/models", "/playground")  # a key that may chat sees the models
SHOW_MARKUP = (
    "/jobs/{running}",
    "/jobs/{failed}",
    "/jobs/{finished}",
    "/jobs/{traced}/examples",
    "/jobs/{traced}/examples/{tried}",
    "/jobs/new?file={file}",
    "/data/{file}",
    "/system",
)


@pytest.mark.parametrize("path", VIEWS)
def test_a_view_is_in_order(tab: Tab, ids: dict[str, str], path: str):
    tab.go(path.format_map(ids))
    screens = SCREENS[:: 1 if VIEWS.index(path) % 2 else -1]  # axe looks at the second: each theme at every other view
    for size, theme in screens:
        tab.show(size, theme)
        check_layout(tab)
    check_accessible(tab)


@pytest.mark.parametrize("path", DIALOGS)
def test_its_dialogs_are_in_order(tab: Tab, ids: dict[str, str], path: str):
    tab.go(path.format_map(ids))
    tab.show(NARROW, "dark")
    for opens in DIALOGS[path]:
        tab.page.locator("main").get_by_role(
            "link" if opens.startswith("Export") else "button", name=opens, exact=True
        ).first.click()
        expect(tab.page.get_by_role("dialog")).to_be_visible()
        check_layout(tab)
        check_accessible(tab, "dialog[open]")
        tab.show(WIDE, "light")
        check_layout(tab)
        tab.show(NARROW, "dark")
        tab.page.keyboard.press("Escape")
        expect(tab.page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("path", SHOW_MARKUP)
def test_hostile_texts_stand_there_as_they_are(tab: Tab, ids: dict[str, str], path: str):
    tab.go(path.format_map(ids))
    expect(tab.page.get_by_text(MARKUP).first).to_be_attached()
    assert tab.page.locator("main img, main script, main iframe").count() == 0


@pytest.fixture(scope="module")
def keys(http: httpx.Client) -> dict[str, str]:
    """Of a project in which nothing was ever done, and of one who may do nothing but chat."""
    project = http.post("/v1/projects", json={"name": "new"}).raise_for_status().json()["id"]
    made = {
        "empty": {"project": project, "scopes": ["jobs", "chat", "files", "admin"]},
        "forbidden": {"scopes": ["chat"]},
    }
    sent = {name: http.post("/v1/keys", json={"name": name} | body).raise_for_status() for name, body in made.items()}
    return {name: answer.json()["key"] for name, answer in sent.items()}


@pytest.mark.parametrize("path", SECTIONS)
@pytest.mark.parametrize("who", ["empty", "forbidden", "nobody"])
def test_a_section_without_data_or_without_permission_says_so(stranger: Tab, keys: dict[str, str], who: str, path: str):
    stranger.expect("401", "403")
    if who in keys:
        stranger.key(keys[who])
    stranger.go(path)
    stranger.show(NARROW)
    check_layout(stranger)
    if who == "nobody":
        expect(stranger.page.get_by_role("heading", level=1)).to_have_text("An API key is needed")
    elif who == "forbidden" and path not in FOR_EVERYBODY:
        expect(stranger.page.get_by_text("Ask the operator of this system for a key").first).to_be_visible()
    check_accessible(stranger)


@pytest.mark.parametrize(
    ("breaks", "check"),
    [
        ("document.querySelector('main select').closest('label').replaceWith(document.querySelector('main select'))", check_accessible),
        ("document.querySelector('main p').style.color = '#ddd'; document.body.style.background = '#fff'", check_accessible),
        ("document.querySelector('main p').style.width = '900px'", check_layout),
        ("Object.assign(document.querySelector('main .button').style, { minHeight: 0, height: '12px', padding: 0 })", check_layout),
        ("document.querySelector('main').append('<div>')", check_layout),
        ("document.querySelector('main a').href = 'javascript:owned(1)'", check_layout),
        ("document.querySelector('main').innerHTML = '<img src=x onerror=owned(1)>'", Tab.check),
        ("document.querySelector('main a').setAttribute('onclick', 'owned(1)')", Tab.check),
        ("document.querySelector('main a').href = 'javascript:owned(1)'; document.querySelector('main a').click()", Tab.check),
        ("const own = document.createElement('style'); own.textContent = 'b {}'; document.head.append(own)", Tab.check),
        ("fetch('https://elsewhere.example/').catch(() => 0)", Tab.check),
        ("console.error('broken')", Tab.check),
        ("setTimeout(() => { throw Error('broken') })", Tab.check),
        ("owned('by a test')", Tab.check),
    ],
)  # fmt: skip
def test_the_checks_see_a_broken_page(stranger: Tab, ids: dict[str, str], keys: dict[str, str], breaks: str, check):
    assert ids
    stranger.key(keys["empty"])
    stranger.go("/")
    stranger.show(NARROW)
    stranger.page.evaluate(f"() => {{ try {{ {breaks} }} catch (refused) {{ }} }}")
    stranger.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    with pytest.raises(AssertionError):
        check(stranger)
    for told in (stranger.owned, stranger.violations, stranger.complaints, stranger.foreign):
        told.clear()
