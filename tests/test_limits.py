"""Where colour ends: regions that bound it, areas that are kept, and the look of the whole."""

import numpy as np
import pytest
from conftest import colorful

from runtime import (
    Colorizer,
    Hint,
    HintError,
    Hints,
    Keep,
    Look,
    Region,
    Stroke,
    read_image,
    write_image,
)
from runtime.__main__ import main
from runtime.color import lab_from_rgb, rgb_from_lab
from runtime.fullsize.finish import Area, Finish

RGB = colorful(120, 160)
GREY = RGB[..., 1]
SQUARE = [(40, 30), (99, 30), (99, 79), (40, 79)]


@pytest.fixture(scope="module")
def lite():
    return Colorizer(backend="onnxruntime", size=128)


def inside(margin=0):
    mask = np.zeros(GREY.shape, bool)
    mask[30 - margin : 80 + margin, 40 - margin : 100 + margin] = True
    return mask


def mask_of_square():
    return np.ones((50, 60), bool)


@pytest.mark.parametrize("form", ["polygon", "mask"])
def test_only_inside_leaves_the_rest_as_it_would_be_without(lite, form):
    area = (
        {"points": SQUARE} if form == "polygon" else {"mask": mask_of_square(), "origin": (40, 30)}
    )
    other = Hint(10, 100, "#3050c0", 9)
    bounded = [other, Region("#d02020", **area, only_inside=True)]
    free = [other, Region("#d02020", **area)]
    made, spread, without = (lite.colorize(GREY, h) for h in (bounded, free, [other]))
    assert np.array_equal(made[~inside(2)], without[~inside(2)])
    assert not np.array_equal(spread[~inside(2)], without[~inside(2)])  # else it tests nothing
    assert np.abs(made[inside(-3)].astype(int) - spread[inside(-3)]).max() <= 1


def test_clicks_outside_do_not_lose_by_a_bounded_region(lite):
    region = Region("#d02020", SQUARE, only_inside=True)
    made, report = lite.colorize_with_report(GREY, [region, Hint(10, 10, "#20a040", 9)])
    assert made.shape == RGB.shape
    assert all(difference < 25 for difference in report.differences)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_keep_gives_the_very_pixels_back(lite, dtype):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: np.float32(1 / 255)}[dtype]
    photo = RGB.astype(dtype) * dtype(scale)
    made = lite.colorize(photo, [Hint(50, 50, "#2040e0", 30), Keep(SQUARE)])
    assert made.dtype == dtype
    assert np.array_equal(made[inside(-2)], photo[inside(-2)])
    assert not np.array_equal(made[~inside(2)], photo[~inside(2)])


def test_keep_grey_is_grey_and_a_kept_part_of_a_grey_photo_too(lite):
    hints = [Hint(50, 50, "#2040e0", 30)]
    for keep in (Keep(SQUARE, grey=True), Keep(mask=mask_of_square(), origin=(40, 30))):
        made = lite.colorize(GREY, [*hints, keep]).astype(int)
        assert np.ptp(made[inside(-2)], axis=1).max() <= 1
        assert np.ptp(made[~inside(2)], axis=1).max() > 20
    made = lite.colorize(RGB, [*hints, Keep(SQUARE, grey=True)]).astype(int)
    assert np.ptp(made[inside(-2)], axis=1).max() <= 1


def test_a_keep_tells_the_network_nothing(lite):
    hints = [Hint(20, 20, "#c04030", 5)]
    keep = Keep([(100, 90), (150, 90), (150, 110)])
    plain, kept = lite.colorize(GREY, hints), lite.colorize(GREY, [*hints, keep])
    away = np.ones(GREY.shape, bool)
    away[88:113, 98:153] = False
    assert np.array_equal(plain[away], kept[away])
    report = lite.colorize_with_report(GREY, [*hints, keep])[1]
    assert np.isnan(report.differences[1])
    assert report.worst == 0


def test_look(lite):
    hints = [Hint(20, 20, "#c04030", 5)]
    plain = lab_from_rgb(lite.colorize(GREY, hints))
    for saturation in (0.0, 0.5, 1.3):
        made = lab_from_rgb(lite.colorize(GREY, Hints(hints, look=Look(saturation))))
        assert np.abs(made[..., 1:] - saturation * plain[..., 1:]).mean() < 1.0
        assert np.abs(made[..., 0] - plain[..., 0]).mean() < 0.5
    warm = lab_from_rgb(lite.colorize(GREY, Hints(hints, look=Look(warmth=0.5))))
    middle = np.abs(plain[..., 0] - 50) < 15
    assert (warm - plain)[middle][:, 2].mean() > 4
    own = lite.colorize(RGB, Hints(hints, look=Look(strength=0.0)))
    assert np.abs(own.astype(int) - RGB).mean() < 1.0  # the photo's own colours
    half = lab_from_rgb(lite.colorize(RGB, Hints(hints, look=Look(strength=0.5))))
    full = lab_from_rgb(lite.colorize(RGB, hints))
    wanted = (full + lab_from_rgb(RGB)) / 2
    assert np.abs(half - wanted)[..., 1:].mean() < 1.0


