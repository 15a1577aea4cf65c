"""The studio's server: what it takes, gives and refuses. The page is tested in test_studio_page."""

import io
import json
import threading
import time

import anyio
import numpy as np
import pytest
from conftest import colorful, run_python

from runtime import (
    Colorizer,
    Hint,
    Hints,
    Lightness,
    Metadata,
    Region,
    Stroke,
    decode_photo,
    encode_image,
)

pytest.importorskip("starlette")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

from runtime.color import lab_from_rgb
from runtime.studio import Limits, make_app
from runtime.studio.__main__ import build_parser, listen, main, photos_of
from runtime.studio.store import GoneError, Store, TooLargeError

RGB = colorful(90, 120)
PNG = encode_image(RGB[..., 1], "PNG")
HINTS = Hints([Hint(30, 40, "#c04030", 9)], image_size=(120, 90))
FORM = "multipart/form-data; boundary=b"
HOME = {"base_url": "http://127.0.0.1:8642"}


@pytest.fixture(scope="module")
def lite():
    return Colorizer(backend="onnxruntime", size=128)


@pytest.fixture
def client(lite):
    with TestClient(make_app(lite), **HOME) as client:
        yield client


def opened(client, data=PNG, name="p.png"):
    answer = client.post("/v1/photos", params={"name": name}, content=data)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_photo_is_opened_looked_at_and_saved(client, lite):
    photo = opened(client)
    assert (photo["width"], photo["height"], photo["kind"], photo["name"]) == (
        120,
        90,
        "PNG",
        "p.png",
    )
    at = f"/v1/photos/{photo['key']}"
    grey = decode_photo(client.get(f"{at}/grey").content).pixels
    assert np.abs(grey.astype(int) - RGB[..., 1]).max() <= 1
    plain = client.post(f"{at}/preview")
    assert plain.headers["content-type"] == "image/jpeg"
    hinted = client.post(f"{at}/preview", content=HINTS.to_json(), params={"side": 60})
    assert decode_photo(hinted.content).pixels.shape == (45, 60, 3)
    made = client.post(f"{at}/result", content=HINTS.to_json())
    assert made.headers["content-disposition"].endswith("p-color.png")
    assert np.array_equal(decode_photo(made.content).pixels, lite.colorize(RGB[..., 1], HINTS))
    colors = client.post(f"{at}/suggest", params={"x": 30, "y": 40}).json()["colors"]
    assert 1 <= len(colors) <= 5
    assert all(len(color) == 7 for color in colors)
    places = client.post(f"{at}/places", params={"k": 3}).json()["places"]
    assert all(0 <= x < 120 and 0 <= y < 90 for x, y in places)
    assert client.delete(at).status_code == 204
    gone = client.post(f"{at}/preview")
    assert gone.status_code == 410
    assert "open it again" in gone.json()["error"]


def test_a_deep_photo_keeps_depth_and_metadata(client):
    deep = RGB.astype(np.uint16) * 257
    data = encode_image(deep, "TIFF", Metadata(dpi=(300.0, 300.0), xmp=b"<x:xmpmeta/>"))
    key = opened(client, data, "scan.tif")["key"]
    made = decode_photo(client.post(f"/v1/photos/{key}/result").content)
    assert made.pixels.dtype == np.uint16
    assert made.metadata.dpi == (300.0, 300.0)
    assert made.metadata.xmp == b"<x:xmpmeta/>"
    as_jpeg = client.post(f"/v1/photos/{key}/result", params={"format": "jpg"})
    assert decode_photo(as_jpeg.content).pixels.dtype == np.uint8
    assert "8 bits" in json.loads(as_jpeg.headers["hscaunet-notes"])[0]


def test_hints_for_another_size_are_scaled_and_limits_kept(client):
    key = opened(client)["key"]
    other = Hints(
        [Region("red", [(0, 0), (100, 0), (100, 90)], only_inside=True)], image_size=(240, 180)
    )
    fitted = client.post(f"/v1/photos/{key}/hints", content=other.to_json()).json()
    assert fitted["image"] == {"width": 120, "height": 90}
    assert fitted["hints"][0]["only_inside"] is True
    bad = client.post(f"/v1/photos/{key}/hints", content=b"{")
    assert bad.status_code == 422
    assert "not JSON" in bad.json()["error"]


