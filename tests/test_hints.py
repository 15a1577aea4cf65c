import json

import cv2
import numpy as np
import pytest
from conftest import colorful

from runtime import Hint, HintError, Hints, Region, Stroke
from runtime.color import lab_from_rgb
from runtime.hints import cell_span, parse_hint


def ab_of(color):
    return lab_from_rgb(np.array([[color]], np.uint8))[0, 0, 1:]


def test_hint_takes_hex_and_triples_and_numpy_numbers():
    assert Hint(1, 2, "#0a0B0c").color == (10, 11, 12)
    assert Hint(np.int64(1), 2, np.array([1, 2, 3], np.uint8)).color == (1, 2, 3)
    assert Hint(1, 2, (1, 2, 3)).hex == "#010203"


@pytest.mark.parametrize(
    "args",
    [
        (-1, 0, "#000000"),
        (0, 0, "reddish"),
        (0, 0, "#ff000080"),
        (0, 0, (255, 0, 0, 128)),
        (0, 0, (1.0, 0.0, 0.0)),
        (0, 0, "#12345"),
        (0, 0, "#1234567"),
        (0, 0, (0, 0)),
        (0, 0, (0, 0, 256)),
        (0, 0, (0, 0, -1)),
        (0, 0, (0.5, 0, 0)),
        (0, 0, None),
        (0, 0, 5),
        (0.5, 0, "#000000"),
        (float("nan"), 0, "#000000"),
        (0, True, "#000000"),
        ("1", 0, "#000000"),
        (0, 0, "#000000", 0),
        (0, 0, "#000000", 1.5),
        (1 << 40, 0, "#000000"),
    ],
)
def test_bad_hints_say_so(args):
    with pytest.raises(HintError):
        Hint(*args)


def test_a_one_pixel_hint_on_a_large_photo_reaches_the_network_at_full_strength():
    ab, mask = Hints([Hint(3999, 2999, "#c03020")]).rasterize((4000, 3000), (304, 224))
    assert mask.sum() == 1
    assert mask[223, 303]
    assert np.allclose(ab[223, 303], ab_of((0xC0, 0x30, 0x20)), atol=1e-4)


def test_the_later_of_two_hints_in_one_cell_wins_whatever_their_sizes():
    for sizes in [(1, 1), (64, 1), (1, 64), (64, 64)]:
        hints = [Hint(100, 100, "#ff0000", sizes[0]), Hint(101, 101, "#0000ff", sizes[1])]
        ab, mask = Hints(hints).rasterize((1024, 1024), (64, 64))
        assert mask[6, 6]
        assert np.allclose(ab[6, 6], ab_of((0, 0, 255)), atol=1e-4), sizes


def test_a_square_covers_the_cells_whose_centres_it_holds():
    _, mask = Hints([Hint(10, 20, "#ff0000", 3)]).rasterize((64, 64), (64, 64))
    assert {tuple(p) for p in np.argwhere(mask)} == {
        (y, x) for y in (19, 20, 21) for x in (9, 10, 11)
    }
    _, mask = Hints([Hint(0, 0, "#ff0000", 3)]).rasterize((64, 64), (64, 64))
    assert mask.sum() == 4  # cut by the corner
    _, mask = Hints([Hint(32, 32, "#ff0000", 1000)]).rasterize((64, 64), (64, 64))
    assert mask.all()


def test_drawing_many_hints_at_once_is_drawing_them_one_by_one():
    rng = np.random.default_rng(0)
    hints = [
        Hint(x, y, tuple(c), s)
        for x, y, c, s in zip(
            rng.integers(0, 500, 300).tolist(),
            rng.integers(0, 300, 300).tolist(),
            rng.integers(0, 256, (300, 3)).tolist(),
            rng.choice([1, 1, 2, 30], 300).tolist(),
            strict=True,
        )
    ]
    ab, mask = Hints(hints).rasterize((500, 300), (160, 96))
    slow_ab, slow_mask = np.zeros_like(ab), np.zeros_like(mask)
    for hint in hints:
        one_ab, one_mask = Hints([hint]).rasterize((500, 300), (160, 96))
        assert one_mask.any()
        slow_ab[one_mask], slow_mask[one_mask] = one_ab[one_mask], True
    assert np.array_equal(mask, slow_mask)
    assert np.allclose(ab, slow_ab, atol=1e-4)  # OpenCV rounds the last pixels of a row otherwise


