"""The reading room in a real browser, on a real server; and what its files must be without one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from dicom_studies import write_study_image
from reading_room import (
    CONTRASTS,
    FOCUSED,
    REACHABLE,
    SIGN_IN,
    TOKEN,
    UNNAMED,
    WAIT_MS,
    WATCH,
    Complaints,
    chromium,
    foot,
    pdf_text,
    radiograph,
)
from service_fakes import JOBS, Served

import boneage.service

WEB = Path(boneage.service.__file__).parent / "web"
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Waits until the film is drawn anew."""
AA = 4.5
"""Least contrast of a text with what it stands on, by WCAG 2 AA."""

Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def room(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that asks for a token; it is not started where there is no browser."""
    data = tmp_path_factory.mktemp("room") / "data"
    data.mkdir()
    (data / "token").write_text(TOKEN)
    with Served(data, fake=False, settings={"threads": 1, "runtime": "onnxruntime"}) as server:
        yield server


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return radiograph(tmp_path_factory.mktemp("hand"))


@pytest.fixture(scope="module")
def read_once(room: Served, hand: Path) -> dict[str, Any]:
    """A radiograph that has been read: a boy of 10 years and 2 months."""
    return send(room, hand, sex="male", age_months=122, height_cm=140, label="Room 4")


@pytest.fixture
def job(room: Served, read_once: dict[str, Any]) -> dict[str, Any]:
    """That radiograph, without what an earlier test changed."""
    path = f"{JOBS}/{read_once['id']}/reading"
    assert room.client.put(path, json={"grades": {}}).status_code == 200
    return read_once


@pytest.fixture
def visit(browser: Any, room: Served) -> Iterator[Visit]:
    """Open pages as somebody who has the token; no page may complain of what was not expected."""
    opened: list[tuple[Any, Complaints]] = []

    def open_page(
        path: str = "/", *, signed_in: bool = True, expected: tuple[str, ...] = (), **how: Any
    ) -> Any:
        size = {"width": how.pop("width", 1280), "height": 900}
        context = browser.new_context(viewport=size, locale=how.pop("locale", "en-GB"), **how)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(WATCH)
        if signed_in:
            context.add_init_script(SIGN_IN)
        page, complaints = context.new_page(), Complaints(expected=list(expected))
        page.on("console", lambda said: said.type == "error" and complaints.said.append(said.text))
        page.on("pageerror", lambda error: complaints.said.append(str(error)))
        opened.append((context, complaints))
        page.goto(room.base + path)
        return page

    yield open_page
    for context, _ in opened:
        context.close()
    assert [complaints.left for _, complaints in opened] == [[] for _ in opened]


def send(room: Served, path: Path, **said: Any) -> dict[str, Any]:
    """Send an image past the page, and return its job when it has ended."""
    answer = room.client.post(JOBS, params={"wait": 60}, files={"file": path.read_bytes()}, data=said)
    assert answer.status_code == 200, answer.text
    ended: dict[str, Any] = answer.json()
    return ended


def opened(visit: Visit, job: dict[str, Any], **how: Any) -> Any:
    """Open a result, and wait until its film and plate are there."""
    page = visit(f"/#job={job['id']}", **how)
    drawn(page)
    return page


def drawn(page: Any) -> None:
    page.locator(".answer .age").wait_for()
    page.locator(".region .edge").nth(8).wait_for()


def says(page: Any, selector: str, *words: str) -> None:
    """Wait until something says the words."""
    for text in words:
        page.locator(selector).filter(has_text=text).first.wait_for()


def years_and_months(months: float) -> str:
    years, rest = divmod(round(months), 12)
    return f"{years} y {rest} m"


def foot_of(page: Any, key: str) -> tuple[str, str]:
    """Return a line of the score sheet's foot: by the network's grades, by the reader's."""
    own, mine = page.locator(f"tr[data-foot={key}] td").all_inner_texts()
    return own, mine


def on_plot(page: Any, kind: str) -> float:
    """Return the age in months at which a marker of the growth plot stands."""
    return float(page.locator(f".growth .marker[data-kind={kind}]").get_attribute("data-months"))


def raise_radius(page: Any) -> str:
    """Give the radius the next higher grade by keyboard, wait until it is saved, and return the choice."""
    page.get_by_label("RUS-CHN grade of the radius").focus()
    page.keyboard.press("ArrowDown")
    says(page, ".reading-head [role=status]", "All changes saved")
    chosen: str = page.locator("[data-grade-of=radius] option:checked").inner_text()
    return chosen


@pytest.mark.browser
def test_a_radiograph_is_chosen_described_and_read(visit: Visit, hand: Path, room: Served) -> None:
    page = visit("/")
    page.get_by_role("button", name="Read the bone age").click()
    says(page, "#upload-problem", "Choose a radiograph first")
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose files").click()
    chooser.value.set_files(hand)
    page.get_by_role("button", name="Read the bone age").click()
    says(page, "#upload-problem", f"{hand.name} is no DICOM file", "choose girl or boy")
    page.get_by_role("radio", name="boy").check()
    page.get_by_label("in years and months").check()
    page.get_by_label("Years", exact=True).fill("10")
    page.get_by_label("Months", exact=True).fill("2")
    page.get_by_label("Label in the worklist").fill("Bay 3")
    page.get_by_role("button", name="Read the bone age").click()
    drawn(page)
    found = room.client.get(f"{JOBS}/{page.url.rpartition('=')[2]}").json()
    result = found["result"]
    assert (found["label"], result["sex"], result["chronological_age_months"]) == ("Bay 3", "male", 122)
    assert page.locator(".answer .age").inner_text() == years_and_months(result["bone_age_months"])
    low, high = map(years_and_months, result["interval_months"])
    says(page, ".answer dd", f"{low} to {high}", "10 y 2 m")
    assert page.locator("h1").filter(visible=True).inner_text() == "Bay 3"
    assert page.locator(".grades tbody tr").count() == 13
    assert on_plot(page, "model") == pytest.approx(result["bone_age_months"])
    assert page.get_by_role("button", name="DICOM SR").count() == 0
    says(page, ".answer", "Research use only")


@pytest.mark.browser
def test_a_dicom_file_is_dropped_and_says_who_it_is_of(visit: Visit, hand: Path, tmp_path: Path) -> None:
    pixels = cv2.imread(str(hand), cv2.IMREAD_GRAYSCALE)
    path = write_study_image(tmp_path / "study.dcm", pixels)
    page = visit("/")
    content = base64.b64encode(path.read_bytes()).decode()
    carried = page.evaluate_handle(
        """(content) => {
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], "study.dcm"));
          return carried;
        }""",
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": carried})
    says(page, "#chosen", "study.dcm")
    page.get_by_role("button", name="Read the bone age").click()
    drawn(page)
    says(page, ".answer dd", "girl", "10 y 0 m")
    with page.expect_download() as report:
        page.get_by_role("button", name="DICOM SR").click()
    assert Path(report.value.path()).read_bytes()[128:132] == b"DICM"


@pytest.mark.browser
def test_a_changed_grade_moves_everything_and_stays(visit: Visit, job: dict[str, Any], room: Served) -> None:
    page = opened(visit, job)
    row = page.locator("tr[data-bone=radius]")
    own, on = row.locator(".own").inner_text(), on_plot(page, "sheet")
    total, age = foot_of(page, "total"), foot_of(page, "bone_age")
    assert total[0] == total[1] and age[0] == age[1]
    chosen = raise_radius(page)
    assert row.locator(".own").inner_text() == own
    says(page, "tr[data-bone=radius] .tag", "changed")
    assert foot_of(page, "total")[0] == total[0] and float(foot_of(page, "total")[1]) > float(total[0])
    assert on_plot(page, "sheet") > on and on_plot(page, "model") == pytest.approx(
        job["result"]["bone_age_months"], abs=0.01
    )
    assert foot_of(page, "bone_age")[1] == years_and_months(on_plot(page, "sheet"))
    says(page, ".legend", "your grades")
    says(page, ".region.changed text", "R ")
    page.reload()
    drawn(page)
    assert page.locator("[data-grade-of=radius] option:checked").inner_text() == chosen
    says(page, "tr[data-bone=radius] .tag", "changed")
    for form, words in (
        ("html", "reader changed grades"),
        ("json", '"changed"'),
        ("pdf", "reader changed grades"),
    ):
        with page.expect_download() as report:
            page.locator(f"[data-form={form}]").click()
        content = Path(report.value.path()).read_bytes()
        text = pdf_text(content) if form == "pdf" else content.decode()
        assert words in text and report.value.suggested_filename == f"boneage-{job['id'][:8]}.{form}"
        if form == "json":
            assert json.loads(text)["reading"][0]["changed"] == {"radius": float(chosen.split()[0])}
    page.get_by_role("button", name="Take back the change of the radius").click()
    says(page, ".reading-head [role=status]", "All changes saved")
    assert not page.locator("tr[data-bone=radius] .tag").is_visible() and foot_of(page, "total") == total
    assert room.client.get(f"{JOBS}/{job['id']}").json()["result"]["reading"] == []


@pytest.mark.browser
def test_standards_are_turned_by_keyboard_and_all_changes_taken_back(
    visit: Visit, job: dict[str, Any]
) -> None:
    page = opened(visit, job)
    page.get_by_role("tab", name="RUS-CHN").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "TW3"
    assert re.match("^[A-I]", page.locator("tr[data-bone=mc3] .own").inner_text())
    for bone in ("ulna", "mp3"):
        page.locator(f"[data-grade-of={bone}]").select_option("H")
    says(page, ".reading-head [role=status]", "All changes saved")
    assert page.locator(".grades .tag:visible").count() == 2
    page.get_by_role("button", name="Take back all changes of TW3").click()
    assert page.locator(".grades .tag:visible").count() == 0
    says(page, ".reading-head [role=status]", "All changes saved")
    page.get_by_role("tab", name="CHN", exact=True).click()
    assert (
        page.locator(".grades tbody tr").count() == 14 and page.locator("tr[data-bone=hamate]").count() == 1
    )


@pytest.mark.browser
def test_film_and_sheet_follow_each_other(visit: Visit, job: dict[str, Any]) -> None:
    page = opened(visit, job)
    page.locator(".region[data-bones~=mp3] .under").click()
    assert page.evaluate("document.activeElement.dataset.gradeOf") == "mp3"
    page.locator("[data-grade-of=ulna]").focus()
    says(page, ".region.selected text", "U ")
    page.locator(".film").focus()
    page.keyboard.press("]")
    says(page, ".region.selected text", "MC1")
    assert "selected" in page.locator("tr[data-bone=mc1]").get_attribute("class")


@pytest.mark.browser
def test_the_viewer_obeys_keys_mouse_and_tools(visit: Visit, job: dict[str, Any]) -> None:
    page = opened(visit, job, device_scale_factor=2)
    film, edge = page.locator(".film"), page.locator(".region[data-bones~=radius] .edge")
    middle = "(c) => [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data]"

    def look() -> tuple[float, float, list[int]]:
        page.evaluate(FRAMES)
        return (
            float(edge.get_attribute("width")),
            float(edge.get_attribute("x")),
            page.locator("canvas").evaluate(middle),
        )

    assert page.locator("canvas").evaluate("(c) => c.width / c.clientWidth") == pytest.approx(2, abs=0.02)
    first = look()
    film.focus()
    page.keyboard.press("+")
    larger = look()
    assert larger[0] == pytest.approx(1.25 * first[0], rel=0.01)
    page.keyboard.press("ArrowRight")
    assert look()[1] == pytest.approx(larger[1] - 40, abs=0.2)
    page.keyboard.press("0")
    page.keyboard.press("i")
    inverted = look()
    assert inverted[:2] == first[:2] and inverted[2][0] == pytest.approx(255 - first[2][0], abs=1)
    page.keyboard.press("i")
    box = film.bounding_box()
    at = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*at)
    page.mouse.wheel(0, -100)
    assert look()[0] > first[0]
    page.get_by_role("button", name="Fit").click()
    page.mouse.move(*at)
    page.mouse.down(button="right")
    page.mouse.move(at[0] - 120, at[1], steps=3)
    page.mouse.up(button="right")
    windowed = look()
    assert windowed[:2] == first[:2]
    assert float(page.get_by_label("Width").input_value()) < 65536 * 0.9
    page.get_by_label("Level").fill("1024")
    assert look()[2][0] > windowed[2][0]
    page.get_by_role("button", name="Reset window").click()
    assert look()[2] == first[2]
    for name, selector in (("Bones", ".region"), ("Hand box", ".hand-box"), ("Key points", ".key-point")):
        before = page.locator(selector).first.is_visible()
        page.get_by_role("checkbox", name=name).click()
        assert page.locator(selector).first.is_visible() is not before


@pytest.mark.browser
def test_the_atlas_stands_beside_the_film(visit: Visit, job: dict[str, Any], room: Served) -> None:
    ages = [p["age_months"] for p in room.client.get("/api/v1/atlas").json()["plates"] if p["sex"] == "male"]
    nearest = min(ages, key=lambda age: abs(age - job["result"]["bone_age_months"]))
    following = min(age for age in ages if age > nearest)
    page = opened(visit, job)
    says(page, ".plate figcaption", f"boys, {years_and_months(nearest)}", "Mean of ")
    page.wait_for_selector(".plate img[src^=blob]")
    assert (
        page.locator(".plate img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 100
    )
    page.locator(".plate").focus()
    page.keyboard.press("ArrowRight")
    says(page, ".plate figcaption", f"boys, {years_and_months(following)}")
    page.get_by_role("button", name="Nearest").click()
    says(page, ".plate figcaption", f"boys, {years_and_months(nearest)}")


@pytest.mark.browser
def test_refused_images_say_why(visit: Visit, tmp_path: Path) -> None:
    page = visit("/", expected=("415",))
    (tmp_path / "notes.txt").write_text("no image at all")
    page.set_input_files("#files", [foot(tmp_path), tmp_path / "notes.txt"])
    page.get_by_role("radio", name="girl").check()
    page.get_by_role("button", name="Read the bone age").click()
    says(page, "#uploads li.bad", "refused: No hand found", "not sent: The file is no image")
    says(page, "#worklist .bad-text", "No hand found")
    page.locator("#worklist tbody a").first.click()
    says(page, "#reading .bad", "No hand found")
    page.go_back()
    page.locator("#worklist").wait_for()


@pytest.mark.browser
def test_a_token_is_asked_for_until_it_is_right(visit: Visit) -> None:
    page = visit("/", signed_in=False, expected=("401",))
    page.get_by_role("textbox", name="Token").fill("not the token at all")
    page.keyboard.press("Enter")
    says(page, "#token-problem", "refused this token")
    page.keyboard.press("Escape")
    page.get_by_role("textbox", name="Token").fill(TOKEN)
    page.get_by_role("button", name="Use this token").click()
    says(page, "#worklist-title", "Worklist")
    assert page.evaluate("[sessionStorage.length, JSON.stringify(localStorage).includes('token')]") == [
        1,
        False,
    ]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("locale", "action", "refused"),
    [("en-GB", "Use this token", "only the letters A to Z"), ("zh-CN", "使用此令牌", "请切换到英文输入法")],
)
def test_a_token_that_no_header_carries_is_refused_before_it_is_kept(
    locale: str, action: str, refused: str, visit: Visit
) -> None:
    page = visit("/", signed_in=False, expected=("401",), locale=locale)
    typed = page.locator("#token-form input")
    typed.fill("日本")
    page.get_by_role("button", name=action).click()
    says(page, "#token-problem", refused)
    assert page.evaluate("sessionStorage.length") == 0
    typed.fill(f" {TOKEN} ")
    page.get_by_role("button", name=action).click()
    page.locator("#worklist p, #worklist table").first.wait_for()
    assert page.locator("#problem").is_hidden()


@pytest.mark.browser
def test_a_kept_token_that_no_header_carries_is_asked_for_anew(visit: Visit) -> None:
    page = visit("/", expected=("401",))
    page.locator("#worklist p, #worklist table").first.wait_for()
    page.evaluate("sessionStorage.setItem('boneage.token', '日本')")
    page.reload()
    page.get_by_role("textbox", name="Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#worklist p, #worklist table").first.wait_for()
    assert page.locator("#problem").is_hidden()


@pytest.mark.browser
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_the_sheet_says_every_remark_once(locale: str, visit: Visit, job: dict[str, Any]) -> None:
    page = opened(visit, job, locale=locale)
    page.get_by_role("tab", name="CHN", exact=True).click()
    (remark,) = job["result"]["scores"]["chn"]["remarks"]
    says(page, ".sheet .soft p", remark[1:])
    told = " ".join(page.locator(".sheet .soft p").all_inner_texts())
    assert told.count(remark[1:]) == 1


@pytest.mark.browser
def test_a_name_at_the_films_edge_stands_on_the_side_that_has_room(visit: Visit, job: dict[str, Any]) -> None:
    page = opened(visit, job)
    page.get_by_label("RUS-CHN grade of the distal phalanx 1").focus()
    page.keyboard.press("ArrowDown")
    sides = """() => {
      const region = document.querySelector(".region[data-bones~=dp1]");
      const box = (node) => node.getBoundingClientRect();
      const [edge, name] = [...region.querySelectorAll("text, .edge")].map(box);
      const film = box(region.closest(".film"));
      return [film.right - edge.right, edge.left - name.right, name.left - film.left];
    }"""
    page.locator(".film").focus()
    for _ in range(40):
        room, beside, inside = page.evaluate(sides)
        if room < 40:
            break
        page.keyboard.press("ArrowLeft")
        page.evaluate(FRAMES)
    assert 0 <= room < 40 and beside >= 0 and inside >= 0


@pytest.mark.browser
def test_chinese_is_chosen_switched_and_kept(visit: Visit, job: dict[str, Any]) -> None:
    page = opened(visit, job, locale="zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    says(page, "#reading", "评分表", "生长", "平均", "仅供研究使用")
    assert re.fullmatch(r"\d+岁\d+个月", page.locator(".answer .age").inner_text())
    page.get_by_label("RUS-CHN 标准下桡骨的等级").focus()
    page.keyboard.press("ArrowDown")
    says(page, "tr[data-bone=radius] .tag", "已改")
    says(page, ".reading-head [role=status]", "所有更改已保存")
    page.get_by_role("button", name="English").click()
    says(page, ".sheet", "Score sheet", "changed")
    page.reload()
    drawn(page)
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme: str, visit: Visit, job: dict[str, Any], tmp_path: Path) -> None:
    page = opened(visit, job, color_scheme=scheme)
    raise_radius(page)
    page.locator("summary").last.click()
    seen = [page.evaluate(CONTRASTS)]
    page.get_by_role("link", name="Score calculator").click()
    page.locator("#calculator table").wait_for()
    seen.append(page.evaluate(CONTRASTS))
    page.get_by_role("link", name="Images").first.click()
    page.set_input_files("#files", foot(tmp_path))
    page.get_by_role("radio", name="girl").check()
    page.get_by_role("button", name="Read the bone age").click()
    says(page, "#uploads li.bad", "refused")
    page.get_by_role("button", name="Read the bone age").click()
    page.locator("#worklist button.quiet").first.click()
    seen.append(page.evaluate(CONTRASTS))
    page.locator("#confirm-no").click()
    assert [len(texts) > 30 for texts in seen] == [True] * 3
    assert [text for texts in seen for text in texts if text[0] < AA] == []


@pytest.mark.browser
def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit: Visit, job: dict[str, Any]) -> None:
    page = opened(visit, job)
    raise_radius(page)
    for path in (f"#job={job['id']}", "#calculator", ""):
        page.evaluate("(path) => { location.hash = path; }", path)
        page.locator(
            {"": "#worklist tbody tr", "#calculator": "#calculator tr"}.get(path, ".region")
        ).first.wait_for()
        assert page.evaluate(UNNAMED) == []
        wanted, reached, shown = page.evaluate(REACHABLE), set(), set()
        page.locator("#skip").focus()
        for _ in range(2 * wanted + 20):  # a date has several stops
            place, seen = page.evaluate(FOCUSED)
            reached.add(place)
            shown |= {place} if seen else set()
            page.keyboard.press("Tab")
            if len(reached - {None}) == wanted:
                break
        missing = [place for place in map(str, range(wanted)) if place not in reached & shown]
        where = [page.locator(f"[data-place='{place}']") for place in missing]
        assert [node.evaluate("(node) => node.outerHTML") for node in where] == []