@pytest.mark.parametrize(
    "values", [{"saturation": -1}, {"saturation": 4}, {"strength": 2}, {"warmth": "hot"},
               {"warmth": float("nan")}, {"strength": True}],
)  # fmt: skip
def test_wrong_looks_are_refused(values):
    with pytest.raises(HintError, match="must be"):
        Look(**values)


def test_previews_show_what_the_result_has(lite):
    hints = Hints(
        [Hint(20, 20, "#c04030", 5), Region("#2040e0", SQUARE, only_inside=True),
         Keep([(100, 90), (150, 90), (150, 110), (100, 110)])],
        image_size=(160, 120), look=Look(0.8, 0.9, 0.2),
    )  # fmt: skip
    session = lite.open(RGB)
    session.set_hints(hints)
    whole = session.render()
    assert np.array_equal(whole, lite.colorize(RGB, hints))
    assert np.abs(session.preview(160).astype(int) - whole).max() <= 2
    small = session.preview(80)
    assert np.abs(small[50, 60].astype(int) - RGB[100:102, 120:122].mean((0, 1))).max() <= 6
    # The photo's own colours again, which the preview must know of too.
    session.set_look(Look(strength=0.0))
    assert np.abs(session.preview(80).astype(int) - whole[::2, ::2]).mean() > 5
    assert session.undo()
    assert np.array_equal(session.render(), whole)


def test_a_look_does_not_run_the_network(lite, monkeypatch):
    session = lite.open(GREY)
    session.add(Hint(20, 20, "#c04030", 5))
    before = session.preview()
    monkeypatch.setattr(lite._engine, "answer", lambda *args: pytest.fail("it ran"))
    monkeypatch.setattr(lite._engine, "run", lambda *args: pytest.fail("it ran"))
    session.set_look(Look(saturation=0.0))
    assert np.ptp(session.preview().astype(int), axis=2).max() <= 1
    session.set_look(Look())
    assert np.array_equal(session.preview(), before)


def test_batches_bound_their_regions(lite):
    many = [[Hint(20, 20, "#c04030", 5)], [Region("#2040e0", SQUARE, only_inside=True)], None]
    made = lite.batch([GREY, GREY, RGB], many)
    for image, hints, one in zip([GREY, GREY, RGB], many, made, strict=True):
        alone = lite.colorize(image, hints)
        assert np.abs(one.astype(int) - alone).max() <= 1


def test_files_hold_limits_and_look(tmp_path):
    hints = Hints(
        [
            Hint(1, 2, "red"),
            Region("#2040e0", SQUARE, only_inside=True),
            Region("#2040e0", mask=mask_of_square(), origin=(3, 4), only_inside=True),
            Keep(SQUARE, grey=True),
            Keep(mask=mask_of_square(), origin=(5, 6)),
        ],
        image_size=(160, 120),
        look=Look(1.25, 0.75, -0.5),
    )
    hints.save(tmp_path / "h.json")
    assert Hints.load(tmp_path / "h.json") == hints
    assert '"version": 3' in (tmp_path / "h.json").read_text()
    assert '"version": 1' in Hints([Hint(1, 2, "red")]).to_json()
    assert '"version": 2' in Hints([Stroke([(1, 2)], "red")]).to_json()
    scaled = hints.scaled(320, 240)
    assert scaled.look == hints.look
    assert scaled.bounded[0].points[0] == (81, 61)
    assert [keep.grey for keep in scaled.kept] == [True, False]
    for row, sentence in (
        ('{"keep": "blue", "polygon": [[1,1],[2,2],[3,1]]}', "keep"),
        ('{"keep": "grey"}', "keep"),
        ('{"polygon": [[1,1],[2,2],[3,1]], "color": "red", "only_inside": 1}', "only_inside"),
    ):
        with pytest.raises(HintError, match=sentence):
            Hints.from_json(f'{{"format": "hscaunet-hints", "version": 3, "hints": [{row}]}}')
    with pytest.raises(HintError, match="saturation"):
        Hints.from_json(
            '{"format": "hscaunet-hints", "version": 3, "look": {"saturation": 9}, "hints": []}'
        )