def test_cell_span_gives_numpy_and_torch_the_same():
    torch = pytest.importorskip("torch")
    center, size = np.arange(200), np.arange(200) % 13 + 1
    for scale, cells in [(1.0, 200), (0.3, 60), (2.5, 500)]:
        ours = cell_span(center, size, scale, cells)
        places = torch.from_numpy(center).double()
        theirs = cell_span(places, torch.from_numpy(size), scale, cells)
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(a, b.numpy())
            assert ((a >= 0) & (a <= cells)).all()
        assert (ours[1] > ours[0]).all()


def test_a_hint_outside_the_image_is_refused_with_its_place():
    with pytest.raises(HintError, match=r"Hint 1 at \(64, 3\) lies outside the image of 64x32"):
        Hints([Hint(63, 31, "#000000"), Hint(64, 3, "#000000")]).rasterize((64, 32), (64, 32))
    with pytest.raises(HintError, match="belong to an image of 10x10"):
        Hints([], image_size=(10, 10)).check((20, 20))


def test_hint_files_round_trip_and_stay_readable(tmp_path):
    hints = Hints([Hint(1, 2, "#010203"), Hint(4, 5, "#aabbcc", 7)], image_size=(10, 20))
    hints.save(tmp_path / "h.json")
    assert Hints.load(tmp_path / "h.json") == hints
    document = json.loads((tmp_path / "h.json").read_text())
    assert document == {
        "format": "hscaunet-hints",
        "version": 1,
        "image": {"width": 10, "height": 20},
        "hints": [
            {"x": 1, "y": 2, "color": "#010203", "size": 1},
            {"x": 4, "y": 5, "color": "#aabbcc", "size": 7},
        ],
    }
    assert Hints.from_json(Hints().to_json()) == Hints()
    assert len((tmp_path / "h.json").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "format"),
        ('{"format": "other"}', "format"),
        ('{"format": "hscaunet-hints", "version": 9, "hints": []}', "install a newer release"),
        ('{"format": "hscaunet-hints", "version": 1}', "list of hints"),
        ('{"format": "hscaunet-hints", "version": 1, "hints": [3]}', "Hint 0"),
        ('{"format": "hscaunet-hints", "version": 1, "hints": [{"x": 1, "y": 2}]}', "Hint 0"),
        (
            '{"format":"hscaunet-hints","version":1,"hints":[{"x":1.5,"y":2,"color":"#000000"}]}',
            "whole number",
        ),
        (
            '{"format":"hscaunet-hints","version":1,"hints":[{"x":NaN,"y":2,"color":"#000000"}]}',
            "whole number",
        ),
        (
            '{"format": "hscaunet-hints", "version": 1, "image": {"width": 0}, "hints": []}',
            "image height",
        ),
    ],
)
def test_bad_hint_files_say_what_is_wrong(text, message, tmp_path):
    (tmp_path / "h.json").write_text(text)
    with pytest.raises(HintError, match=message):
        Hints.load(tmp_path / "h.json")


def test_a_missing_hint_file_is_a_hint_error(tmp_path):
    with pytest.raises(HintError, match="cannot be read"):
        Hints.load(tmp_path / "none.json")


