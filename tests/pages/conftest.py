"""A real browser for the pages, opened as users open them: from file://, or from their server."""

import functools
import shutil
import time

import pytest

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TIMEOUT = 90_000  # ms, generous for slow machines
SLOW = 120_000  # ms, for what is computed on a busy machine
LOCAL = ("file:", "data:", "blob:")


@pytest.fixture(scope="package")  # not session: while Playwright runs, no other test may start an event loop
def browser():
    """Chromium. Tests are skipped where it or Playwright is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as driver:
        sync_api.expect.set_options(timeout=TIMEOUT)
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def wait_until(page, expression, arg=None):
    """Like Playwright's wait_for_function, which the pages' Content-Security-Policy forbids: no eval."""
    end = time.monotonic() + SLOW / 1000
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(100)


@pytest.fixture
def open_page(browser):
    """Return a function (path or URL, **options of new_page) -> page, light, on a desktop screen.

    The test fails at its end if a page logged an error, raised one, failed to load something or asked for
    anything that is not local or from its own server.
    """
    pages, problems = [], []

    def open_page(path, **options):
        options = {"viewport": {"width": 1400, "height": 900}, "color_scheme": "light"} | options
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(TIMEOUT)
        page.wait_for_function = functools.partial(wait_until, page)
        url = path if isinstance(path, str) else path.as_uri()
        _record_problems(page, problems, (*LOCAL, url))
        page.goto(url)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not problems


def _record_problems(page, problems, local):
    def on_console(message):
        if message.type == "error":
            problems.append(f"console: {message.text}")

    def on_failure(request):
        # Browsers also abort requests of media once they have buffered enough.
        if request.failure != "net::ERR_ABORTED":
            problems.append(f"{request.failure}: {request.url}")

    def on_request(request):
        if not request.url.startswith(local):
            problems.append(f"not local: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"uncaught: {error}"))
    page.on("requestfailed", on_failure)
    page.on("request", on_request)