@pytest.mark.browser
def test_an_upload_whose_answer_is_lost_is_sent_again_and_read_once(
    visit: Visit, hand: Path, room: Served
) -> None:
    page = visit("/", expected=("ERR_FAILED", "429"))
    keys: list[str] = []

    def lose(route: Any) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fulfill(
                status=429, headers={"Retry-After": "1"}, json={"code": "queue_full", "message": "full"}
            )
        elif len(keys) == 2:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route(f"**{JOBS}", lose)
    page.set_input_files("#files", hand)
    page.get_by_role("radio", name="boy").check()
    page.get_by_label("Label in the worklist").fill("sent thrice")
    page.get_by_role("button", name="Read the bone age").click()
    says(page, "#uploads .state", "the server is busy")
    says(page, "#uploads .state", "no connection")
    drawn(page)
    jobs = room.client.get(JOBS).json()["jobs"]
    assert [one["label"] for one in jobs].count("sent thrice") == 1
    assert len(keys) == 3 and len(set(keys)) == 1 and len(keys[0]) >= 32


@pytest.mark.browser
def test_a_change_that_is_not_saved_says_so_and_is_saved_later(
    visit: Visit, job: dict[str, Any], room: Served
) -> None:
    page = opened(visit, job, expected=("503",))
    busy = {"status": 503, "json": {"code": "database", "message": "the database does not answer"}}
    page.route("**/reading", lambda route: route.fulfill(**busy))
    page.get_by_label("RUS-CHN grade of the radius").press("ArrowDown")
    says(page, ".reading-head [role=status]", "Not saved: The database does not answer")
    assert page.locator("tr[data-bone=radius] .tag").is_visible()
    page.unroute("**/reading")
    page.get_by_role("button", name="Save now").click()
    says(page, ".reading-head [role=status]", "All changes saved")
    assert room.client.get(f"{JOBS}/{job['id']}").json()["changed"]


