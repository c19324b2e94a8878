"""What a person does with a page, and what is asked of every page."""

import json

from tests.contract.browser import Browser

SCREENS = ((390, False), (1440, True))  # width, and whether it is dark
LOADED = "document.querySelector('main h1, main h2') && !document.querySelector('.spinner')"
CUT = """[...document.querySelectorAll('table, td, th, li, p, h1, h2, h3, dd, label, button')]
  .filter((part) => part.scrollWidth > part.clientWidth + 1 && part.clientWidth && getComputedStyle(part).overflowX === 'hidden'
    && !part.closest('.visually-hidden, caption, .plot') && getComputedStyle(part).webkitLineClamp === 'none')
  .map((part) => part.tagName + ' ' + part.textContent.slice(0, 60))"""
MARKUP_AS_TEXT = "document.body.innerText.match(/<!--|-->|<\\/?(div|span|p|table)>|\\[object Object\\]|undefined|NaN/g)"


def text_of(selector: str) -> str:
    return f"(document.querySelector({selector!r})?.textContent ?? '')"


def shows(text: str) -> str:
    return f"document.body.innerText.includes({json.dumps(text)})"


def click(browser: Browser, selector: str, text: str = "") -> None:
    """Clicks the first element that is seen, enabled and, where a text is given, holds it."""
    find = (
        f"[...document.querySelectorAll({json.dumps(selector)})].find((one) => one.offsetParent && !one.disabled "
        f"&& one.textContent.includes({json.dumps(text)}))"
    )
    browser.until(find)
    browser.evaluate(f"{find}.click()")


def fill(browser: Browser, selector: str, value: str) -> None:
    """Sets a field as typing does, so that the page notices."""
    at = f"document.querySelector({json.dumps(selector)})"
    browser.until(at)
    browser.evaluate(
        f"(() => {{ const field = {at}; field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); field.dispatchEvent(new Event('change', {bubbles: true})) })()"
    )


def enter_key(browser: Browser, key: str) -> None:
    fill(browser, "input[type=password]", key)
    click(browser, "form button", "Use this key")


def resize(browser: Browser, width: int, dark: bool = False) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[theme])


def check_layout(browser: Browser, width: int) -> None:
    """Nothing is wider than the screen, nothing is cut, and no markup or lost value shows as text."""
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CUT) == []
    assert browser.evaluate(MARKUP_AS_TEXT) is None


def check_quiet(browser: Browser, origin: str, since: int = 0) -> None:
    """Nothing was asked of others, no script of a text ran, and nothing was complained of since `since`."""
    asked = {request["request"]["url"] for request in browser.told("Network.requestWillBeSent")}
    assert asked
    assert all(url.startswith((f"{origin}/", f"blob:{origin}/", "data:")) for url in asked), asked
    assert browser.evaluate("document.title") != "owned"
    loud = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [told for told in browser.events[since:] if told[0] in loud] == []


def check_accessible(browser: Browser, axe: str) -> None:
    """axe: the source of axe-core. It finds nothing critical or serious."""
    browser.evaluate(f"{axe}; undefined")
    run = "axe.run(document, {resultTypes: ['violations']})"
    told = browser.call(
        "Runtime.evaluate", expression=f"{run}.then(({{violations}}) => violations.map(({{id, impact, nodes}}) => "
        "({id, impact, at: nodes.map((node) => node.html.slice(0, 160) + ' ' + (node.any[0]?.message ?? ''))})))",
        awaitPromise=True, returnByValue=True,
    )  # fmt: skip
    assert "exceptionDetails" not in told, told["exceptionDetails"]
    serious = [one for one in told["result"]["value"] if one["impact"] in ("critical", "serious")]
    assert serious == [], json.dumps(serious, indent=1)