def test_hints_from_an_image_and_its_mask():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    mask = (rng.random((40, 60)) < 0.05).astype(np.uint8) * 255
    mask[0, 0] = 254  # not quite
    hints = Hints.from_image(image, mask)
    assert len(hints) == (mask == 255).sum()
    ab, drawn = hints.rasterize((60, 40), (60, 40))
    assert np.array_equal(drawn, mask == 255)
    assert np.allclose(ab[drawn], lab_from_rgb(image)[drawn][:, 1:])
    assert hints == Hints.from_image(image, np.repeat(mask[..., None], 3, 2))
    with pytest.raises(HintError, match="one size"):
        Hints.from_image(image, mask[:30])
    with pytest.raises(HintError, match="uint8"):
        Hints.from_image(image.astype(float), mask)
    with pytest.raises(HintError, match="uint8"):
        Hints.from_image(image, mask == 255)


def test_hints_join_and_scale():
    a = Hints([Hint(9, 19, "#010203", 4)], image_size=(10, 20))
    scaled = a.scaled(20, 40)
    assert scaled[0] == Hint(19, 39, "#010203", 8)
    scaled.check((20, 40))
    assert len(a + Hints([Hint(0, 0, "#000000")])) == 2
    with pytest.raises(HintError, match="different sizes"):
        a + scaled
    with pytest.raises(HintError, match="image_size"):
        Hints().scaled(3, 3)


def test_hints_of_the_command_line():
    assert parse_hint("3, 4,#ff0000") == Hint(3, 4, "#ff0000")
    assert parse_hint("3,4,#ff0000,9") == Hint(3, 4, "#ff0000", 9)
    assert parse_hint("3.0,4,red") == Hint(3, 4, "#ff0000")
    for text in (
        "",
        "1,2",
        "1,2,#ff0000,3,4",
        "a,2,#ff0000",
        "1,2,reddish",
        "1.5,2,red",
        "nan,2,red",
        "inf,2,red",
    ):
        with pytest.raises(HintError):
            parse_hint(text)


def test_hints_are_made_of_hints():
    with pytest.raises(HintError, match="made of Hint"):
        Hints([(1, 2)])
    for wrong in (5, "text", np.zeros((2, 3))):
        with pytest.raises(HintError):
            Hints.coerce(wrong)
    assert len(Hints.coerce(None)) == 0


def cells_of(hint, height=48, width=64, cells=(48, 64)):
    return Hints([hint]).rasterize((width, height), cells[::-1])[1]


def test_a_stroke_fills_what_is_half_its_width_away():
    mask = cells_of(Stroke([(10, 10), (50, 10)], "#ff0000", 7))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max()) == (7, 13)
    assert (columns.min(), columns.max()) == (7, 53)
    assert mask[7, 30]
    assert not mask[7, 7]  # its ends are round
    assert cells_of(Stroke([(5, 6)], "#ff0000")).sum() == 1
    dot = cells_of(Stroke([(20, 20)], "#ff0000", 9))
    assert abs(dot.sum() - np.pi * 4.5**2) < 12


@pytest.mark.parametrize("seed", range(5))
def test_a_thin_stroke_has_no_gaps_at_any_size(seed):
    rng = np.random.default_rng(seed)
    points = [(int(x), int(y)) for x, y in rng.integers(0, 1000, (6, 2))]
    mask = cells_of(Stroke(points, "#ff0000"), 1000, 1000, (64, 80))
    parts, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert parts == 2  # the stroke and the rest
    for x, y in points:
        assert mask[int((y + 0.5) * 0.064), int((x + 0.5) * 0.08)]


def test_a_polygon_fills_what_is_inside_by_the_even_odd_rule():
    mask = cells_of(Region("#ff0000", [(10, 10), (40, 10), (40, 30), (10, 30)]))
    assert mask[10:30, 10:40].all()
    assert mask.sum() == 20 * 30
    star = [(32, 2), (50, 46), (4, 18), (60, 18), (14, 46)]
    mask = cells_of(Region("#ff0000", star))
    assert not mask[24, 32]  # the middle of a star is surrounded twice
    assert mask[10, 32]
    assert cells_of(Region("#ff0000", [(5, 5), (5, 5), (5, 5)])).sum() == 1
    tiny = Region("#ff0000", [(500, 500), (503, 500), (501, 503)])
    assert cells_of(tiny, 1000, 1000, (16, 16)).sum() == 1