def test_one_request_for_applications(client, lite):
    jpeg = encode_image(RGB, "JPEG", Metadata(comments=(b"mine",)))
    files = {"photo": ("a.jpg", jpeg), "hints": ("h.json", HINTS.to_json())}
    answer = client.post("/v1/colorize", files=files)
    assert answer.headers["content-type"] == "image/jpeg"
    made = decode_photo(answer.content)
    assert made.metadata.comments == (b"mine",)
    wanted = lite.colorize(decode_photo(jpeg).pixels, HINTS)
    assert np.abs(made.pixels.astype(int) - wanted).mean() < 2
    as_png = client.post("/v1/colorize", files={"photo": ("a.jpg", jpeg)}, data={"format": "png"})
    assert decode_photo(as_png.content).pixels.shape == RGB.shape
    for wrong, status in (
        ({"files": {"other": ("a.jpg", jpeg)}}, 422),
        ({"files": {"photo": ("a.jpg", b"no picture")}}, 422),
        ({"files": {"photo": ("a.jpg", jpeg), "hints": ("h", b"{")}}, 422),
        ({"files": {"photo": ("a.jpg", jpeg)}, "data": {"format": "exe"}}, 422),
        ({"content": b"broken", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"--b", "headers": {"content-type": FORM + "; charset=undefined"}}, 415),
        ({"content": b"--b\r\n\xff", "headers": {"content-type": FORM}}, 400),
    ):
        answer = client.post("/v1/colorize", **wrong)
        assert answer.status_code == status
        assert answer.json()["error"]