def test_areas_far_out_and_in_tiles():
    wide = Area(Region("red", [(39_000, 10), (39_500, 10), (39_500, 3000), (39_000, 3000)]))
    row = wide.pixels(slice(2000, 2002), 40_000)
    assert row[:, 39_000:39_501].min() == 1
    assert row[:, :38_990].max() == 0
    corners = [(10, 0), (16, 19), (0, 7), (20, 7), (4, 19)]
    star = Area(Region("red", corners))  # even-odd: an open middle
    whole = star.pixels(slice(0, 20), 21)
    parts = np.concatenate([star.pixels(slice(r, r + 5), 21) for r in range(0, 20, 5)])
    assert np.array_equal(whole, parts)
    assert whole[10, 10] == 0
    assert whole[4, 10] == 1
    all_of_it = Area(Keep([(0, 0), (20, 0), (20, 19), (0, 19)]))
    assert all_of_it.pixels(slice(0, 20), 21).min() == 1  # the last row and column too


def test_a_photo_that_is_kept_whole_is_itself(lite):
    high, wide = GREY.shape
    corners = [(0, 0), (wide - 1, 0), (wide - 1, high - 1), (0, high - 1)]
    for photo in (RGB, RGB.astype(np.uint16) * 257, np.dstack([RGB, GREY])):
        assert np.array_equal(lite.colorize(photo, [Keep(corners)]), photo)
    assert lite.open(RGB).next_places(3)
    session = lite.open(RGB)
    session.add(Keep(corners))
    assert session.next_places(3) == []  # where a hint does nothing


def test_more_areas_than_can_be_drawn_are_refused(lite):
    small = [Keep([(0, 0), (9, 0), (9, 9)])] * 501
    with pytest.raises(HintError, match="more than 500 areas"):
        lite.colorize(GREY, small)
    # A few bytes that claim much are refused before any is made.
    size = '"width": 15000, "height": 15000, "runs": [1, 1, 224999998]'
    big = f'{{"mask": {{"x": 0, "y": 0, {size}}}, "color": "red"}}'
    head = '{"format": "hscaunet-hints", "version": 2, "image": {"width": 1, "height": 1}, '
    head += '"hints": ['
    with pytest.raises(HintError, match="more strokes and regions"):
        Hints.from_json(head + f"{big}, {big}]}}")
    one = '{"mask": {"x": 0, "y": 0, "width": 1, "height": 1, "runs": [0, 1]}, "color": "red"}'
    tiny = Hints.from_json(head + ", ".join([one] * 300) + "]}")
    with pytest.raises(HintError, match="give fewer"):
        tiny.scaled(4000, 3000)


def test_moving_and_replacing_keep_what_an_area_is(lite):
    session = lite.open(GREY)
    a = session.add(Region("red", mask=np.ones((3, 3), bool), origin=(4, 4), only_inside=True))
    b = session.add(Keep(SQUARE, grey=True))
    session.move(a, 10, 12)
    session.move(b, 41, 31)
    region, keep = session.hints
    assert (region.only_inside, region.origin) == (True, (10, 12))
    assert (keep.grey, keep.anchor) == (True, (41, 31))
    assert Finish.of(Hints([Hint(1, 1, "red")])) is None


def test_colours_beyond_srgb_stay_within(lite):
    made = lite.colorize(GREY, Hints([Hint(20, 20, "red", 9)], look=Look(3.0, 1.0, 1.0)))
    lab = lab_from_rgb(made)
    assert np.abs(rgb_from_lab(lab[..., 0], lab[..., 1:]).astype(int) - made).max() <= 1


def test_on_the_command_line(tmp_path, lite, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("p.png", RGB)
    mask = inside().astype(np.uint8) * 255
    write_image("m.png", mask)
    words = ["p.png", "-o", "q.png", "--backend", "onnxruntime", "--size", "128"]
    assert main([*words, "--only-inside", "#d02020,m.png", "--saturation", "0.5"]) == 0
    wanted = Hints([Region("#d02020", mask=mask, only_inside=True)], look=Look(saturation=0.5))
    assert np.array_equal(read_image("q.png"), lite.colorize(RGB, wanted))
    assert main([*words, "--hint", "50,50,#2040e0,30", "--keep", "m.png"]) == 0
    assert np.array_equal(read_image("q.png")[inside(-2)], RGB[inside(-2)])
    assert main([*words, "--keep-grey", "m.png", "--strength", "2"]) == 1
    assert "strength must be 0 to 1" in capsys.readouterr().err
    write_image("small.png", mask[:50])
    assert main([*words, "--keep", "small.png"]) == 1
    assert "give a mask of its size" in capsys.readouterr().err
    for wrong in (["--only-inside", "red"], ["--keep", "m.png", "--out-dir", "o"]):
        with pytest.raises(SystemExit):
            main([*words[: 3 if "red" in wrong else 1], *wrong])
    assert main(["p.png", "--out-dir", "o", "--saturation", "0", *words[3:]]) == 0
    assert np.ptp(read_image("o/p.png").astype(int), axis=2).max() <= 1
    with pytest.raises(SystemExit):
        main(["p.png", "--only-inside", "red,m.png"])
    assert main(["p.png", "-o", "m.png", "--keep", "m.png", *words[3:]]) == 1  # which is read
    assert "written over itself" in capsys.readouterr().err