def test_a_mask_region_is_its_mask_at_any_size():
    rng = np.random.default_rng(0)
    inside = cv2.GaussianBlur(rng.random((48, 64)), (0, 0), 4) > 0.5
    region = Region("#ff0000", mask=inside)
    assert np.array_equal(cells_of(region), inside)
    as_bytes = Region("#ff0000", mask=inside.astype(np.uint8) * 255)
    assert as_bytes == region
    moved = Region("#ff0000", mask=inside[10:30, 20:50], origin=(20, 10))
    assert np.array_equal(cells_of(moved)[10:30, 20:50], inside[10:30, 20:50])
    large = np.repeat(np.repeat(inside, 5, 0), 5, 1)
    assert np.array_equal(cells_of(Region("#ff0000", mask=large), 240, 320), inside)
    line = np.zeros((480, 640), bool)
    line[100] = True
    thin = cells_of(Region("#ff0000", mask=line), 480, 640)
    assert thin.sum() == 64  # thinner than half a cell, and there all the same


def test_later_shapes_win_and_all_kinds_mix():
    ring = Region("#00ff00", [(0, 0), (60, 0), (60, 40), (0, 40)])
    hints = Hints([ring, Hint(20, 20, "#ff0000", 5), Stroke([(20, 20), (40, 20)], "#0000ff")])
    owner = hints.owners((64, 48), (64, 48))
    assert owner[20, 20] == 2
    assert owner[18, 20] == 1
    assert owner[5, 5] == 0
    assert owner[45, 62] == -1
    assert [type(h).__name__ for h in hints] == ["Region", "Hint", "Stroke"]
    assert hints[1:][1] == hints[2]
    assert hints[-1] == hints[2]
    assert (hints[:1] + hints[1:]) == hints
    assert hints.without(0)[1] == hints[2]
    assert hints.replaced(1, ring)[1] == ring
    with pytest.raises(IndexError):
        hints[3]
    with pytest.raises(HintError, match="outside"):
        hints.check((60, 41))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stroke([], "#ff0000"), "1 to"),
        (lambda: Stroke([(1, 2, 3)], "#ff0000"), "pairs"),
        (lambda: Stroke(5, "#ff0000"), "pairs"),
        (lambda: Stroke([(1, 2)], "#ff0000", 0), "at least 1"),
        (lambda: Stroke([(1, -2)], "#ff0000"), "negative"),
        (lambda: Stroke([(1.5, 2)], "#ff0000"), "whole number"),
        (lambda: Stroke([(0, 0)] * 70_000, "#ff0000"), "points"),
        (lambda: Region("#ff0000", [(1, 2), (3, 4)]), "3 to"),
        (lambda: Region("#ff0000"), "one of the two"),
        (lambda: Region("reddish", [(1, 2), (3, 4), (5, 6)]), "#rrggbb"),
        (lambda: Region("#ff0000", mask=np.zeros((4, 4), bool)), "nothing inside"),
        (lambda: Region("#ff0000", mask=np.zeros((4, 4))), "bool or uint8"),
        (lambda: Region("#ff0000", mask=np.ones((4, 4), bool), origin=(-1, 0)), "negative"),
    ],
)
def test_wrong_shapes_say_what_is_wrong(make, message):
    with pytest.raises(HintError, match=message):
        make()


