"""Live editing: hints of every kind, history, previews, reports and suggestions."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import colorful

from runtime import Colorizer, Hint, HintError, Hints, ImageError, Region, Stroke
from runtime.color import lab_from_rgb
from runtime.hint_report import ciede2000, hint_report


class Counting(Colorizer):
    """Counts the engine's calls: those that look at a photo, and those that answer hints."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.looks = self.answers = 0
        look, answer = self._engine.look, self._engine.answer

        def looking(x):
            self.looks += 1
            return look(x)

        def answering(x, photo):
            self.answers += 1
            return answer(x, photo)

        self._engine.look, self._engine.answer = looking, answering


@pytest.fixture(scope="module")
def tiny(tiny_onnx):
    return Counting(tiny_onnx, backend="onnxruntime", size=64)


@pytest.fixture(scope="module")
def lite():
    return Colorizer(backend="onnxruntime", size=128)


@pytest.fixture
def photo():
    return colorful(120, 160)[..., 1]


def test_a_session_gives_what_colorize_gives(tiny, photo):
    session = tiny.open(photo)
    session.add(Hint(10, 20, "#c04030", 9))
    session.add(Stroke([(50, 50), (100, 60)], "#3040c0", 5))
    session.add(Region("#30c040", [(100, 80), (150, 80), (120, 110)]))
    assert np.array_equal(session.render(), tiny.colorize(photo, session.hints))
    assert np.array_equal(session.preview(10_000), session.render())
    assert session.preview(80).shape == (60, 80, 3)
    assert (session.width, session.height) == (160, 120)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_previews_are_8_bits_and_renders_keep_theirs(tiny, photo, dtype):
    deep = (photo / 255 * (65535 if dtype == np.uint16 else 1)).astype(dtype)
    session = tiny.open(np.dstack([deep] * 4))
    assert session.preview(50).dtype == np.uint8
    assert session.preview(500).shape == (120, 160, 3)
    assert session.render().dtype == dtype
    assert session.render().shape == (120, 160, 4)


def test_editing_and_history(tiny, photo):
    session = tiny.open(photo)
    first = session.add(Hint(10, 20, "#c04030"))
    second = session.add(Stroke([(50, 50), (60, 60)], "#3040c0", 5))
    session.move(first, 30, 40)
    session.move(second, 70, 80)
    assert list(session.hints) == [
        Hint(30, 40, "#c04030"),
        Stroke([(70, 80), (80, 90)], "#3040c0", 5),
    ]
    session.replace(first, Hint(30, 40, "#00ff00"))
    session.remove(second)
    assert session.ids == (first,)
    assert session.hints[0].color == (0, 255, 0)
    states = [session.hints]
    while session.undo():
        states.append(session.hints)
    assert [len(s) for s in states] == [1, 2, 2, 2, 2, 1, 0]
    for wanted in states[-2::-1]:
        assert session.redo()
        assert session.hints == wanted
    assert not session.redo()
    session.undo()
    third = session.add(Hint(1, 1, "#ffffff"))
    assert third not in (first, second)
    assert not session.redo()  # a new change ends what could be redone
    with pytest.raises(HintError, match="no hint 99"):
        session.move(99, 1, 1)
    with pytest.raises(HintError, match="outside the image"):
        session.move(first, 160, 1)
    with pytest.raises(HintError, match="outside the image"):
        session.add(Hint(0, 120, "#000000"))
    assert session.ids == (first, second, third)


def test_only_what_changed_is_computed_again(tiny, photo):
    session = tiny.open(photo)
    tiny.looks = tiny.answers = 0
    session.preview(100)
    session.preview(100)
    session.preview(50)
    session.render()
    session.report()
    assert tiny.answers == 1
    number = session.add(Hint(5, 5, "#ff0000"))
    session.preview(100)
    session.render()
    assert tiny.answers == 2
    session.move(number, 6, 6)
    session.undo()
    session.undo()
    session.add(Hint(5, 5, "#ff0000"))
    session.preview()
    assert tiny.answers == 3
    session.suggest(30, 40)
    assert tiny.looks == 1  # the photo's part is kept, whatever is asked of the hints
    shown = session.preview(100)
    shown[:] = 0  # the caller's own
    assert session.preview(100).any()


def test_hints_of_a_session_are_saved_and_loaded_at_any_size(tiny, photo, tmp_path):
    session = tiny.open(photo)
    mask = np.zeros((40, 40), bool)
    mask[3:30, 4:31:2] = True
    session.set_hints(
        [
            Hint(10, 20, "#c04030", 9),
            Stroke([(50, 50), (100, 60)], "#3040c0", 5),
            Region("#30c040", [(100, 80), (150, 80), (120, 110)]),
            Region("#102030", mask=mask, origin=(60, 10)),
        ]
    )
    session.save_hints(tmp_path / "h.json")
    other = tiny.open(photo)
    other.load_hints(tmp_path / "h.json")
    assert other.hints == session.hints
    assert np.array_equal(other.render(), session.render())
    larger = tiny.open(np.repeat(np.repeat(photo, 2, 0), 2, 1))
    larger.load_hints(tmp_path / "h.json")
    assert larger.hints[0] == Hint(21, 41, "#c04030", 18)
    near = np.abs(larger.preview(160).astype(int) - session.preview(160))
    assert np.median(near) <= 2
    assert session.undo()
    assert len(session.hints) == 0