@pytest.mark.browser
def test_a_result_is_deleted_when_that_is_confirmed(visit: Visit, hand: Path, room: Served) -> None:
    job = send(room, hand, sex="male")
    page = opened(visit, job)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    assert room.client.get(f"{JOBS}/{job['id']}").status_code == 200
    page.get_by_role("button", name="Delete", exact=True).click()
    page.locator("#confirm-yes").click()
    page.locator("#worklist-title").wait_for()
    assert room.client.get(f"{JOBS}/{job['id']}").status_code == 404
    assert page.locator(f"#worklist a[href='#job={job['id']}']").count() == 0


@pytest.mark.browser
def test_a_result_that_is_gone_says_so(visit: Visit) -> None:
    page = visit("/#job=0123456789abcdef0123456789abcdef", expected=("404",))
    says(page, "#problem", "There is no such job")
    assert page.locator("#reading").inner_text() == "‹ Back to the images"


@pytest.mark.browser
def test_without_an_age_the_plot_says_what_it_needs(visit: Visit, room: Served, hand: Path) -> None:
    page = opened(visit, send(room, hand, sex="male"))
    says(page, ".growth", "Upload the radiograph again with the birth date")
    assert page.locator(".growth svg").count() == 0 and foot_of(page, "sd_score")[1] == "–"


