"""Flower behind our login, in a real browser: its pages work under the policy that we give them."""

from playwright.sync_api import Browser, ConsoleMessage

from tests.stack import Stack


def test_flowers_pages_work_and_break_no_policy(stack: Stack, browser: Browser) -> None:
    page = browser.new_context().new_page()
    refused: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            refused.append(message.text)

    page.on("console", listen)
    page.goto(f"{stack.base_url}/accounts/login/?next=/flower/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", stack.admin_password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{stack.base_url}/flower/")
    page.get_by_text("git@", exact=False).first.wait_for()
    for path in ("/flower/broker", "/flower/tasks"):
        page.goto(f"{stack.base_url}{path}")
        page.locator("main").wait_for()
    assert refused == []
    page.context.close()