def test_wrong_arguments_are_said(tiny, photo):
    session = tiny.open(photo)
    for wrong in (0, -1, 1.5, "9", True):
        with pytest.raises(ImageError, match="max_side"):
            session.preview(wrong)
    with pytest.raises(HintError, match="image of 5x5"):
        session.set_hints(Hints(image_size=(5, 5)))
    with pytest.raises(HintError, match="k must be"):
        session.suggest(1, 1, 0)
    with pytest.raises(HintError, match="outside"):
        session.suggest(160, 1)
    with pytest.raises(ImageError):
        tiny.open(np.zeros((4, 4), np.int32))


def test_threads_edit_one_session_without_losing_a_hint(tiny, photo):
    session = tiny.open(photo)

    def work(i):
        number = session.add(Hint(i, i, (i, 0, 0)))
        session.preview(40)
        if i % 2:
            session.remove(number)
        return number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(work, range(64)))
    assert len(set(numbers)) == 64
    assert sorted(h.x for h in session.hints) == list(range(0, 64, 2))


def test_undo_forgets_before_it_fills_the_memory(tiny, photo, monkeypatch):
    monkeypatch.setattr("runtime.session._UNDO_BYTES", 50 * 27)
    session = tiny.open(photo)
    for i in range(40):
        session.add(Hint(i, 0, "#000000"))
    steps = 0
    while session.undo():
        steps += 1
    assert 1 <= steps < 5


def test_dragging_a_large_region_shares_its_mask(tiny, photo):
    session = tiny.open(photo)
    number = session.add(Region("#ff0000", mask=np.ones((60, 60), bool)))
    first = session.hints[0].mask
    for i in range(20):
        session.move(number, i, i)
    assert session.hints[0].mask is first
    assert session.hints[0].anchor == (19, 19)
    with pytest.raises(HintError):
        session.move(number, 150, 5)


def test_suggestions_are_distinct_colours_at_the_photos_lightness(lite):
    photo = colorful(96, 128)[..., 1]
    session = lite.open(photo)
    # Where the photo is of middling lightness, so that there is room for colours.
    y, x = np.argwhere(np.abs(photo.astype(int) - 120) < 15)[0].tolist()
    for k in (1, 5, 12):
        colors = session.suggest(x, y, k)
        assert len(colors) == k
        labs = lab_from_rgb(np.array(colors, np.uint8)[None])[0]
        for i in range(k):
            assert all(ciede2000(labs[i], labs[j]) >= 5.9 for j in range(i))
        assert np.ptp(labs[:, 0]) < 12
    # What the network gives now comes first.
    shown = session.render()[y, x].astype(int)
    assert np.abs(np.array(session.suggest(x, y, 1)[0]) - shown).max() < 12
    session.add(Hint(x, y, "#b03020", 9))
    lab = lab_from_rgb(np.array([[session.suggest(x, y, 1)[0]]], np.uint8))[0, 0]
    assert lab[1] > 10  # reddish now
    black = lite.open(np.zeros((40, 40), np.uint8))
    assert 1 <= len(black.suggest(5, 5, 8)) <= 8


def test_ciede2000_agrees_with_scikit_image():
    color = pytest.importorskip("skimage.color")
    rng = np.random.default_rng(0)
    one = rng.uniform((0, -100, -100), (100, 100, 100), (2000, 3))
    other = np.where(rng.random((2000, 1)) < 0.5, one + rng.normal(0, 2, (2000, 3)), one[::-1])
    one[:50, 1:] = 0
    assert np.allclose(ciede2000(one, other), color.deltaE_ciede2000(one, other), atol=1e-9)


def test_the_report_says_how_well_each_hint_survived(tiny, photo):
    hints = Hints(
        [Hint(20, 20, "#c04030", 9), Hint(100, 80, "#3040c0", 9), Hint(20, 20, "#777777")]
    )
    L = np.full((48, 64), 50, np.float32)
    ab, _ = hints.rasterize((160, 120), (64, 48))
    exact = hint_report(L, np.moveaxis(ab, -1, 0).copy(), hints, 120, 160)
    assert max(exact.differences) < 0.5
    off = np.moveaxis(ab, -1, 0).copy()
    off[:, 30:] = 0
    report = hint_report(L, off, hints, 120, 160)
    assert report.worst == 1
    assert report.differences[1] > 10 > report.differences[0]
    covered = Hints([Hint(20, 20, "#c04030"), Hint(20, 20, "#3040c0", 9)])
    report = hint_report(L, np.zeros((2, 48, 64), np.float32), covered, 120, 160)
    assert np.isnan(report.differences[0])
    assert report.worst == 1
    assert report.mean == report.differences[1]
    nothing = tiny.open(photo).report()
    assert (nothing.differences, nothing.mean, nothing.worst) == ((), 0.0, None)
    rgb, report = tiny.colorize_with_report(photo, hints)
    assert np.array_equal(rgb, tiny.colorize(photo, hints))
    assert len(report.differences) == 3


def test_thousands_of_strokes_are_added_and_saved(tiny_onnx, tmp_path, monkeypatch):
    session = Colorizer(tiny_onnx, backend="onnxruntime", size=64).open(
        np.full((90, 140), 128, np.uint8)
    )
    for i in range(2001):
        session.add(Stroke([(i % 140, i % 90), (i * 7 % 140, i * 3 % 90)], "#123456", size=9))
    session.save_hints(tmp_path / "x.hints.json")
    assert Hints.load(tmp_path / "x.hints.json") == session.hints
    monkeypatch.setattr("runtime.session.MAX_SHAPES", 2001)
    with pytest.raises(HintError, match="at most 2001"):
        session.add(Stroke([(1, 1)], "#123456"))
    session.add(Hint(1, 1, "#123456"))
