"""The rater's page in a real headless Chromium, opened from a file as a rater would."""

import hashlib
import json
import time

import pytest
from real_browser import NEEDS_BROWSER

from eval.human_study.export import export
from eval.human_study.page import sealed_texts
from eval.human_study.ratings import import_ratings, read_ratings
from eval.human_study.study import Comparison, digest
from optune.utils.hashing import stable_seed

pytestmark = NEEDS_BROWSER
MARKUP = (
    "<script>document.title = 'owned'</script></textarea><!--<script><img src=x onerror=\"document.title='owned'\">"
)
HOSTILE = (
    MARKUP,
    '=HYPERLINK("http://example.com/","click")',
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd \u2066without an end\n\u0645\u0631\u062d\u0628\u0627",
    "\u2028\u2029\x00\x1b @@STUDY@@ ${alert(1)}",
    "word " * 10_000,
    "x" * 50_000,
)
PAUSE = 0.4  # a little more than the page waits after a rating


@pytest.fixture
def study(tmp_path, request):
    """One rater, six hostile pairs; the folder and the study. Every test its own, as the browser remembers."""
    for name in "ab":
        rows = [
            {"instruction": f"Question {i} </script><b>?</b>", "output": text if name == "a" else f"Plain {i}."}
            for i, text in enumerate(HOSTILE)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    comparison = Comparison("x", tmp_path / "a.json", tmp_path / "b.json")
    return tmp_path / "study", export(
        [comparison], tmp_path / "study", prompts=6, raters=1, ratings_per_pair=1, seed=stable_seed(request.node.name)
    )


def open_page(browser, folder, width=1280, height=800):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get((folder / "pages" / "rater-1.html").as_uri())


def element(browser, name):
    return browser.find_element("id", name)


def choose(browser, number):
    browser.find_elements("css selector", "#choices button")[number - 1].click()
    time.sleep(PAUSE)


def press(browser, key):
    browser.find_element("tag name", "body").send_keys(key)
    time.sleep(PAUSE)


def count(browser):
    return element(browser, "count").text


def shown(browser):
    return tuple(element(browser, name).get_property("textContent") for name in ("question", "answer-1", "answer-2"))


def pressed(browser):
    buttons = browser.find_elements("css selector", "#choices button")
    return [number for number, button in enumerate(buttons, 1) if button.get_attribute("aria-pressed") == "true"]


def download(browser, folder):
    folder.mkdir(exist_ok=True)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    element(browser, "download").click()
    deadline = time.monotonic() + 60  # a machine may be busy
    while not (files := list(folder.glob("ratings-*.json"))):
        assert time.monotonic() < deadline, "no file was downloaded"
        time.sleep(0.1)
    return files[0]


def errors(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_rate_reload_continue_go_back_download_import(browser, study, tmp_path):
    from selenium.webdriver.common.keys import Keys

    folder, made = study
    items = made.items_of("rater-1")
    open_page(browser, folder)
    assert count(browser) == "Question 1 of 6 · 0 rated"
    assert not element(browser, "back").is_enabled() and not element(browser, "next").is_enabled()
    assert not element(browser, "download").is_enabled()

    choose(browser, 1)
    press(browser, "2")
    press(browser, "3")
    assert count(browser) == "Question 4 of 6 · 3 rated"
    browser.refresh()
    assert count(browser) == "Question 4 of 6 · 3 rated", "ratings are kept, and the page goes on where it stopped"
    assert shown(browser) == made.texts(items[3])

    press(browser, Keys.ARROW_LEFT)
    element(browser, "back").click()
    assert count(browser) == "Question 2 of 6 · 3 rated" and pressed(browser) == [2]
    choose(browser, 3)
    assert count(browser) == "Question 3 of 6 · 3 rated" and pressed(browser) == [3]
    press(browser, Keys.ARROW_RIGHT)
    assert count(browser) == "Question 4 of 6 · 3 rated" and pressed(browser) == []
    press(browser, Keys.ARROW_RIGHT)
    assert count(browser) == "Question 4 of 6 · 3 rated", "an unrated question is not skipped"

    part = download(browser, tmp_path / "part")
    for number in (1, 2, 1):
        choose(browser, number)
    assert element(browser, "finished").is_displayed() and count(browser) == "6 of 6 rated"
    full = download(browser, tmp_path / "full")
    assert json.loads(element(browser, "copy").get_property("value")) == json.loads(full.read_text("utf-8"))

    assert import_ratings(folder, [part]).missing == {"rater-1": [4, 5, 6]}
    report = import_ratings(folder, [full])
    assert (report.accepted, report.refused, report.missing) == (3, 0, {}), (
        "ratings that were there already, and agree, are no fault"
    )
    ratings = {rating.item: rating.choice for rating in read_ratings(folder, made)}
    assert [ratings[item.item_id] for item in items] == ["1", "same", "same", "1", "2", "1"]
    assert not errors(browser)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_hostile_answers_are_only_text_and_everything_fits(browser, study, width, height):
    folder, made = study
    open_page(browser, folder, width, height)
    for item in made.items_of("rater-1"):
        assert shown(browser) == made.texts(item)
        assert browser.title == "Which answer is more helpful?"
        page_width, page_height = browser.execute_script(
            "const root = document.documentElement; return [root.scrollWidth, root.scrollHeight]"
        )
        assert page_width <= width and page_height < 4 * height, "long answers scroll inside their own box"
        inner = browser.execute_script(
            "return [...document.querySelectorAll('.text, button, h1, h2')]"
            ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.id || e.textContent)"
        )
        assert [name for name in inner if name] == [], "no text is wider than its box"
        boxes = [button.rect for button in browser.find_elements("css selector", ".bar button")]
        assert all(box["height"] >= 44 for box in boxes), "large enough for a finger"
        if any(len(text) > 40_000 for text in made.texts(item)):
            long = "answer-1" if len(made.texts(item)[1]) > 40_000 else "answer-2"
            assert browser.execute_script(f"const e = $('{long}'); return e.scrollHeight > 5 * e.clientHeight")
        choose(browser, 3)
    assert browser.execute_script("return document.querySelectorAll('main img, main b, main script').length") == 4
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert not errors(browser)


def test_the_first_screen_shows_the_first_pair_of_answers_beside_folded_guidelines(browser, study):
    """On 1280 x 800 the beginning of both answers lies above the bar of buttons, without scrolling."""
    folder, _ = study
    open_page(browser, folder)
    bar = browser.execute_script("return document.querySelector('.bar-ground').getBoundingClientRect().top")
    for name in ("answer-1", "answer-2"):
        top = browser.execute_script(f"return $('{name}').getBoundingClientRect().top")
        assert bar - top > 100, "at least four lines of each answer"
    assert element(browser, "guidelines").is_displayed() and not element(browser, "guidelines").get_property("open")
    browser.find_element("css selector", "#guidelines summary").click()
    assert browser.find_element("css selector", "#guidelines ul").is_displayed()


def test_a_double_click_rates_one_question(browser, study):
    from selenium.webdriver import ActionChains

    open_page(browser, study[0])
    ActionChains(browser).double_click(browser.find_element("css selector", "#choices button")).perform()
    assert count(browser) == "Question 2 of 6 · 1 rated"


def test_shortcuts_can_be_switched_off(browser, study):
    open_page(browser, study[0])
    element(browser, "shortcuts").click()
    press(browser, "1")
    assert count(browser) == "Question 1 of 6 · 0 rated"


def test_an_altered_page_refuses_to_rate_and_its_ratings_are_refused(browser, study, tmp_path):
    folder, made = study
    path = folder / "pages" / "rater-1.html"
    altered = path.read_text("utf-8").replace("as helpful as", "not as helpful as", 1)
    path.write_text(altered, "utf-8")
    open_page(browser, folder)
    assert "was changed or damaged" in element(browser, "warning").text
    press(browser, "1")
    assert count(browser) == "Question 1 of 6 · 0 rated"

    # Someone who also replaces the digest in the page gets to rate, and is noticed on import.
    path.write_text(altered.replace(made.page_digests["rater-1"], digest(*sealed_texts(altered))), "utf-8")
    open_page(browser, folder)
    choose(browser, 1)
    assert count(browser) == "Question 2 of 6 · 1 rated"
    report = import_ratings(folder, [download(browser, tmp_path / "altered")])
    assert report.accepted == 0 and "altered page" in report.refusals[0]


def test_a_text_changed_on_screen_is_not_rated(browser, study):
    """As a translating browser does."""
    open_page(browser, study[0])
    browser.execute_script("document.getElementById('answer-1').textContent += ' (translated)'")
    choose(browser, 1)
    assert count(browser) == "Question 1 of 6 · 0 rated"
    assert "was changed while you read it" in element(browser, "warning").text


def test_another_tab_takes_over_what_was_rated(browser, study):
    folder, _made = study
    open_page(browser, folder)
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    open_page(browser, folder)
    choose(browser, 2)
    browser.close()
    browser.switch_to.window(first)
    assert count(browser) == "Question 1 of 6 · 1 rated" and pressed(browser) == [2]


def test_the_pages_sha256_is_sha256(browser, study):
    open_page(browser, study[0])
    texts = ["a" * n for n in (0, 1, 55, 56, 63, 64, 65, 119, 120, 1000)] + ["é€😀\x00\u2028" * 50, "z" * 200_000]
    hashes = browser.execute_script("return arguments[0].map(sha256)", texts)
    assert hashes == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def test_every_control_and_region_has_a_name(browser, study):
    """As a screen reader is told."""
    open_page(browser, study[0])
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {"button", "checkbox", "progressbar", "region", "heading", "group", "DisclosureTriangle"}
    found = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    controls = [(role, name) for role, name in found if role in named]
    assert {role for role, _ in controls} >= {"button", "checkbox", "progressbar", "region", "heading"}
    assert all(name or role == "group" for role, name in controls), controls
    assert {name for role, name in controls if role == "region"} >= {"Question", "Answer 1", "Answer 2"}


def test_colours_have_enough_contrast(browser, study):
    """WCAG 2 AA: at least 4.5 to 1 for every piece of text in use."""
    folder, _made = study
    open_page(browser, folder)
    choose(browser, 1)
    element(browser, "back").click()
    colours = browser.execute_script(
        """
        const ground = (e) => { for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor; if (!c.startsWith("rgba(0, 0, 0, 0")) return c; }
          return "rgb(255, 255, 255)"; };
        const texts = [...document.querySelectorAll("h1, h2, p, li, span, summary, label, .text, button:enabled")];
        return texts.filter(e => e.offsetParent)
          .map(e => [e.textContent.slice(0, 30), getComputedStyle(e).color, ground(e)]);
        """
    )

    def luminance(colour):
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(colours) > 10
    for text, ink, ground in colours:
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ink, ground)
