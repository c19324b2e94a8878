"""A recipe by form, from an earlier job to the recipe that runs, waits and goes."""

import httpx
from playwright.sync_api import expect

from tests.browser.chromium import Tab
from tests.browser.pages import check_layout


def test_a_recipe_of_stored_chats_is_made_paused_and_deleted(http: httpx.Client, ids: dict[str, str], tab: Tab):
    page = tab.page
    tab.go(f"/recipes?job={ids['finished']}")
    page.get_by_label("Name", exact=True).fill("from sales")
    page.get_by_role("radio", name="Stored chats").check()
    page.get_by_role("checkbox", name="thumbs up", exact=True).check()
    page.get_by_label("With metadata", exact=True).fill("team=sales")
    page.get_by_label("Agreement below", exact=True).fill("0.5")
    page.get_by_label("Dataset to append to", exact=True).select_option(ids["dataset"])
    page.get_by_label("New chats", exact=True).fill("50")
    page.get_by_role("checkbox", name="Try each version as a canary first").check()
    page.get_by_label("Unit", exact=True).select_option("answer")
    page.get_by_label("Metadata key of the user", exact=True).fill("customer")
    check_layout(tab)
    page.get_by_role("button", name="Create the recipe").click()

    card = page.get_by_role("article", name="Recipe from sales")
    expect(card).to_contain_text("rated down or corrected or rated up, with team=sales")
    [made] = [one for one in http.get("/v1/recipes").json()["data"] if one["name"] == "from sales"]
    wanted = {"feedback": ["down", "corrected", "up"], "metadata": {"team": "sales"}, "agreement_below": 0.5}
    assert (wanted | {"dataset": ids["dataset"], "mask": True}).items() <= made["source"].items()
    assert made["trigger"]["rows"] == 50
    assert {"per": "answer", "user_key": "customer"}.items() <= made["job"]["distillation"]["canary"]["goal"].items()

    card.get_by_role("button", name="Pause").click()
    expect(card.get_by_role("button", name="Resume")).to_be_visible()
    card.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the recipe").click()
    expect(card).to_have_count(0)
    assert http.get(f"/v1/recipes/{made['id']}").status_code == 404
