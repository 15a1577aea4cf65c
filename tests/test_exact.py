import pickle

import numpy as np
import pytest
from conftest import colorful

from runtime import Colorizer, Hint
from runtime.fullsize.keep_hints import keep_hints


def test_a_hint_is_met_and_what_is_added_fades_without_a_seam():
    L = np.full((40, 60), 0.5, np.float32)
    L[:, 30:] = 0.8  # another surface
    ab, hint = np.zeros((2, 40, 60), np.float32), np.zeros((2, 40, 60), np.float32)
    mask = np.zeros((40, 60), bool)
    mask[18:22, 22:26] = True
    hint[0, mask] = 20
    keep_hints(L, ab, hint, mask)
    assert np.array_equal(ab[0, mask], hint[0, mask])
    assert not ab[1].any()
    beside = ab[0, 20, :23]
    assert (np.diff(beside) >= 0).all()  # it only fades
    assert np.diff(beside).max() < 8  # in steps, none of them a seam
    assert beside[12] < 1
    assert np.abs(ab[0, :, 30:]).max() < 0.01
    assert ab[0, 20, 28] > 5


def test_what_nobody_sees_is_left_as_it_is():
    rng = np.random.default_rng(0)
    L, ab = rng.random((20, 30), np.float32), rng.random((2, 20, 30), np.float32)
    before, mask = ab.copy(), np.zeros((20, 30), bool)
    keep_hints(L, ab, ab + 9, mask)
    assert np.array_equal(ab, before)
    mask[3, 4] = True
    keep_hints(L, ab, ab + 0.1, mask)
    assert np.array_equal(ab, before)


def test_every_way_to_colorize_keeps_exact_hints():
    photo = colorful(256, 256)
    # The network alone does not keep two that are beside each other.
    hints = [Hint(60, 60, "#3060c0", size=9), Hint(70, 60, "#c04020", size=9)]
    hints.append(Hint(180, 150, "#20a040", size=9))
    plain, exact = Colorizer(), Colorizer(exact_hints=True)
    rgb, report = exact.colorize_with_report(photo, hints)
    before = plain.colorize_with_report(photo, hints)[1]
    assert max(before.differences) > 1
    assert max(report.differences) < 0.05
    assert np.array_equal(exact.batch([photo, photo], [hints, None])[0], rgb)
    assert np.array_equal(exact.batch([photo], [None])[0], plain.colorize(photo))
    session = exact.open(photo)
    for hint in hints:
        session.add(hint)
    assert np.array_equal(session.render(), rgb)
    assert pickle.loads(pickle.dumps(exact)).exact_hints
    assert not pickle.loads(pickle.dumps(plain)).exact_hints


def test_the_command_line_keeps_exact_hints(tmp_path, capsys):
    from runtime import read_image
    from runtime.__main__ import main

    common = ["examples/coffee-grey.jpg", "--hints", "examples/coffee.hints.json"]
    for name, more in (("plain", []), ("exact", ["--exact-hints"])):
        assert main([*common, *more, "-o", str(tmp_path / f"{name}.png")]) == 0
    pictures = [np.asarray(read_image(tmp_path / f"{n}.png"), int) for n in ("plain", "exact")]
    assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1)])
def test_narrow_pictures(shape):
    ab, mask = np.zeros((2, *shape), np.float32), np.ones(shape, bool)
    keep_hints(np.zeros(shape, np.float32), ab, ab + 5, mask)
    assert (ab == 5).all()