def test_hints_from_a_layer_and_from_a_reference():
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    alpha = np.zeros((30, 40), np.uint8)
    alpha[3, 4], alpha[5, 6], alpha[7, 8] = 255, 128, 127
    hints = Hints.from_layer(np.dstack([rgb, alpha]))
    assert {(h.x, h.y): h.color for h in hints} == {
        (4, 3): tuple(rgb[3, 4].tolist()),
        (6, 5): tuple(rgb[5, 6].tolist()),
    }
    deep = np.dstack([rgb, alpha]).astype(np.uint16) * 257
    assert Hints.from_layer(deep) == hints
    floats = (np.dstack([rgb, alpha]) / 255).astype(np.float32)
    assert Hints.from_layer(floats) == hints
    assert hints.image_size == (40, 30)

    picked = Hints.from_reference(rgb, [(4, 3), (20, 10)], size=3)
    assert picked[1].size == 3
    mean = rgb[9:12, 19:22].reshape(-1, 3).mean(0)
    assert np.abs(np.array(picked[1].color) - mean).max() <= 0.5
    half = Hints.from_reference(rgb, [(40, 20)], image_size=(80, 60))
    assert half[0].color == tuple(rgb[10, 20].tolist())
    assert half.image_size == (80, 60)
    with pytest.raises(HintError, match="outside"):
        Hints.from_reference(rgb, [(40, 0)])
    with pytest.raises(HintError, match="RGBA"):
        Hints.from_layer(rgb)
    with pytest.raises(HintError, match="NaN"):
        Hints.from_layer(np.full((2, 2, 4), np.nan, np.float32))


def test_files_with_shapes_are_of_version_2_and_others_still_of_version_1(tmp_path):
    mask = np.random.default_rng(0).random((9, 11)) < 0.4
    mask[0, 0] = True
    hints = Hints(
        [
            Hint(5, 6, "#010203", 7),
            Stroke([(1, 2), (3, 4)], "#aabbcc", 5),
            Region("#112233", [(1, 2), (30, 4), (9, 20)]),
            Region("#445566", mask=mask, origin=(20, 10)),
        ],
        image_size=(40, 30),
    )
    hints.save(tmp_path / "h.json")
    assert Hints.load(tmp_path / "h.json") == hints
    assert '"version": 2' in hints.to_json()
    assert '"version": 1' in hints[:1].to_json()
    bigger = hints.scaled(80, 60)
    assert bigger[1] == Stroke([(3, 5), (7, 9)], "#aabbcc", 10)
    assert np.array_equal(bigger[3].mask[::2, ::2], hints[3].mask)
    with pytest.raises(HintError, match="cannot be written"):
        hints.save(tmp_path / "no" / "h.json")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"stroke": [[1, 2]]}', "color"),
        ('{"stroke": [[1, 2]], "polygon": [], "color": "#000000"}', "at most one"),
        ('{"stroke": [[1]], "color": "#000000"}', "pairs"),
        ('{"polygon": [[1, 2]], "color": "#000000"}', "3 to"),
        ('{"mask": 5, "color": "#000000"}', "mask"),
        ('{"mask": {"x":0,"y":0,"width":2,"height":2,"runs":[1,2]}, "color": "#000000"}', "add up"),
        ('{"mask": {"x":0,"y":0,"width":9.5,"height":2,"runs":[1]}, "color": "#000000"}', "whole"),
        (
            '{"mask": {"x":0,"y":0,"width":999999,"height":999999,"runs":[1]}, "color": "#000000"}',
            "size",
        ),
        ('{"mask": {"x":0,"y":0,"width":2,"height":2,"runs":[4]}, "color": "#000000"}', "nothing"),
        ('{"x": 1, "y": 2, "color": [1, 2]}', "#rrggbb"),
    ],
)
def test_bad_shapes_in_files_say_what_is_wrong(row, message):
    text = '{"format": "hscaunet-hints", "version": 2, "hints": [%s]}' % row  # noqa: UP031
    with pytest.raises(HintError, match=message):
        Hints.from_json(text)