@pytest.mark.browser
def test_the_calculator_scores_without_an_image(visit: Visit, room: Served) -> None:
    page = visit("/#calculator")
    page.get_by_role("tab", name="TW3").click()
    page.locator("#calculator").get_by_label("boy").check()
    for place in range(13):
        page.locator(".grades select").nth(place).select_option("E")
    page.locator("#calculator").get_by_label("Years").fill("10")
    sheet = {"standard": "tw3", "sex": "male", "chronological_age_months": 120}
    bones = [row.get_attribute("data-bone") for row in page.locator(".grades tbody tr").all()]
    scored = room.client.post("/api/v1/score", json={**sheet, "grades": dict.fromkeys(bones, "E")}).json()
    says(page, "tr[data-foot=total]", f"{scored['total']:.0f}")
    says(page, "tr[data-foot=bone_age]", years_and_months(scored["age_months"]))
    says(page, ".growth .legend", "your grades")
    assert on_plot(page, "sheet") == pytest.approx(scored["age_months"], abs=0.01)


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1600])
def test_no_page_is_wider_than_its_window(width: int, visit: Visit, job: dict[str, Any]) -> None:
    page = opened(visit, job, width=width)
    raise_radius(page)
    for path, place in (
        (f"#job={job['id']}", ".region"),
        ("#calculator", ".grades"),
        ("", "#worklist tbody tr"),
    ):
        page.evaluate("(path) => { location.hash = path; }", path)
        page.locator(place).first.wait_for()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def words(language: str) -> dict[str, str]:
    text = (WEB / f"words_{language}.js").read_text(encoding="utf-8").partition("\n};")[0]
    return dict(re.findall(r'^  (\w+): "(.*)",$', text, re.MULTILINE))


