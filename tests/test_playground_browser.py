"""The playground as people use it: in Chromium, with the model "demo".

`make test-browser` runs this. With PLAYGROUND_SCREENSHOTS=docs/assets it renews the pictures of the documentation.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

HOW = "make test-browser installs it"
pytest.importorskip("gradio", reason=f"Gradio is not installed; {HOW}")
playwright = pytest.importorskip("playwright.sync_api", reason=f"Playwright is not installed; {HOW}")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed (Debian's package chromium)", allow_module_level=True)

from PIL import Image  # noqa: E402 - comes with Gradio
from playwright.sync_api import Browser, Page, expect  # noqa: E402

WIDE, NARROW = (1440, 1000), (390, 844)
PATIENCE = 180_000  # milliseconds, for machines with other work to do
MOST_BYTES = 150_000
COLOURS = 96
QUESTION = "At which town does the Black Drin flow out of Lake Ohrid?"
HOUSE = "The parrot of the house is called Koko. It is grey and eleven years old."
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a playground that runs as its command runs it."""
    command = [sys.executable, "-m", "spring_integrations.cli", "playground", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout
    said = ""
    for line in server.stdout:
        said += line
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    else:
        pytest.fail(f"the playground did not start: {said}")
    yield found[0]
    server.terminate()
    server.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


class Visitors:
    """Opens pages, each of a visitor of its own, and knows what they asked of other hosts."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser, self._address = browser, address
        self._contexts: list[Any] = []
        self.elsewhere: list[str] = []

    def __call__(self, size: tuple[int, int] = WIDE) -> Page:
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        context.on("request", self._note)
        self._contexts.append(context)
        page = context.new_page()
        page.goto(self._address)
        expect(page.get_by_label("Question", exact=True)).to_be_visible()
        return page

    def pdf(self, text: str) -> bytes:
        """Returns a PDF file of a page, as people print one."""
        page = self._contexts[0].new_page()
        page.set_content(f"<h1>The house</h1><p>{text}</p>")
        printed = page.pdf()
        page.close()
        return printed

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self._address, self._address.replace("http", "ws"), "data:", "blob:")):
            self.elsewhere.append(request.url)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def visitor(browser: Browser, address: str) -> Iterator[Visitors]:
    visitors = Visitors(browser, address)
    yield visitors
    visitors.close()
    assert visitors.elsewhere == [], "the page works offline"


def ask(page: Page, question: str = QUESTION, *, wait: bool = True) -> None:
    page.get_by_label("Question", exact=True).fill(question)
    page.keyboard.press("Enter")
    if wait:
        answered(page)


def answered(page: Page) -> None:
    expect(page.locator("#sr-status")).to_contain_text("answered in")
    expect(page.locator("#sr-ask")).to_be_enabled()


def upload(page: Page, *files: tuple[str, str | bytes]) -> None:
    contents = [
        {"name": name, "mimeType": "", "buffer": text.encode() if isinstance(text, str) else text}
        for name, text in files
    ]
    page.locator("#sr-files input[type=file]").set_input_files(contents)


def screenshot(page: Page, name: str, tmp_path: Path) -> None:
    """Keeps a picture of the page, small enough for the documentation."""
    folder = Path(os.environ.get("PLAYGROUND_SCREENSHOTS", tmp_path))
    image = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    file = folder / f"playground-{name}.png"
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    assert file.stat().st_size < MOST_BYTES


def overflow(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_a_question_gets_both_answers_with_their_origin(visitor: Visitors, tmp_path: Path) -> None:
    page = visitor()
    expect(page.locator("#sr-status")).to_contain_text("Ask a question")
    expect(page.locator("#sr-source")).to_contain_text("48 passages")
    screenshot(page, "empty", tmp_path)
    ask(page, wait=False)
    expect(page.locator(".sr-busy")).to_be_visible()
    expect(page.locator("#sr-ask")).to_be_disabled()
    expect(page.locator(".sr-card").nth(1)).to_contain_text("waits for its turn")
    screenshot(page, "busy", tmp_path)
    answered(page)
    expect(page.locator(".sr-card").first).to_contain_text("no virtual tokens")
    expect(page.locator(".sr-card").nth(1).locator(".sr-answer")).to_contain_text(re.compile(r"\w"))
    expect(page.locator("#sr-passages li")).to_have_count(3)
    expect(page.locator("#sr-passages li").first).to_contain_text(re.compile(r"Lake Ohrid.*score \d\.\d+", re.S))
    words = page.locator("#sr-origin .sr-word")
    assert "".join(re.sub(r"\d$", "", text) for text in words.all_text_contents()).strip()
    prompt = page.locator("#sr-prompt pre").text_content() or ""
    assert re.search(r"\[3\] .*\n\nv1v2v3.*v50.*\nQuestion: At which town .*\?\nAnswer:$", prompt, re.S)
    screenshot(page, "answers", tmp_path)
    page.locator("#sr-prompt").scroll_into_view_if_needed()
    screenshot(page, "prompt", tmp_path)


def test_the_slider_and_the_thumbs_work_from_the_keyboard(visitor: Visitors, tmp_path: Path) -> None:
    page = visitor()
    ask(page)
    slider = page.locator("#sr-k input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".sr-card h3").nth(1)).to_have_text("With 5 virtual tokens")
    expect(page.locator("#sr-by-k tr.sr-chosen")).to_contain_text("k = 5")
    answered(page)
    page.locator("#sr-up").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#sr-kept")).to_contain_text("1 of 1 questions have a right answer")
    expect(page.locator("#sr-history")).to_contain_text("✓")
    page.locator("#sr-correction textarea, #sr-correction input").fill("Struga")
    page.keyboard.press("Tab")
    expect(page.locator("#sr-history")).to_contain_text("✎")
    with page.expect_download() as downloading:
        page.locator("#sr-export").click()
    (example,) = map(json.loads, Path(downloading.value.path()).read_text("utf-8").splitlines())
    assert example["question"] == QUESTION
    assert example["target"] == "Struga"
    assert len(example["ret_passages"]) == 3
    page.locator("#sr-k").scroll_into_view_if_needed()
    screenshot(page, "k", tmp_path)


def test_own_files_are_read_and_a_wrong_one_is_refused(visitor: Visitors, tmp_path: Path) -> None:
    page = visitor()
    upload(page, ("photo.png", b"\x89PNG\r\n\x1a\n\x00"))
    source = page.locator("#sr-source")
    expect(source.get_by_role("alert")).to_contain_text("photo.png: not read")
    screenshot(page, "wrong-file", tmp_path)
    upload(page, ("house.pdf", visitor.pdf(HOUSE)))
    expect(source).to_contain_text("house.pdf")
    expect(source).to_contain_text("1 passage,")
    ask(page, "What is the name of the parrot?")
    expect(page.locator("#sr-passages li")).to_have_count(1)
    expect(page.locator("#sr-passages li")).to_contain_text("house.pdf, page 1")
    screenshot(page, "own-files", tmp_path)
    ask(page, " ", wait=False)
    expect(page.locator("#sr-alert").get_by_role("alert")).to_contain_text("question")
    screenshot(page, "error", tmp_path)


def test_two_visitors_at_once_have_nothing_in_common(visitor: Visitors) -> None:
    one, two = visitor(), visitor()
    upload(one, ("house.md", f"# The house\n\n{HOUSE}\n"))
    expect(one.locator("#sr-source")).to_contain_text("house.md")
    ask(one, "What is the name of the parrot?", wait=False)
    ask(two, wait=False)
    for page in (one, two):
        answered(page)
    expect(one.locator("#sr-passages li")).to_have_count(1)
    expect(two.locator("#sr-passages li")).to_have_count(3)
    expect(two.locator("#sr-source")).to_contain_text("demo")
    expect(one.locator("#sr-history label")).to_have_text([re.compile("parrot")])
    expect(two.locator("#sr-history label")).to_have_text([re.compile("Black Drin")])


def test_it_reads_well_on_a_telephone_and_on_a_wide_screen(visitor: Visitors, tmp_path: Path) -> None:
    wide, narrow = visitor(), visitor(NARROW)
    columns = [wide.locator(name).bounding_box() for name in ("#sr-source", "#sr-ask", "#sr-kept")]
    assert all(columns)
    left = [box["x"] for box in columns if box]
    assert left == sorted(left)
    assert left[0] + 200 < left[1] < left[2] - 200
    assert [overflow(wide), overflow(narrow)] == [0, 0]
    ask(narrow)
    assert overflow(narrow) == 0
    answers = [narrow.locator(".sr-card").nth(i).bounding_box() for i in (0, 1)]
    assert all(box and box["width"] > 300 for box in answers)
    first, second = (box for box in answers if box)
    assert second["y"] >= first["y"] + first["height"], "one below the other"
    narrow.locator("#sr-status").scroll_into_view_if_needed()
    screenshot(narrow, "telephone", tmp_path)
