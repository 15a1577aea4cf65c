"""The studio's page in a browser: Playwright with a Chromium that is installed.

Skipped where there is none; `.ci/run` installs one.
"""

import contextlib
import json
import os
import shutil
import threading
import time

import numpy as np
import pytest
from conftest import colorful

from runtime import Colorizer, Hints, Metadata, decode_photo, encode_image

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
if not CHROMIUM:
    pytest.skip("there is no Chromium (set CHROMIUM)", allow_module_level=True)

RGB = colorful(240, 320)
PHOTO = encode_image(RGB[..., 1], "PNG", Metadata(dpi=(200.0, 200.0)))
WAIT = 60_000  # milliseconds; other tests may keep the machine busy


@pytest.fixture(scope="module")
def lite():
    return Colorizer(backend="onnxruntime", size=128)


@contextlib.contextmanager
def serving(app):
    """Serve an application from a thread; its port."""
    from runtime.studio.__main__ import listen

    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture(scope="module")
def address(lite):
    from runtime.studio import make_app

    with serving(make_app(lite)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser, address, request):
    options = getattr(request, "param", {"viewport": {"width": 1100, "height": 760}})
    context = browser.new_context(accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    page.goto(address)
    yield page
    context.close()
    # A request that was under way when its photo was closed is no fault; the browser logs it.
    assert [text for text in page.problems if "410" not in text] == []


def drop(page, data=PHOTO, name="boat.png"):
    page.set_input_files(
        "input[aria-label='Open photos']", {"name": name, "mimeType": "", "buffer": data}
    )
    page.wait_for_selector("img.result")
    settled(page)


def until(page, expression):
    """Wait for a truth in the page; `wait_for_function` evaluates, which its CSP forbids."""
    for _ in range(WAIT // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def settled(page):
    page.wait_for_selector("main[aria-busy=false]")


def at(page, x, y):
    """Place on the screen of shares of the photo's width and height."""
    box = page.locator("img.layer").first.bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def shown(page):
    """Pixels of the result as the page has it."""
    wide, data = page.evaluate(
        """() => {
          const image = document.querySelector("img.result");
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.width, [...data]];
        }"""
    )
    return np.array(data).reshape(-1, wide, 4)[..., :3]


def saved(page, press):
    with page.expect_download() as waiting:
        press()
    with open(waiting.value.path(), "rb") as file:
        return waiting.value.suggested_filename, file.read()


def hints_of(page):
    page.click("summary[aria-label=More]")
    _, data = saved(page, lambda: page.click("text=Save the hints"))
    return Hints.from_json(data)


def test_open_click_choose_undo_redo_drag_and_save(page, lite):
    drop(page)
    grey = shown(page)
    page.mouse.click(*at(page, 0.3, 0.4))
    page.wait_for_selector(".picker .swatches button")
    page.fill(".hex", "#c03020")
    settled(page)
    red = shown(page)
    assert np.abs(red - grey).max() > 30
    page.click("text=Done")
    page.keyboard.press("Control+z")
    settled(page)
    page.keyboard.press("Control+z")
    settled(page)
    assert page.locator(".marker").count() == 0
    assert np.array_equal(shown(page), grey)
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+y")
    settled(page)
    assert np.array_equal(shown(page), red)
    page.mouse.move(*at(page, 0.3, 0.4))
    page.mouse.down()
    page.mouse.move(*at(page, 0.6, 0.7), steps=6)
    page.mouse.up()
    settled(page)
    assert not np.array_equal(shown(page), red)
    hints = hints_of(page)
    (hint,) = hints
    assert abs(hint.x - 192) <= 2
    assert abs(hint.y - 168) <= 2
    name, data = saved(page, lambda: page.click("button.save"))
    assert name == "boat-color.png"
    made = decode_photo(data)
    assert np.array_equal(made.pixels, lite.colorize(RGB[..., 1], hints))
    assert made.metadata.dpi == pytest.approx((200.0, 200.0), abs=0.01)


def test_a_right_click_and_delete_remove(page):
    drop(page)
    for x in (0.3, 0.7):
        page.mouse.click(*at(page, x, 0.5))
        page.wait_for_selector(".picker")
        page.click("text=Done")
    page.mouse.click(*at(page, 0.3, 0.5), button="right")
    until(page, "document.querySelectorAll('.marker').length === 1")
    page.locator(".marker").focus()
    page.keyboard.press("]")
    page.keyboard.press("Delete")
    until(page, "document.querySelectorAll('.marker').length === 0")
    settled(page)


def test_a_lasso_colours_only_inside(page, lite):
    drop(page)
    before = shown(page)
    page.keyboard.press("l")
    corners = [(0.25, 0.25), (0.55, 0.25), (0.55, 0.65), (0.25, 0.65)]
    page.mouse.move(*at(page, *corners[0]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*at(page, *corner), steps=8)
    page.mouse.up()
    page.wait_for_selector(".picker")
    page.fill(".hex", "#2040d0")
    settled(page)
    moved = np.abs(shown(page) - before).max(axis=2)
    high, wide = moved.shape
    inside = np.zeros_like(moved, bool)
    inside[int(0.22 * high) : int(0.68 * high), int(0.22 * wide) : int(0.58 * wide)] = True
    assert moved[~inside].max() <= 12  # JPEG's blocks at the border
    assert (
        np.median(moved[int(0.3 * high) : int(0.6 * high), int(0.3 * wide) : int(0.5 * wide)]) > 20
    )
    page.click("text=As it is")
    settled(page)
    assert np.abs(shown(page) - RGB[..., 1:2])[100:140, 100:150].max() <= 6
    (keep,) = hints_of(page).kept
    assert not keep.grey
    page.keyboard.press("Control+z")
    settled(page)
    assert len(hints_of(page).bounded) == 1


def test_a_reload_brings_photo_and_hints_back(page):
    drop(page)
    page.mouse.click(*at(page, 0.5, 0.5))
    page.wait_for_selector(".picker")
    page.fill(".hex", "#20a040")
    settled(page)
    before = shown(page)
    time.sleep(0.6)  # until it is kept
    page.reload()
    page.wait_for_selector("img.result")
    page.wait_for_selector(".marker")
    settled(page)
    assert np.array_equal(shown(page), before)
    page.keyboard.press("Control+z")  # the steps, too
    settled(page)
    assert not np.array_equal(shown(page), before)


def test_a_photo_that_the_server_closed_is_opened_again(page, browser):
    drop(page)
    page.evaluate("window.seen = []")
    # As after a restart of the server: no photo is open there.
    page.route("**/preview*", lambda route: route.fulfill(
        status=410, body=json.dumps({"error": "gone"})), times=1)  # fmt: skip
    page.mouse.click(*at(page, 0.5, 0.5))
    page.wait_for_selector(".picker")
    settled(page)
    assert page.locator(".toast.error").count() == 0
    page.problems.clear()  # the browser logs the 410


def test_by_keyboard_alone(page, lite):
    drop(page)
    plain = shown(page)
    page.locator(".stage").focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_selector(".picker")
    assert page.evaluate("document.activeElement.className") == "plane"
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(".picker", state="detached")
    settled(page)
    assert np.abs(shown(page) - plain).max() > 20
    assert page.evaluate("document.activeElement.className").startswith("marker")
    page.keyboard.press("ArrowDown")
    settled(page)
    (hint,) = hints_of(page)
    assert hint.y > 120
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True,
         "device_scale_factor": 2}  # fmt: skip


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_on_a_touch_screen_of_360_pixels(page):
    drop(page)
    page.touchscreen.tap(*at(page, 0.5, 0.5))
    page.wait_for_selector(".picker .swatches button")
    settled(page)
    before = shown(page)
    page.locator(".swatches button").nth(2).tap()
    settled(page)
    assert not np.array_equal(shown(page), before)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    # The sheet covers neither the hint nor the photo.
    sheet, photo = (page.locator(s).first.bounding_box() for s in (".picker", "img.result"))
    assert photo["y"] + photo["height"] <= sheet["y"] + 1
    for button in page.locator("header button:visible, header summary:visible").all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


def test_a_page_of_another_origin_is_refused(browser, address):
    async def elsewhere(scope, receive, send):
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-type", b"text/html")]})  # fmt: skip
        await send({"type": "http.response.body", "body": b"<h1>elsewhere</h1>"})

    with serving(elsewhere) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        for options in ("{}", '{method: "POST", body: "x", mode: "no-cors"}', '{mode: "no-cors"}'):
            got = page.evaluate(
                f"fetch('{address}v1/about', {options}).then(r => r.text()).catch(() => 'refused')"
            )
            assert "model" not in got
        frames = page.evaluate(
            f"""new Promise((done) => {{
              const frame = document.createElement("iframe");
              frame.src = "{address}";
              frame.onload = () => done(frame.contentDocument === null);
              document.body.append(frame);
            }})"""
        )
        assert frames
        page.close()


def test_a_broken_photo_shows_its_sentence(page):
    page.set_input_files(
        "input[aria-label='Open photos']",
        {"name": "broken.png", "mimeType": "", "buffer": PHOTO[:200]},
    )
    page.wait_for_selector(".toast.error")
    assert "broken.png" in page.inner_text(".toast.error")
    page.wait_for_selector(".welcome")
    page.problems.clear()  # the browser logs the 422


def test_a_photo_that_is_cut_short_is_opened_as_far_as_it_goes(page):
    page.set_input_files(
        "input[aria-label='Open photos']",
        {"name": "half.png", "mimeType": "", "buffer": PHOTO[: len(PHOTO) // 2]},
    )
    page.click(".toast >> text=Open what there is")
    page.wait_for_selector("img.result")
    assert "cut short" in page.inner_text(".toast")
    page.reload()  # and is so again
    page.wait_for_selector("img.result")
    page.problems.clear()  # the browser logs the 422


def test_of_several_hint_files_one_is_read_and_the_others_are_named(page):
    drop(page)
    data = Hints([], image_size=(320, 240)).to_json().encode()
    page.set_input_files(
        "input[aria-label='Open photos']",
        [{"name": f"{n}.json", "mimeType": "", "buffer": data} for n in "abc"],
    )
    page.wait_for_selector(".toast >> text=a.json is read; 2 other hint files are left out.")


def test_an_area_of_clicked_corners(page):
    drop(page)
    page.click("button[aria-label=Lasso]")
    for i, place in enumerate([(0.2, 0.2), (0.6, 0.2), (0.9, 0.9), (0.6, 0.7)]):
        page.mouse.click(*at(page, *place))
        until(page, f"document.querySelectorAll('.corner').length === {i + 1}")
    page.keyboard.press("Backspace")
    until(page, "document.querySelectorAll('.corner').length === 3")
    assert "first corner" in page.inner_text(".banner")
    page.mouse.click(*at(page, 0.2, 0.2))
    page.wait_for_selector(".picker")
    assert page.locator(".corner").count() == 0
    page.click(".picker >> text=Done")
    (area,) = hints_of(page).bounded
    assert np.abs(np.array(area.points) - [[64, 48], [192, 48], [288, 216]]).max() <= 1


def test_the_second_of_two_quick_clicks_is_for_the_photo(page):
    drop(page)
    x, y = at(page, 0.3, 0.4)
    page.mouse.click(x, y)
    page.mouse.click(x + 60, y)  # where the popover opens
    until(page, "document.querySelectorAll('.marker').length === 2")


def test_the_whole_photo_comes_back_by_a_button(page):
    drop(page)
    before = page.locator("img.layer").first.bounding_box()
    page.mouse.move(*at(page, 0.2, 0.2))
    page.mouse.wheel(0, -400)
    page.wait_for_selector(".fit")
    assert page.locator("img.layer").first.bounding_box()["width"] > before["width"]
    page.click(".fit")
    page.wait_for_selector(".fit", state="detached")
    assert page.locator("img.layer").first.bounding_box() == before


def test_a_large_photo_is_sharp_when_it_is_quiet(page):
    large = np.kron(RGB[..., 1], np.ones((8, 8), np.uint8))  # 2560 x 1920
    drop(page, encode_image(large, "PNG"))
    assert page.evaluate("document.querySelector('img.result').naturalWidth") == 1024
    page.mouse.move(*at(page, 0.5, 0.5))
    page.mouse.wheel(0, -400)
    until(page, "document.querySelector('img.result').naturalWidth === 2560")


def test_looks_and_places(page):
    drop(page)
    page.keyboard.press("n")
    page.wait_for_selector("button.next")
    page.locator("button.next").first.click()
    page.wait_for_selector(".picker")
    page.fill(".hex", "#d08020")
    page.click("text=Done")
    page.keyboard.press("a")
    page.locator(".adjust input").first.fill("0")
    settled(page)
    assert np.ptp(shown(page), axis=2).max() <= 6
    assert hints_of(page).look.saturation == 0
    page.click("text=Reset")
    settled(page)
    assert np.ptp(shown(page), axis=2).max() > 30


def test_what_cannot_exist_says_so(page):
    drop(page)
    page.mouse.click(*at(page, 0.5, 0.5))
    page.wait_for_selector(".picker")
    page.fill(".hex", "#ffff00")
    until(page, "document.querySelector('.remark').textContent.includes('nearest')")
    page.fill(".hex", "#zz")
    until(page, "document.querySelector('.remark').textContent.includes('looks like')")
    settled(page)


def test_scans(page):
    drop(page, encode_image(RGB, "PNG"), "print.png")
    page.keyboard.press("a")
    page.select_option(".adjust select", "blue")
    settled(page)
    grey = page.evaluate(
        """() => {
          const image = document.querySelector("img.layer");
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          return [...context.getImageData(0, 0, 320, 240).data];
        }"""
    )
    shown_grey = np.array(grey).reshape(240, 320, 4)[..., 0]
    assert np.abs(shown_grey - RGB[..., 2].astype(int)).max() <= 1
    page.keyboard.press("Control+z")
    settled(page)
    assert page.input_value(".adjust select") == "luminance"


def test_a_reload_brings_every_photo_of_the_strip_back(page):
    drop(page)
    page.mouse.click(*at(page, 0.5, 0.5))
    page.wait_for_selector(".picker")
    page.fill(".hex", "#20a040")
    page.click("text=Done")
    settled(page)
    first = shown(page)
    drop_more = encode_image(colorful(200, 200, 5), "PNG")
    drop(page, drop_more, "second.png")
    page.wait_for_selector("header b:text('second.png')")
    settled(page)
    assert page.locator(".strip button").count() == 2
    assert page.locator(".marker").count() == 0
    time.sleep(0.6)
    page.reload()
    page.wait_for_selector("header b:text('second.png')")
    page.keyboard.press("PageUp")
    page.wait_for_selector(".marker")
    settled(page)
    assert np.array_equal(shown(page), first)
    page.keyboard.press("Control+z")  # with its steps
    settled(page)
    assert not np.array_equal(shown(page), first)


def test_ways_to_begin(page):
    drop(page)
    before = shown(page)
    page.keyboard.press("p")
    page.wait_for_selector(".proposals img")
    page.locator(".proposals button").nth(1).click()
    settled(page)
    assert page.locator(".marker").count() >= 1
    assert not np.array_equal(shown(page), before)
    page.keyboard.press("Control+z")
    settled(page)
    assert page.locator(".marker").count() == 0


def test_a_film_is_a_strip_of_frames_whose_hints_are_one_file(browser, lite, tmp_path):
    films = pytest.importorskip("films")
    from runtime import FilmHints
    from runtime.studio import make_app
    from runtime.studio.__main__ import offers_of

    scene = films.Scene()
    films.write(tmp_path / "old.mp4", [scene.grey(t) for t in range(60)])
    (tmp_path / "frames").mkdir()
    files, frames = offers_of([str(tmp_path / "old.mp4")], tmp_path / "frames")
    assert list(frames.values()) == [("old.mp4", 0), ("old.mp4", 25), ("old.mp4", 50)]
    with serving(make_app(lite, files=files, frames=frames)) as port:
        page = browser.new_context(accept_downloads=True).new_page()
        page.set_default_timeout(WAIT)
        page.goto(f"http://127.0.0.1:{port}/")
        for number, place in ((0, (0.3, 0.4)), (2, (0.7, 0.5))):
            page.click(f".strip button >> nth={number}")
            until(
                page,
                "document.querySelectorAll('.strip button')"
                f"[{number}].getAttribute('aria-current') === 'true'",
            )
            settled(page)
            page.mouse.click(*at(page, *place))
            page.wait_for_selector(".picker")
            page.fill(".hex", "#b04030")
            page.click(".picker >> text=Done")
            settled(page)
        page.click("summary[aria-label=More]")
        name, data = saved(page, lambda: page.click("text=Save the film's hints"))
        assert "python -m runtime old.mp4" in page.inner_text(".toast")
        page.context.close()
    assert name == "old.hints.json"
    hints = FilmHints.from_json(data)
    assert list(hints) == [0, 50]
    assert hints.image_size == (192, 144)
    assert abs(hints[50][0].x - 134) <= 1
