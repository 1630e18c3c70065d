"""The report in a real Chromium: links, errors, widths, accessibility, sorting, the explorer."""

import csv
import json
import re
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from urllib.parse import unquote, urlsplit

import pytest
from chromium import resize

pytestmark = pytest.mark.browser

WIDTHS = (380, 1400)
#: Level A and AA of WCAG 2.0, 2.1 and 2.2, and what axe-core calls best practices.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


# ---- links, from the files


class Page(HTMLParser):
    """Links, sources and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.leaving = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            assert found["id"] not in self.anchors, f"two elements have the id {found['id']}"
            self.anchors.add(found["id"])
        for key in ("href", "src"):
            if key in found and not found[key].startswith("data:"):
                (self.leaving if "data-out" in found else self.links).append(found[key])


@cache
def page_of(path):
    return Page(path)


def pages(report):
    return sorted(report.rglob("*.html"))


def test_no_link_or_anchor_of_the_report_is_broken(report):
    for path in pages(report):
        for link in page_of(path).links:
            parts = urlsplit(link)
            assert not parts.scheme + parts.netloc, f"{path}: {link} needs a network"
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert place.is_relative_to(report.resolve()), f"{path}: {link} leaves the report"
            assert place.is_file(), f"{path}: {link} leads nowhere"
            if parts.fragment:
                assert unquote(parts.fragment) in page_of(place).anchors, f"{path}: {link}"


def test_links_that_leave_the_report_are_marked_and_lead_to_its_results(report):
    if not (report.parent / "scores").exists():
        pytest.skip("the report does not lie in its results")
    count = 0
    for path in pages(report):
        for link in page_of(path).leaving:
            place = path.parent / unquote(link)
            assert place.is_file(), f"{path}: {link}"
            count += 1
    assert count


def test_a_copy_of_the_report_alone_is_whole(report, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(report, copy)
    test_no_link_or_anchor_of_the_report_is_broken(copy)


def test_every_page_is_reached_from_the_first(report):
    found, waiting = set(), [(report / "index.html").resolve()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for link in page_of(path).links:
            place = (path.parent / unquote(urlsplit(link).path)).resolve()
            if place.suffix == ".html":
                waiting.append(place)
    assert found == {path.resolve() for path in pages(report)}


# ---- every page, in the browser


def opened(driver, path):
    driver.get(path.resolve().as_uri())


def errors(driver):
    return [entry for entry in driver.get_log("browser") if entry["level"] != "INFO"]


def overflow(driver):
    return driver.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def test_every_page_opens_without_errors_and_fits(driver, report):
    for path in pages(report):
        for width in WIDTHS:
            resize(driver, width)
            opened(driver, path)
            assert driver.title
            assert errors(driver) == [], path
            assert overflow(driver) <= 0, f"{path} is wider than {width} pixels"


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_has_a_violation_of_accessibility(driver, report, axe, width):
    resize(driver, width)
    found = {}
    for path in pages(report):
        opened(driver, path)
        driver.execute_script(axe)
        result = driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {runOnly: {type: 'tag', values: arguments[0]},"
            " resultTypes: ['violations']}).then("
            "(r) => done(r.violations.map((v) => [v.id, v.impact, v.nodes[0].html])),"
            "(e) => done([['failed', String(e)]]))",
            TAGS,
        )
        if result:
            found[path.relative_to(report).as_posix()] = result
    assert not found, json.dumps(found, indent=1)


def test_menu_leads_to_every_section_by_clicks(driver, report):
    opened(driver, report / "index.html")
    names = driver.execute_script(
        "return [...document.querySelectorAll('.top nav a')].map((a) => a.textContent)"
    )
    assert len(names) >= 6
    for name in names:
        click(driver, f"//header//nav//a[text()='{name}']")
        heading = driver.find_element("css selector", "main h1").text
        assert heading == name or name == "Overview"
        current = driver.find_element("css selector", ".top a[aria-current=page]").text
        assert current == name
    assert errors(driver) == []


def click(driver, xpath):
    driver.find_element("xpath", xpath).click()


# ---- keyboard


def press(driver, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def focused(driver):
    return driver.switch_to.active_element


def test_first_key_skips_to_the_content(driver, report):
    opened(driver, report / "index.html")
    press(driver, "\ue004")  # Tab
    assert focused(driver).get_attribute("class") == "skip"
    press(driver, "\ue007")  # Enter
    assert focused(driver).tag_name == "main"


def test_a_wide_table_is_scrolled_by_keys(driver, report):
    resize(driver, 380)
    opened(driver, report / "index.html")
    region = driver.find_element("css selector", "[data-choice]:not([hidden]) .scroll")
    assert region.get_attribute("role") == "region"
    driver.execute_script("arguments[0].focus({preventScroll: false})", region)
    press(driver, *["\ue014"] * 3)  # arrow to the right
    wait(driver, lambda: region.get_property("scrollLeft") > 0)


def wait(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 5).until(lambda _: condition())


# ---- sorting


def column(driver, table, place):
    return driver.execute_script(
        "return [...arguments[0].tBodies[0].rows].map((row) =>"
        " [row.cells[0].textContent.trim(), row.cells[arguments[1]].dataset.v ?? null])",
        table,
        place,
    )


def a_target(report):
    """A target of which there are scores."""
    names = sorted(path.stem for path in (report / "targets").glob("*.html"))
    return names[0]


def test_a_table_is_sorted_by_mouse_and_by_keys(driver, report):
    opened(driver, report / f"targets/{a_target(report)}.html")
    table = driver.find_element("css selector", "#languages ~ .table table[data-sortable]")
    head = table.find_elements("css selector", "thead th")[2]
    button = head.find_element("css selector", "button")
    first = column(driver, table, 2)
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(value) for _, value in column(driver, table, 2) if value]
    assert values == sorted(values, reverse=True)
    assert sorted(column(driver, table, 2), key=str) == sorted(first, key=str)
    assert focused(driver) == button
    press(driver, "\ue007")
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(value) for _, value in column(driver, table, 2) if value]
    assert values == sorted(values)
    press(driver, " ")
    assert head.get_attribute("aria-sort") is None
    assert column(driver, table, 2) == first


def test_names_are_sorted_as_names(driver, report):
    opened(driver, report / "languages.html")
    table = driver.find_element("css selector", "table[data-sortable]")
    head = table.find_elements("css selector", "thead th")[0]
    head.find_element("css selector", "button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    names = [name for name, _ in column(driver, table, 0)]
    assert names == sorted(names)


# ---- the switch of the overview


def test_overview_shows_one_kind_of_languages_at_a_time(driver, report):
    opened(driver, report / "index.html")

    def shown():
        boxes = driver.find_elements("css selector", "[data-choice]")
        return {box.get_attribute("data-choice") for box in boxes if box.is_displayed()}

    assert shown() == {"All languages"}
    radio = driver.find_element("css selector", ".toggle input:checked")
    driver.execute_script("arguments[0].focus()", radio)
    press(driver, "\ue014")
    assert shown() == {"Zero-shot"}


def test_pages_can_be_read_without_a_script(driver, report):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(driver, report / "index.html")
        boxes = driver.find_elements("css selector", "[data-choice]")
        assert boxes
        assert all(box.is_displayed() for box in boxes)
        opened(driver, report / "explorer.html")
        assert "needs JavaScript" in driver.find_element("tag name", "main").text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_print_shows_all_tables_and_no_menu(driver, report):
    opened(driver, report / "index.html")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        boxes = driver.find_elements("css selector", "[data-choice]")
        assert all(box.is_displayed() for box in boxes)
        assert not driver.find_element("css selector", ".top nav").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


# ---- the explorer


def explorer(driver, report, state=""):
    driver.get("about:blank")
    driver.get((report / "explorer.html").resolve().as_uri() + (f"#{state}" if state else ""))


def shown_table(driver):
    """Texts of the explorer's table, by row and column; and where their numbers lead."""
    return driver.execute_script(
        "const table = document.getElementById('e-table');"
        "const heads = [...table.tHead.rows[0].cells].map((c) => c.textContent.trim());"
        "return [...table.tBodies[0].rows].map((row) => [row.cells[0].textContent.trim(),"
        " [...row.cells].slice(1).map((c, i) => [heads[i + 1], c.textContent.trim(),"
        " c.dataset.v === undefined ? null : Number(c.dataset.v),"
        " c.querySelector('a')?.getAttribute('href') ?? ''])])"
    )