def scripts() -> dict[str, str]:
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted(WEB.glob("*.js"))}
    return {name: text for name, text in found.items() if not name.startswith("words_")}


def test_both_languages_say_the_same_things() -> None:
    english, chinese = words("en"), words("zh")
    assert len(english) > 100 and list(english) == list(chinese)
    holes = {key: sorted(re.findall(r"{\w+}", text)) for key, text in english.items()}
    assert holes == {key: sorted(re.findall(r"{\w+}", text)) for key, text in chinese.items()}
    assert all(text.strip() for text in (*english.values(), *chinese.values()))


def test_every_word_is_known_and_used() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    code = "\n".join(scripts().values())
    asked = set(re.findall(r'data-say(?:-label)?="(\w+)"', page)) | set(
        re.findall(r'\bsay(?:Count)?\("(\w+)"', code)
    )
    assert asked <= set(words("en"))
    begun = tuple(re.findall(r"`(\w+_)\$\{", code))
    used = {key for key in words("en") if re.search(rf'["\s]{key.removesuffix("_one")}[":]', code)}
    assert {key for key in words("en") if key not in asked | used and not key.startswith(begun)} == set()


def test_the_page_loads_nothing_from_elsewhere_and_nothing_inline() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    for path in WEB.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(?:https?:)?//[\w-]+\.\w|@import|\beval\(|innerHTML", text), path.name
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for name in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
        assert (WEB / name).is_file()


@pytest.mark.parametrize("name", sorted(scripts()))
def test_a_module_is_short_and_says_what_it_exports(name: str) -> None:
    text = scripts()[name]
    assert text.count("\n") < 300 and text.startswith("/** ")
    for exported in re.finditer(r"^export (?:async )?(?:function|class) (\w+)", text, re.MULTILINE):
        assert text[: exported.start()].endswith("*/\n"), exported[1]