def test_a_file_with_endless_shapes_is_refused():
    row = '{"stroke": [[1, 2]], "color": "#000000"}'
    text = '{"format": "hscaunet-hints", "version": 2, "hints": [%s]}'
    with pytest.raises(HintError, match="more strokes and regions"):
        Hints.from_json(text % ",".join([row] * 20_001))


def test_thin_masks_have_no_gaps():
    slanted = np.zeros((1000, 1000), np.uint8)
    cv2.line(slanted, (0, 0), (999, 900), 255, 1)
    for mask in (np.eye(1000, dtype=bool), slanted):
        cells = cells_of(Region("#ff0000", mask=mask), 1000, 1000, (256, 256))
        assert set(np.nonzero(cells)[1]) == set(range(256))
    line = np.zeros((1000, 1000), bool)
    line[:, 500] = True
    line[400:420, 490:520] = True  # with a blob on it
    cells = cells_of(Region("#ff0000", mask=line), 1000, 1000, (256, 256))
    assert set(np.nonzero(cells)[0]) >= set(range(256)) - {101, 108}


def test_a_layer_that_is_painted_all_over_stays_within_a_million_hints(monkeypatch):
    monkeypatch.setattr("runtime.hints.collection.MAX_PIXEL_HINTS", 1000)
    rgb = colorful(120, 160)
    hints = Hints.from_layer(np.dstack([rgb, np.full((120, 160), 255, np.uint8)]))
    assert len(hints) <= 1000
    mask = hints.rasterize((160, 120), (32, 24))[1]
    assert mask.all()
    hints.check((160, 120))


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    many = Hints([Stroke([(0, 0)], "#000000")] * 20_001)
    with pytest.raises(HintError, match="more than a hint file may hold"):
        many.save(tmp_path / "h.json")
    assert list(tmp_path.iterdir()) == []


def test_hints_that_lie_outside_their_own_image_are_not_scaled():
    mask = np.ones((300, 300), bool)
    hints = Hints([Region("#ff0000", mask=mask)], image_size=(1, 1))
    with pytest.raises(HintError, match="outside the image of 1x1"):
        hints.scaled(4000, 3000)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hints([], image_size=5),
        lambda: Hints([], image_size="ab"),
        lambda: Hints([], image_size=(0, 0)),
        lambda: Hints([], image_size=(5, 5)).scaled(0, 0),
        lambda: Hints([], image_size=(5, 5)).scaled("a", 1),
        lambda: Hints.from_reference(np.zeros((4, 4, 3), np.uint8), [1, 2]),
        lambda: Hints.from_reference(np.zeros((4, 4, 3), np.uint8), None),
        lambda: Hints.from_image(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 0), np.uint8)),
        lambda: Hints.from_json(None),
        lambda: Hints.load(None),
        lambda: Hints.load("a\0b"),
        lambda: Hints().save("a\0b"),
        lambda: Hint(10**5000, 0, "#000000"),
        lambda: Hint(0, 0, "#" + "a" * 100_000),
    ],
)
def test_wrong_arguments_are_errors_of_ours(make):
    with pytest.raises(HintError) as caught:
        make()
    assert len(str(caught.value)) < 400


def test_numbers_may_be_of_numpy():
    assert Hint(np.int64(3), np.uint8(4), np.array([1, 2, 3]), np.int32(5)) == Hint(
        3, 4, (1, 2, 3), 5
    )


@pytest.mark.parametrize(
    "color",
    ["#f00", "ff0000", "FF0000", "red", " Red ", "#ff0000ff", [255, 0, 0], (255.0, 0.0, 0.0),
     np.array([255, 0, 0], np.uint8), np.float32([255, 0, 0]), (255, 0, 0, 255)],
)  # fmt: skip
def test_colours_as_people_write_them(color):
    assert Hint(1, 2, color).color == (255, 0, 0)