def test_what_is_wrong_is_a_sentence_with_a_status(client):
    key = opened(client)["key"]
    for method, path, status in (
        ("POST", "/v1/photos?name=x.png", 422),
        ("GET", "/nothing", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/static//etc/passwd", 404),
        ("POST", "/v1/files/0", 404),
        ("POST", "/v1/files/" + "9" * 5000, 404),
        ("GET", "/v1/photos", 405),
        ("GET", f"/v1/photos/{key}/grey?side=x", 422),
        ("GET", f"/v1/photos/{key}/grey?side=0", 422),
        ("POST", f"/v1/photos/{key}/suggest?x=-1&y=2", 422),
        ("POST", f"/v1/photos/{key}/suggest?x=500&y=2", 422),
        ("POST", f"/v1/photos/{key}/result?format=gif", 422),
        ("POST", "/v1/photos/wrong/preview", 410),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert answer.json()["error"].endswith((".", ")"))


def test_only_the_own_page_reaches_it(client):
    for headers, status in (
        ({}, 200),
        ({"origin": "http://127.0.0.1:8642"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"host": "localhost:1234"}, 200),
        ({"host": "[::1]:8642"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ):
        assert client.get("/v1/about", headers=headers).status_code == status, headers
    page = client.get("/", headers={"sec-fetch-site": "cross-site"})  # a link to it is no harm
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_no_other_server_and_has_no_script_inside(client):
    text = client.get("/").text
    assert '<script type="module" src="/static/' in text
    assert "onclick" not in text.lower()
    for name in ("js/app.js", "js/api.js", "js/stage.js", "style.css"):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert "https://" not in answer.text
        assert "http://" not in answer.text


def test_the_token(lite):
    with TestClient(make_app(lite, token="sesame-123"), follow_redirects=False, **HOME) as client:
        assert client.get("/v1/about").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/v1/about?token=sesame-123").status_code == 401  # only the page takes it
        assert client.get("/healthz").status_code == 200
        bearer = {"authorization": "Bearer sesame-123"}
        assert client.get("/v1/about", headers=bearer).status_code == 200
        assert client.get("/v1/about", headers={"cookie": "a=b; ;;=\x01"}).status_code == 401
        foreign = {"cookie": 'x={"a":1}; hscaunet-token=sesame-123'}  # of another server here
        assert client.get("/v1/about", headers=foreign).status_code == 200
        visit = client.get("/?token=sesame-123")
        assert visit.status_code == 303
        assert "HttpOnly" in visit.headers["set-cookie"]
        assert "SameSite=Strict" in visit.headers["set-cookie"]
        assert client.get("/v1/about").status_code == 200  # by the cookie


def test_limits_before_any_decoding(lite):
    limits = Limits(pixels=5000, file_bytes=100_000, hint_bytes=1000, uploads=1)
    with TestClient(make_app(lite, limits=limits), **HOME) as client:
        answer = client.post("/v1/photos", content=PNG)
        assert answer.status_code == 413
        assert "120x90 pixels" in answer.json()["error"]
        assert client.post("/v1/photos", content=b"x" * 200_000).status_code == 413
        small = encode_image(RGB[:50, :50, 1], "PNG")
        key = opened(client, small)["key"]
        many = client.post(f"/v1/photos/{key}/preview", content=b" " * 2000)
        assert many.status_code == 413
        files = {"photo": ("a.png", small), "hints": ("h.json", b" " * 2000)}
        assert client.post("/v1/colorize", files=files).status_code == 413


def asgi(app, chunks, headers=(), path="/v1/photos", method="POST"):
    """Send a request piece by piece: (seconds to wait, bytes); status and body."""
    sent = []

    async def go():
        waiting = list(chunks)

        async def receive():
            if not waiting:
                await anyio.sleep(60)
            pause, body = waiting.pop(0)
            await anyio.sleep(pause)
            return {"type": "http.request", "body": body, "more_body": bool(waiting) or body == b""}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [(b"host", b"127.0.0.1"), *headers],
            "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 1), "client": ("1", 2),
            "root_path": "", "extensions": {},
        }  # fmt: skip
        await app(scope, receive, send)

    anyio.run(go)
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


def test_a_client_that_dawdles_is_sent_away(lite):
    app = make_app(lite, limits=Limits(stall=0.3))
    status, body = asgi(app, [(0, PNG[:100]), (5, PNG[100:])])
    assert status == 408
    assert b"too slowly" in body
    drip = [(0.05, b"x")] * 40  # never still, and never done
    assert asgi(app, drip)[0] == 408
    began = time.monotonic()
    assert asgi(app, [(0, b"x" * 100_000), (9, b"x")])[0] == 408  # much sent is no credit
    assert time.monotonic() - began < 5


def test_more_uploads_than_places_are_told_to_come_again(lite):
    app = make_app(lite, limits=Limits(uploads=0, stall=0.3))
    with TestClient(app, **HOME) as client:
        answer = client.post("/v1/photos", content=PNG)
        assert answer.status_code == 503


def test_photos_nobody_came_back_to_are_closed(lite):
    now = [0.0]
    store = Store(lite, Limits(idle=100), clock=lambda: now[0])
    first, second = store.open(PNG, "a.png"), store.open(PNG, "b.png")
    now[0] = 90
    store.find(second.key)
    now[0] = 150
    store.sweep()
    assert len(store) == 1
    with pytest.raises(GoneError):
        store.find(first.key)
    assert store.find(second.key) is second


def test_memory_is_bounded_by_closing_the_oldest(lite):
    store = Store(lite, Limits(memory=2_000_000))
    kept = [store.open(PNG, f"{i}.png") for i in range(60)]
    for one in kept[-3:]:
        one.session.preview()
    store.sweep()
    assert store.nbytes <= 2_000_000
    assert 1 <= len(store) < 60
    assert store.find(kept[-1].key)
    with pytest.raises(TooLargeError, match="more memory"):
        Store(lite, Limits(memory=1000)).open(PNG, "a.png")


def test_names_are_only_names(client):
    photo = opened(client, name="../../etc/pass\u00e4wd\n.png")
    assert "/" not in photo["name"]
    made = client.post(f"/v1/photos/{photo['key']}/result")
    header = made.headers["content-disposition"]
    assert "\n" not in header
    assert "%C3%A4" in header
    assert opened(client, name="C:\\photos\\p.png")["name"] == "p.png"
    assert opened(client, name="")["name"] == "photo"


def test_photos_of_this_machine_by_their_number(lite, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    files = photos_of([str(tmp_path)])
    with TestClient(make_app(lite, files=files), **HOME) as client:
        assert client.get("/v1/about").json()["files"] == ["a.png", "broken.jpg"]
        assert client.post("/v1/files/0").status_code == 201
        assert client.post("/v1/files/1").status_code == 422
        small = client.get("/v1/files/0/thumbnail")
        assert decode_photo(small.content).pixels.shape == (90, 120, 3)
        assert client.post("/v1/files/2").status_code == 404


def test_metrics_and_logs_say_nothing_of_photos(client, caplog):
    caplog.set_level("INFO", "runtime.studio")
    key = opened(client, name="grandmother.png")["key"]
    client.post(f"/v1/photos/{key}/preview", content=HINTS.to_json())
    client.request("BREW", "/secret-place")
    text = client.get("/metrics").text
    assert "hscaunet_open_photos 1.0" in text
    assert 'route="preview",status="200"' in text
    for secret in ("grandmother", key, "secret-place", "BREW"):
        assert secret not in text
    assert "POST preview 200" in caplog.text
    assert "grandmother" not in caplog.text
    assert key not in caplog.text


def test_many_clients_at_once_get_what_each_asked_for(client, lite):
    keys = [opened(client)["key"] for _ in range(4)]
    colors = ["#c02020", "#20c020", "#2020c0", "#c0c020"]
    wrong = []

    def work(key, color):
        for size in (5, 9, 13):
            hints = Hints([Hint(30, 40, color, size)], image_size=(120, 90))
            made = client.post(f"/v1/photos/{key}/result", content=hints.to_json())
            pixels = decode_photo(made.content).pixels
            if not np.array_equal(pixels, lite.colorize(RGB[..., 1], hints)):
                wrong.append((key, color, size))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(keys, colors, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_hostile_requests_are_answered(client):
    """A short share of what benchmarks/studio.py sends."""
    from hostile import requests

    key = opened(client)["key"]
    for method, path, headers, body in requests(150, key, seed=3):
        answer = client.request(method, path, headers=headers, content=body)
        assert answer.status_code < 500 or answer.status_code == 503, (method, path, answer.text)


def test_the_command_line(tmp_path, capsys):
    for words, sentence in (
        (["--port", "70000"], "--port"),
        (["--token", "short"], "8 characters"),
        (["--token", "with space here"], "letters"),
        (["--memory", "1"], "--memory"),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert sentence in capsys.readouterr().err
    assert main(["--host", "0.0.0.0"]) == 1
    assert "--token" in capsys.readouterr().err
    assert main([str(tmp_path / "none.png"), "--no-browser"]) == 1
    assert "There is no file" in capsys.readouterr().err
    assert main([str(tmp_path), "--no-browser"]) == 1
    assert "holds no picture" in capsys.readouterr().err
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--no-browser"]) == 1
        assert "cannot be listened at" in capsys.readouterr().err
    assert "studio" in build_parser().format_help()


def test_without_its_packages_it_says_how_to_get_them():
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "from runtime.studio.__main__ import main\n"
        "sys.exit(main(['--no-browser']))"
    )
    done = run_python("-c", code)
    assert done.returncode == 1
    assert "hscaunet[studio]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_object_is_what_pillow_reads(client):
    """The download is a whole file of its kind."""
    from PIL import Image

    key = opened(client)["key"]
    for name in ("png", "jpg", "tif", "webp", "avif", "bmp"):
        made = client.post(f"/v1/photos/{key}/result", params={"format": name})
        assert Image.open(io.BytesIO(made.content)).size == (120, 90)


def test_how_a_scan_becomes_grey(client, lite):
    data = encode_image(RGB, "PNG")
    at = f"/v1/photos/{opened(client, data)['key']}"
    wanted = lite.colorize(RGB, HINTS, lightness=Lightness("red", "auto"))
    asked = {"channel": "red", "levels": "auto"}
    made = client.post(f"{at}/result", params=asked, content=HINTS.to_json())
    assert np.array_equal(decode_photo(made.content).pixels, wanted)
    plain = client.post(f"{at}/result", content=HINTS.to_json())  # and back
    assert np.array_equal(decode_photo(plain.content).pixels, lite.colorize(RGB, HINTS))
    grey = decode_photo(client.get(f"{at}/grey", params={"channel": "blue"}).content).pixels
    assert np.abs(grey.astype(int) - RGB[..., 2]).max() <= 1
    files = {"photo": ("a.png", data), "hints": ("h.json", HINTS.to_json())}
    one = client.post("/v1/colorize", files=files, data=asked)
    assert np.array_equal(decode_photo(one.content).pixels, wanted)
    for wrong in ({"channel": "x"}, {"levels": "3"}, {"levels": "a,b"}):
        assert client.get(f"{at}/grey", params=wrong).status_code == 422


def test_a_busy_server_says_so_and_places_are_given_back(lite):
    limits = Limits(requests=0)
    with TestClient(make_app(lite, limits=limits), **HOME) as client:
        answer = client.get("/v1/about")
        assert answer.status_code == 503
        assert answer.headers["connection"] == "close"
        assert client.get("/healthz").status_code == 200
    with TestClient(make_app(lite, limits=Limits(uploads=1)), **HOME) as client:
        key = opened(client)["key"]
        for _ in range(3):
            assert client.post(f"/v1/photos/{key}/result").status_code == 200
            assert client.post(f"/v1/photos/{key}/result", content=b"{").status_code == 422


def test_what_lies_beside_the_pixels_counts(lite):
    heavy = encode_image(RGB[..., 1], "PNG", Metadata(xmp=b"x" * 3_000_000))
    store = Store(lite, Limits(memory=8_000_000))
    for _ in range(5):
        store.open(heavy, "a.png")
    assert len(store) == 2
    with pytest.raises(TooLargeError):
        Store(lite, Limits(memory=2_000_000)).open(heavy, "a.png")


def test_equal_hints_do_not_run_the_network_again(client, lite, monkeypatch):
    key = opened(client)["key"]
    body = '{"format": "hscaunet-hints", "version": 1, "hints": [{"x": 1, "y": 1, "color": "red"}]}'
    first = client.post(f"/v1/photos/{key}/preview", content=body)
    monkeypatch.setattr(lite, "_ab", lambda *args: pytest.fail("it ran"))
    assert client.post(f"/v1/photos/{key}/preview", content=body).content == first.content


def test_many_areas_are_refused(client):
    key = opened(client)["key"]
    many = Hints([Stroke([(1, 1)], "red")] * 2001).to_json()
    answer = client.post(f"/v1/photos/{key}/preview", content=many)
    assert answer.status_code == 413


def test_ways_to_begin_and_colours_alone(client, lite):
    at = f"/v1/photos/{opened(client)['key']}"
    found = client.post(f"{at}/proposals", params={"k": 3}).json()["proposals"]
    assert found[0]["hints"] == []
    assert 1 < len(found) <= 3
    made = [client.post(f"{at}/preview", content=json.dumps(one)).content for one in found]
    assert len(set(made)) == len(made)
    for ending in ("png", "tif"):
        answer = client.post(f"{at}/layer", params={"format": ending}, content=HINTS.to_json())
        layer = decode_photo(answer.content).pixels
        assert layer.dtype == np.uint16
        lab = lab_from_rgb(layer)
        assert np.abs(lab[..., 0] - 60).max() < 6  # but for what is clipped
        result = lab_from_rgb(lite.colorize(RGB[..., 1], HINTS))
        shown = np.abs(result[..., 1:]).max(axis=2) < 30  # what fits either lightness
        assert np.abs(lab - result)[..., 1:][shown].mean() < 1.5
    session = lite.open(RGB[..., 1])
    session.set_hints(HINTS)
    assert np.array_equal(session.color_layer(), layer)
    assert client.post(f"{at}/layer", params={"format": "jpg"}).status_code == 422