def overview(report):
    with (report / "files/tables/overview.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def data_of(report):
    text = (report / "static/scores.js").read_text(encoding="utf-8")
    return json.loads(re.fullmatch(r"window\.XSTILTS = (.*);\n", text, re.DOTALL).group(1))


@pytest.mark.parametrize(("show", "key"), [("value", "mean"), ("gain", "change")])
@pytest.mark.parametrize("kind", ["all", "zero-shot"])
def test_explorer_agrees_with_the_overview(driver, report, show, key, kind):
    data = data_of(report)
    codes = [row["code"] for row in data["languages"]]
    chosen = " ".join(code for code in codes if kind == "all" or code != data["source"])
    explorer(driver, report, f"show={show}&languages={chosen.replace(' ', '+')}")
    titles = {row["name"]: row["title"] for row in data["targets"]}
    known = {
        (row["recipe"], titles[row["target"]]): float(row[key])
        for row in overview(report)
        if row["model"] == data["models"][0]["name"]
        and row["languages"] == kind
        and row["target"] in titles
        and row[key]
    }
    found = {
        (recipe, title): value
        for recipe, cells in shown_table(driver)
        for title, _, value, _ in cells
        if value is not None
    }
    assert found.keys() == known.keys()
    assert known
    for place, value in known.items():
        assert found[place] == pytest.approx(value, abs=0.002), place


def test_explorer_averages_over_languages_then_targets(driver, report):
    explorer(driver, report, "rows=recipes&columns=languages")
    data = data_of(report)
    values, by_code = data["values"][data["models"][0]["name"]], {}
    for target in data["targets"]:
        for recipe, line in values[target["name"]][target["overall"]].items():
            for code, value in zip(target["languages"], line, strict=True):
                if value is not None:
                    by_code.setdefault((recipe, code), []).append(value)
    names = {row["code"]: row["name"] for row in data["languages"]}
    expected = {(recipe, names[code]): fmean(found) for (recipe, code), found in by_code.items()}
    found = {
        (recipe, name): value
        for recipe, cells in shown_table(driver)
        for name, _, value, _ in cells
        if value is not None
    }
    assert found == pytest.approx(expected)


def test_explorer_by_keys_and_its_address_keeps_the_state(driver, report):
    explorer(driver, report)
    before = shown_table(driver)
    # By keys only: the rows become languages, then gains are shown.
    rows = driver.find_element("id", "e-rows")
    driver.execute_script("arguments[0].focus()", rows)
    press(driver, "L")
    radio = driver.find_element("css selector", "input[name=show]:checked")
    driver.execute_script("arguments[0].focus()", radio)
    press(driver, "\ue014")
    summary = driver.find_element("id", "s-targets")
    driver.execute_script("arguments[0].focus()", summary)
    press(driver, "\ue007")
    box = driver.find_element("css selector", "#e-targets input[type=checkbox]")
    assert box.is_displayed()
    driver.execute_script("arguments[0].focus()", box)
    press(driver, " ")
    assert not box.is_selected()
    # Sorted by the second column.
    head = driver.find_elements("css selector", "#e-table thead th")[1]
    driver.execute_script("arguments[0].focus()", head.find_element("css selector", "button"))
    press(driver, "\ue007")
    assert head.get_attribute("aria-sort") == "descending"
    after, address = shown_table(driver), driver.current_url
    assert after != before
    for part in ("rows=languages", "show=gain", "targets=", "sort=", "order=descending"):
        assert part in address
    driver.get("about:blank")
    driver.get(address)
    assert shown_table(driver) == after
    driver.find_element("id", "e-reset").click()
    assert shown_table(driver) == before
    assert driver.current_url.endswith("#")
    assert errors(driver) == []


def test_numbers_of_the_explorer_lead_to_their_lineage(driver, report):
    explorer(driver, report)
    links = {href for _, cells in shown_table(driver) for *_, href in cells if href}
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert anchor in page_of(report / path).anchors


def test_explorer_colours_and_marks_gains_in_text_as_well(driver, report):
    explorer(driver, report, "show=gain")
    found = driver.execute_script(
        "return [...document.querySelectorAll('#e-table td[data-v]')].map((cell) =>"
        " [Number(cell.dataset.v), cell.className, cell.textContent])"
    )
    assert found
    for value, look, text in found:
        step = int(re.search(r"\bh(-?\d)\b", look).group(1))
        assert step == 0 or (step > 0) == (value > 0)
        if abs(value) >= 0.05:
            assert text[0] == ("+" if value > 0 else "\N{MINUS SIGN}")


def test_an_explorer_of_nothing_says_so(driver, report):
    explorer(driver, report, "recipes=")
    assert driver.find_element("id", "e-status").text == "Nothing is chosen."
    assert errors(driver) == []


def test_a_wrong_address_of_the_explorer_shows_the_usual(driver, report):
    explorer(driver, report)
    usual = shown_table(driver)
    explorer(driver, report, "model=nobody&rows=x&metric=no&sort=zz&order=up")
    assert shown_table(driver) == usual
    assert errors(driver) == []


# ---- lineage


def test_a_number_leads_by_clicks_to_its_source_files(driver, report):
    opened(driver, report / "index.html")
    driver.find_element("css selector", "td.num a").click()
    assert "/lineage/cells/" in driver.current_url
    anchor = unquote(urlsplit(driver.current_url).fragment)
    assert driver.execute_script(
        "const box = document.getElementById(arguments[0]).getBoundingClientRect();"
        "return box.top >= 0 && box.top < innerHeight",
        anchor,
    )
    seen = [Path(urlsplit(driver.current_url).path).name]
    # What a model is tested on: a decoder's questions are its tokens.
    tested = ["data/tokens/", "data/questions/"]
    for begins in (["data/testsets/"], tested, ["data/prepared/"], ["data/raw/"]):
        link = driver.execute_script(
            "const from = document.getElementById(arguments[0]);"
            "const box = from.closest('.artifact') ?? from.closest('section');"
            "return [...box.querySelectorAll('a')].find((a) =>"
            " arguments[1].some((begin) => a.textContent.startsWith(begin)))",
            anchor,
            begins,
        )
        assert link, f"nothing leads from {anchor} to {begins}"
        driver.execute_script("arguments[0].closest('details')?.setAttribute('open', '')", link)
        link.click()
        anchor = unquote(urlsplit(driver.current_url).fragment)
        seen.append(anchor)
    assert anchor.startswith("data/raw/")
    assert re.search(
        r"\b[0-9a-f]{64}\b",
        driver.execute_script("return document.getElementById(arguments[0]).textContent", anchor),
    )