def test_whole_floats_are_whole_numbers():
    assert Hint(10.0, np.float32(3), "red", 5.0) == Hint(10, 3, "red", 5)
    row = '{"x": 10.0, "y": 3, "color": [255, 0, 0]}'
    text = '{"format": "hscaunet-hints", "version": 1, "hints": [%s]}' % row  # noqa: UP031
    assert Hints.from_json(text) == Hints([Hint(10, 3, "red")])


def test_hints_come_in_every_form(tmp_path):
    wanted = Hints([Hint(1, 2, "red", 3)])
    for form in (
        Hint(1, 2, "red", 3),
        (1, 2, "red", 3),
        [(1, 2, "red", 3)],
        [[1, 2, "red", 3]],
        {"x": 1, "y": 2, "color": "red", "size": 3},
        [{"x": 1, "y": 2, "color": "red", "size": 3}],
        iter([Hint(1, 2, "red", 3)]),
    ):
        assert Hints.coerce(form) == wanted
    assert len(Hints.coerce((Hint(1, 2, "red"), Hint(1, 3, "red"), Hint(1, 4, "red")))) == 3
    Hints(wanted, image_size=(20, 10)).save(tmp_path / "h.json")
    assert Hints.coerce(tmp_path / "h.json").image_size == (20, 10)
    assert Hints.coerce(str(tmp_path / "h.json"), (40, 20)).image_size == (40, 20)


def test_the_spellings_of_before_work_and_warn():
    stroke = Stroke([(1, 2), (3, 4)], "red", size=5)
    with pytest.warns(DeprecationWarning, match="size"):
        assert Stroke([(1, 2), (3, 4)], "red", width=5) == stroke
    with pytest.warns(DeprecationWarning, match="size"):
        assert stroke.width == 5
    hints = Hints([stroke])
    with pytest.warns(DeprecationWarning, match="pairs"):
        before = hints.rasterize(30, 40, 15, 20)
    for one, other in zip(before, hints.rasterize((40, 30), (20, 15)), strict=True):
        assert np.array_equal(one, other)
    with pytest.warns(DeprecationWarning, match="check"):
        hints.check(30, 40)
    assert Hints.from_json(hints.to_json()) == hints


def test_what_is_added_is_drawn_over_what_was_drawn():
    size, cells = (64, 48), (32, 24)
    hints = Hints(image_size=size)
    drawn = hints, hints.owners(size, cells)
    rng = np.random.default_rng(0)
    for i in range(40):
        x, y = rng.integers(0, 60), rng.integers(0, 44)
        more = [Hint(x, y, "red", 5)] if i % 3 else [Stroke([(x, y), (5, 5)], "blue", 3)]
        hints = hints + Hints(more)
        owner = hints.owners(size, cells, drawn=drawn)
        assert np.array_equal(owner, hints.owners(size, cells))
        drawn = hints, owner
    fewer = hints.without(3)
    assert np.array_equal(fewer.owners(size, cells, drawn=drawn), fewer.owners(size, cells))


def test_sums_of_hints_can_be_pickled():
    import pickle

    hints = Hints([Hint(1, 2, "red")]) + Hints([Hint(3, 4, "blue")])
    assert pickle.loads(pickle.dumps(hints)) == hints


def test_keywords_of_before_work_and_warn():
    hints = Hints([Hint(1, 2, "red")])
    with pytest.warns(DeprecationWarning, match="check"):
        hints.check(height=30, width=40)
    with pytest.warns(DeprecationWarning, match="pairs"):
        made = hints.rasterize(height=30, width=40, cells_high=15, cells_wide=20)
    assert made[1].shape == (15, 20)
    with pytest.raises(HintError, match="not both"):
        Stroke([(1, 2)], "red", 3, width=9)
    with pytest.raises(HintError, match="size"):
        Hints.coerce({"x": 1, "y": 2, "color": "red", "size": 3, "width": 4})
    for text in ("rgb(300,0,0)", "hsl(0,500%,50%)"):
        with pytest.raises(HintError):
            Hint(1, 2, text)
