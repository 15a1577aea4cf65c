"""Films: colours follow their things, do not flicker, and what FFmpeg reads is what is written."""

import os
import re
import shutil
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from conftest import ROOT

av = pytest.importorskip("av")

import films  # noqa: E402

from runtime import (  # noqa: E402
    Colorizer,
    Film,
    FilmHints,
    Hint,
    HintError,
    Hints,
    ImageError,
    Keep,
    Region,
    Stroke,
)
from runtime.__main__ import main  # noqa: E402
from runtime.color import lab_from_rgb  # noqa: E402
from runtime.errors import ArgumentError  # noqa: E402
from runtime.film import film as film_module  # noqa: E402
from runtime.film.clip import Clip  # noqa: E402

SCENE = films.Scene()


def grey(t):
    return SCENE.grey(t)


def clicks(t=0):
    """One hint on each thing, where it lies in frame t."""
    (x, y), (u, v) = SCENE.places(t)
    return [Hint(round(x), round(y), films.RED, 5), Hint(round(u), round(v), films.BLUE, 5)]


def ab_of(pixels):
    return lab_from_rgb(np.asarray(pixels, np.float32) / 255)[..., 1:]


def colors(pixels, t):
    """Mean ab of the red thing, the blue one and the ground in frame t."""
    ab = ab_of(pixels)
    red, blue = SCENE.things(t)
    return [ab[where].mean(axis=0) for where in (red, blue, ~(red | blue))]


def is_red_and_blue(pixels, t):
    (red_a, _), (_, blue_b), _ = colors(pixels, t)
    return red_a > 12 and blue_b < -12


@pytest.fixture(scope="module")
def lite():
    return Colorizer(backend="onnxruntime", size=128)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """40 frames with sound."""
    path = tmp_path_factory.mktemp("film") / "short.mp4"
    films.write(path, [grey(t) for t in range(40)])
    return path


def test_colours_follow_two_things_for_300_frames(lite, tmp_path):
    films.write(tmp_path / "a.mp4", [grey(t) for t in range(300)])
    report = Film(tmp_path / "a.mp4", clicks()).colorize(lite, tmp_path / "b.mp4")
    assert report.frames == 300
    assert report.lost == []
    assert report.shots == [0]
    assert report.notes == []
    assert not (tmp_path / "b.mp4.part").exists()
    frames, times = films.read(tmp_path / "b.mp4")
    assert len(frames) == 300
    assert np.allclose(np.diff(times), 0.04)
    for t in (0, 60, 150, 299):
        assert is_red_and_blue(frames[t], t), t
    # As a whole, 60 frames later: what the key frame has, within what a network may change.
    for first, later in zip(colors(frames[0], 0), colors(frames[60], 60), strict=True):
        assert np.abs(first - later).max() < 12


def flicker(film, lite, steady):
    """Mean change of ab on the ground that does not move."""
    still = ~np.any([thing for t in range(40) for thing in SCENE.things(t)], axis=0)
    before, total = None, []
    for frame, _ in film.colorized(lite, steady=steady):
        ab = ab_of(frame.pixels)[still]
        if before is not None:
            total.append(np.abs(ab - before).mean())
        before = ab
    return np.mean(total)


def test_colours_flicker_at_most_half_as_much(lite, short):
    film = Film(short, clicks())
    assert flicker(film, lite, film_module.STEADY) < 0.5 * flicker(film, lite, 0.0)


def test_a_hint_travels_backwards_from_its_frame(lite, short):
    film = Film(short, {30: clicks(30)})
    frames = {still.number: still.pixels for still, _ in film.colorized(lite)}
    plain = {still.number: still.pixels for still, _ in Film(short).colorized(lite)}
    for t in (8, 29, 39):
        assert is_red_and_blue(frames[t], t), t
        assert not is_red_and_blue(plain[t], t), t


def test_backwards_a_hint_ends_where_an_earlier_one_lies(lite, short):
    recolored = [Hint(hint.x, hint.y, films.BLUE, 5) for hint in clicks(20)[:1]]
    film = Film(short, {10: clicks(10)[:1], 20: recolored})
    for still, _ in film.colorized(lite):
        if still.number in (2, 9, 12, 19):
            assert colors(still.pixels, still.number)[0][0] > 12, still.number


def test_a_point_on_an_area_does_not_take_its_place(lite, short):
    area = Region(films.BLUE, around(96, 72, 60), only_inside=True)
    film = Film(short, {0: area, 5: Hint(96, 72, "red", 3)})
    *_, (last, _) = film.colorized(lite)
    assert ab_of(last.pixels)[30:110, 40:80, 1].mean() < -8


def test_a_hint_in_the_corner_of_what_does_not_move_stays(lite, tmp_path):
    films.write(tmp_path / "a:1.mp4", [grey(0)] * 6, sound=False)
    hints = {0: [Hint(0, 0, "red"), Hint(191, 143, "red")], 99: Hint(4, 4, "red")}
    report = Film(tmp_path / "a:1.mp4", hints).colorize(lite, tmp_path / "b.mp4")
    assert report.lost == []
    assert report.notes == ["It has 6 frames; hints on frame 99 are past its end."]


def test_new_hints_of_a_key_frame_are_there_at_once_and_take_the_place_of_old_ones(lite, short):
    red_then_blue = [Hint(hint.x, hint.y, films.BLUE, 5) for hint in clicks(20)[:1]]
    film = Film(short, {0: clicks(), 20: red_then_blue})
    for still, _ in film.colorized(lite):
        red, blue, _ = colors(still.pixels, still.number)
        if still.number == 19:
            assert red[0] > 12
        if still.number in (20, 39):
            assert red[1] < -8  # blue now, and no red below
            assert red[0] < 20
            assert blue[1] < -12


def test_a_shot_that_ends_takes_its_hints_along(lite, tmp_path):
    other = films.Scene(seed=40)
    frames = [grey(t) for t in range(12)] + [255 - other.grey(t) for t in range(50, 62)]
    films.write(tmp_path / "a.mkv", frames, sound=False)
    report = Film(tmp_path / "a.mkv", clicks()).colorize(lite, tmp_path / "b.mkv")
    assert report.shots == [0, 12]
    assert [(one.frame, one.key_frame, one.number, one.cut) for one in report.lost] == [
        (12, 0, 0, True),
        (12, 0, 1, True),
    ]


def test_a_hint_that_leaves_the_picture_is_told_not_guessed(lite, tmp_path):
    wide = films.texture(144, 400, 9)
    frames = [np.clip(wide[:, 3 * t : 3 * t + 192], 0, 255).astype(np.uint8) for t in range(30)]
    films.write(tmp_path / "a.mp4", frames, sound=False)
    film = Film(tmp_path / "a.mp4", [Hint(45, 70, films.RED, 5), Hint(150, 70, films.BLUE, 5)])
    report = film.colorize(lite, tmp_path / "b.mp4")
    (lost,) = report.lost
    assert lost.number == 0
    assert not lost.cut
    assert 13 <= lost.frame <= 16
    assert re.fullmatch(r"frame 1\d: hint 0 of frame 0: lost", str(lost))


def around(x, y, reach):
    """Corners of a square."""
    return [(x + dx * reach, y + dy * reach) for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


def test_lines_and_areas_travel_and_masks_say_that_they_do_not(lite, short):
    (x, y), (u, v) = ((round(a), round(b)) for a, b in SCENE.places(0))
    hints = Hints(
        [
            Stroke([(x - 8, y), (x, y + 6), (x + 8, y)], films.RED, 5),
            Region(films.BLUE, around(u, v, 22), only_inside=True),
            Keep(around(16, 16, 14), grey=True),
        ]
    )  # fmt: skip
    *_, (last, report) = Film(short, hints).colorized(lite)
    assert report.lost == []
    red, blue, _ = colors(last.pixels, 39)
    assert red[0] > 12
    assert blue[1] < -12
    assert np.abs(ab_of(last.pixels)[6:26, 6:26]).max() < 1.5
    mask = np.zeros((144, 192), bool)
    mask[10:20, 10:20] = True
    with pytest.raises(HintError, match=r"Frame 0, hint 0: .* polygon"):
        next(Film(short, Region(films.RED, mask=mask)).colorized(lite))


KILLED = """
import os, signal, sys
from runtime import Colorizer, Film
from runtime.film import film
film._PIECE = 15
def progress(done, total):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
Film(sys.argv[1], sys.argv[4]).colorize(
    Colorizer(backend="onnxruntime", size=64, threads=1), sys.argv[2], progress=progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
def test_killed_and_resumed_it_gives_the_same_file(short, tmp_path):
    hints = tmp_path / "h.json"
    FilmHints({0: clicks(), 30: clicks(30)}).save(hints)

    def run(name, stop):
        command = [sys.executable, "-c", KILLED, short, tmp_path / name, stop, hints]
        return subprocess.run(list(map(str, command)), cwd=ROOT, check=False).returncode

    assert run("whole.mp4", -1) == 0
    assert run("broken.mp4", 24) == -signal.SIGKILL
    assert not (tmp_path / "broken.mp4").exists()
    assert len(list((tmp_path / "broken.mp4.part").glob("*.npz"))) == 1
    assert run("broken.mp4", 14) == 0  # frame 14 is not colorized a second time
    assert (tmp_path / "broken.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", "h.json", "whole.mp4"]


def test_a_folder_that_is_not_ours_is_left_alone(lite, short, tmp_path):
    (tmp_path / "b.mp4.part").mkdir()
    (tmp_path / "b.mp4.part" / "precious.txt").write_text("mine")
    with pytest.raises(ImageError, match=r"precious\.txt, which is not of an earlier run"):
        Film(short).colorize(lite, tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4.part" / "precious.txt").read_text() == "mine"


def test_other_hints_begin_anew(lite, short, tmp_path, monkeypatch):
    monkeypatch.setattr(film_module, "_PIECE", 10)

    def stop(done, total):
        if done == 25:
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        Film(short, clicks()).colorize(lite, tmp_path / "b.mp4", progress=stop)
    assert (tmp_path / "b.mp4.part").is_dir()
    Film(short).colorize(lite, tmp_path / "b.mp4", progress=lambda n, of: seen.append((n, of)))
    assert seen == [(n, 40) for n in range(1, 41)]
    # A damaged piece is made again.
    with pytest.raises(KeyboardInterrupt):
        Film(short).colorize(lite, tmp_path / "c.mp4", progress=stop)
    piece = tmp_path / "c.mp4.part" / "000001.npz"
    piece.write_bytes(piece.read_bytes()[:-400])
    seen.clear()
    Film(short).colorize(lite, tmp_path / "c.mp4", progress=lambda n, of: seen.append(n))
    assert seen[0] == 11
    assert (tmp_path / "c.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


# What is read and written


def packets(path, kind):
    with av.open(str(path)) as found:
        return [bytes(p) for p in found.demux(getattr(found.streams, kind)[0]) if p.size]


def test_sound_is_copied(lite, short, tmp_path):
    Film(short).colorize(lite, tmp_path / "b.mkv")
    assert packets(tmp_path / "b.mkv", "audio") == packets(short, "audio")


def test_times_of_a_variable_rate_stay(lite, tmp_path):
    pts = [0, 40, 60, 200, 210, 500, 520, 533, 900, 1000]
    films.write(tmp_path / "a.mp4", [grey(t) for t in range(10)], pts=pts, sound=False)
    Film(tmp_path / "a.mp4").colorize(lite, tmp_path / "b.mp4")
    _, times = films.read(tmp_path / "b.mp4")
    assert np.allclose(times, np.array(pts) / 1000, atol=1e-4)


@pytest.mark.parametrize("size", [(143, 191), (48, 64), (145, 192)])
def test_sizes_odd_and_small(lite, tmp_path, size):
    high, wide = size
    frames = [np.clip(films.texture(high, wide, 2), 0, 255).astype(np.uint8)] * 3
    films.write(tmp_path / "a.mkv", frames, codec="ffv1", sound=False)
    report = Film(tmp_path / "a.mkv", Hint(20, 20, "red", 5)).colorize(lite, tmp_path / "b.mp4")
    made, _ = films.read(tmp_path / "b.mp4")
    assert made[0].shape == (high, wide, 3)
    assert any("odd" in note for note in report.notes) == bool(high % 2 or wide % 2)
    assert ab_of(made[1])[20, 20, 0] > 12


def test_one_frame(lite, tmp_path):
    films.write(tmp_path / "a.mp4", [grey(0)], sound=False)
    report = Film(tmp_path / "a.mp4", clicks()).colorize(lite, tmp_path / "b.mp4")
    assert report.frames == 1
    (frame,), _ = films.read(tmp_path / "b.mp4")
    assert is_red_and_blue(frame, 0)


def test_lightness_is_that_of_the_film(lite, short, tmp_path):
    Film(short, clicks()).colorize(lite, tmp_path / "b.mp4", quality=100)
    before, _ = films.read(short)
    after, _ = films.read(tmp_path / "b.mp4")
    for one, other in ((before[0], after[0]), (before[20], after[20])):
        L, made = (lab_from_rgb(p.astype(np.float32) / 255)[..., 0] for p in (one, other))
        assert np.abs(L - made).mean() < 1.0


def test_pixel_aspect_and_rotation(lite, tmp_path):
    frames = [grey(t) for t in range(3)]
    films.write(tmp_path / "a.mp4", frames, aspect=Fraction(4, 3), rotate=90, sound=False)
    film = Film(tmp_path / "a.mp4")
    assert (film.width, film.height) == (144, 192)
    film.colorize(lite, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as found:
        stream = found.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(3, 4)
        frame = next(found.decode(stream))
        assert frame.rotation == 0
    L = lab_from_rgb(frame.to_ndarray(format="rgb24").astype(np.float32) / 255)[..., 0]
    upright = lab_from_rgb(np.rot90(np.repeat(frames[0][..., None], 3, 2)) / np.float32(255))
    assert np.abs(L - upright[..., 0]).mean() < 2


def test_ten_bits(lite, tmp_path):
    ramp = np.linspace(8000, 12000, 192).astype(np.uint16)
    frames = [np.broadcast_to(ramp[None, :, None], (144, 192, 3))] * 3
    films.write(
        tmp_path / "a.mkv", frames, codec="ffv1", pixel_format="yuv420p10le", source="rgb48le",
        sound=False,
    )  # fmt: skip
    Film(tmp_path / "a.mkv").colorize(lite, tmp_path / "b.mkv", codec="ffv1")
    with av.open(str(tmp_path / "b.mkv")) as found:
        frame = next(found.decode(video=0))
    assert frame.format.name.endswith("p10le")
    luma = frame.to_ndarray()[70]
    assert len(np.unique(luma)) > 50  # where 8 bits have 13


FFMPEG = shutil.which("ffmpeg")
TAGS = {
    "601": {"colorspace": 6, "color_range": 1},
    "709": {"colorspace": 1, "color_range": 1},
    "601 full": {"colorspace": 6, "color_range": 2},
    "709 full": {"colorspace": 1, "color_range": 2},
}


@pytest.mark.skipif(not FFMPEG, reason="there is no ffmpeg")
@pytest.mark.parametrize("name", TAGS)
def test_matrix_and_range_are_read_as_ffmpeg_does(tmp_path, name):
    rgb = films.colorful(96, 128)
    made = np.stack([np.roll(rgb, 5 * t, axis=1) for t in range(2)])
    films.write(
        tmp_path / "a.mkv", list(made), codec="ffv1", pixel_format="yuv444p", sound=False,
        tags=TAGS[name],
    )  # fmt: skip
    command = [FFMPEG, "-v", "error", "-i", tmp_path / "a.mkv", "-f", "rawvideo"]
    command += ["-sws_flags", "bicubic", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(list(map(str, command)), capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(2, 96, 128, 3).astype(int)
    with Clip(tmp_path / "a.mkv") as clip:
        ours = np.stack([still.pixels for still in clip.read()]).astype(int)
    assert np.abs(ours - theirs).max() <= 2


@pytest.mark.skipif(not FFMPEG, reason="there is no ffmpeg")
@pytest.mark.parametrize("height", [480, 720])
def test_what_is_written_says_its_matrix(lite, tmp_path, height):
    frames = [np.full((height, 64), 90 + t, np.uint8) for t in range(2)]
    films.write(tmp_path / "a.mp4", frames, sound=False)
    Film(tmp_path / "a.mp4", Hint(30, 200, "red", 60)).colorize(lite, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as found:
        context = found.streams.video[0].codec_context
        assert int(context.colorspace) == (1 if height == 720 else 6)
        assert int(context.color_range) == 1
    direct = [still.pixels for still, _ in
              Film(tmp_path / "a.mp4", Hint(30, 200, "red", 60)).colorized(lite)]  # fmt: skip
    with Clip(tmp_path / "b.mp4") as clip:
        again = [still.pixels for still in clip.read()]
    assert np.abs(direct[1].astype(int) - again[1]).mean() < 3


@pytest.mark.skipif(not FFMPEG, reason="there is no ffmpeg")
def test_subtitles_chapters_and_titles_are_copied_and_what_cannot_be_is_named(
    lite, short, tmp_path
):
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:01,000\nGood day\n")
    (tmp_path / "m.txt").write_text(
        ";FFMETADATA1\ntitle=Harbour\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=700\ntitle=One\n"
    )
    command = [
        FFMPEG,
        "-v",
        "error",
        "-i",
        short,
        "-i",
        tmp_path / "s.srt",
        "-i",
        tmp_path / "m.txt",
    ]
    command += ["-map", "0", "-map", "1", "-map_metadata", "2", "-c", "copy", tmp_path / "a.mkv"]
    subprocess.run(list(map(str, command)), check=True)
    report = Film(tmp_path / "a.mkv").colorize(lite, tmp_path / "b.mkv")
    assert report.notes == []
    assert packets(tmp_path / "b.mkv", "subtitles") == packets(tmp_path / "a.mkv", "subtitles")
    with av.open(str(tmp_path / "b.mkv")) as found:
        assert found.metadata["title"] == "Harbour"
        assert found.chapters()[0]["metadata"]["title"] == "One"
    report = Film(tmp_path / "a.mkv").colorize(lite, tmp_path / "b.mp4")
    assert any("subtitle" in note and "left out" in note for note in report.notes)


@pytest.mark.parametrize("ending", [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".M2TS"])
def test_every_ending_can_be_played(lite, short, tmp_path, ending):
    report = Film(short).colorize(
        Colorizer(backend="onnxruntime", size=64), tmp_path / f"b{ending}"
    )
    frames, times = films.read(tmp_path / f"b{ending}")
    assert len(frames) == report.frames == 40
    assert (np.diff(times) > 0).all()
    assert report.notes == [] or ending == ".webm"
    if ending == ".webm":
        assert report.notes == ["Its audio (aac) is left out."]


def test_a_mirrored_film_is_upright(lite, tmp_path):
    frames = [grey(t) for t in range(2)]
    films.write(tmp_path / "a.mp4", frames, rotate=180, mirrored=True, sound=False)
    with Clip(tmp_path / "a.mp4") as clip:
        seen = next(clip.read()).pixels[..., 1].astype(int)
    views = {"hflip": frames[0][:, ::-1], "vflip": frames[0][::-1], "turned": frames[0][::-1, ::-1]}
    fits = {name: np.abs(seen - view).mean() for name, view in views.items()}
    assert min(fits, key=fits.get) in ("hflip", "vflip")
    if FFMPEG:
        command = [FFMPEG, "-v", "error", "-i", tmp_path / "a.mp4", "-frames:v", "1"]
        command += ["-f", "rawvideo", "-pix_fmt", "gray", "-"]
        raw = subprocess.run(list(map(str, command)), capture_output=True, check=True).stdout
        theirs = np.frombuffer(raw, np.uint8).reshape(144, 192).astype(int)
        assert np.abs(seen - theirs).mean() < 6


@pytest.mark.skipif(not FFMPEG, reason="there is no ffmpeg")
def test_a_cover_goes_along_and_is_not_the_film(lite, short, tmp_path):
    from runtime import write_image

    write_image(tmp_path / "c.jpg", films.colorful(40, 40))
    command = [
        FFMPEG,
        "-v",
        "error",
        "-i",
        short,
        "-i",
        tmp_path / "c.jpg",
        "-map",
        "0",
        "-map",
        "1",
    ]
    command += ["-c", "copy", "-disposition:v:1", "attached_pic", tmp_path / "a.mp4"]
    subprocess.run(list(map(str, command)), check=True)
    report = Film(tmp_path / "a.mp4").colorize(lite, tmp_path / "b.mp4")
    assert report.notes == []
    with av.open(str(tmp_path / "b.mp4")) as found:
        assert len(found.streams.video) == 2
        cover = next(found.decode(found.streams.video[1]))
    assert (cover.width, cover.height) == (40, 40)


# What goes wrong


def broken(tmp_path):
    whole = tmp_path / "whole.mp4"
    films.write(whole, [grey(t) for t in range(4)])
    data = whole.read_bytes()
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        films._tone(out, out.add_stream("aac", rate=16000, layout="mono"), 0.5)
    yield "sound.mp4", (tmp_path / "sound.mp4").read_bytes(), "no video"
    yield "empty.mp4", b"", "no film that can be read"
    yield "noise.mkv", np.random.default_rng(0).bytes(5000), "no film that can be read"
    yield "half.mp4", data[: len(data) // 2], "no film that can be read"
    yield "text.mov", b"Hello", "no film that can be read"


def test_broken_films_are_a_sentence(tmp_path, capsys):
    for name, data, sentence in broken(tmp_path):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=sentence):
            Film(tmp_path / name)
        assert main([str(tmp_path / name), "-o", str(tmp_path / "out.mp4")]) == 1
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
    assert not (tmp_path / "out.mp4.part").exists()
    with pytest.raises(ImageError, match="no film"):
        Film(tmp_path / "absent.mp4")


def test_a_film_that_ends_early_is_colorized_as_far_as_it_goes(lite, tmp_path):
    films.write(tmp_path / "a.mkv", [grey(t) for t in range(20)], sound=False)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) * 2 // 3])
    report = Film(tmp_path / "a.mkv").colorize(lite, tmp_path / "b.mkv")
    assert 3 < report.frames < 20
    assert len(films.read(tmp_path / "b.mkv")[0]) == report.frames


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"codec": "theora"}, ArgumentError, "one of h264"),
        ({"quality": 0}, ArgumentError, "quality"),
        ({"steady": 1.0}, ArgumentError, "steady"),
        ({"output": "b.txt"}, ArgumentError, "ending of a film"),
        ({"codec": "prores"}, ArgumentError, "cannot hold this film in prores"),
        ({"codec": "ffv1", "output": "b.mkv", "quality": 9}, ArgumentError, "one quality"),
        ({"output": "nowhere/b.mp4"}, ImageError, "does not exist"),
        ({"output": "short.mp4"}, ImageError, "written over itself"),
    ],
)
def test_wrong_arguments_are_a_sentence(lite, short, change, error, sentence):
    arguments = {"output": "b.mp4", **change}
    output = short.parent / arguments.pop("output")
    with pytest.raises(error, match=sentence):
        Film(short).colorize(lite, output, **arguments)
    assert [path.name for path in short.parent.iterdir()] == ["short.mp4"]


# Hint files and the command line


def test_hint_files_of_films(tmp_path):
    hints = FilmHints({12: clicks(12), 0: [Hint(3, 4, "red")]}, image_size=(192, 144))
    hints.save(tmp_path / "f.json")
    again = FilmHints.load(tmp_path / "f.json")
    assert list(again) == [0, 12]
    assert list(again[12]) == list(hints[12])
    assert again.image_size == (192, 144)
    assert '"version": 4' in (tmp_path / "f.json").read_text()
    with pytest.raises(HintError, match=r"film's: it has hints on frame 12"):
        Hints.load(tmp_path / "f.json")
    Hints([Hint(3, 4, "red")]).save(tmp_path / "p.json")
    assert list(FilmHints.load(tmp_path / "p.json")) == [0]
    row = '{"frame": -1, "x": 1, "y": 1, "color": "red"}'
    text = f'{{"format": "hscaunet-hints", "version": 4, "hints": [{row}]}}'
    with pytest.raises(HintError, match="Hint 0"):
        FilmHints.from_json(text)
    with pytest.raises(HintError, match="frame's number"):
        FilmHints({-1: []})


def test_hints_outside_the_frame_are_a_sentence(short):
    with pytest.raises(HintError, match="Frame 7"):
        Film(short, {7: Hint(500, 3, "red")})


def test_the_command_line(short, tmp_path, capsys):
    (x, y), _ = SCENE.places(0)
    options = ["--backend", "onnxruntime", "--size", "128", "--saturation", "0"]
    out = tmp_path / "b.mp4"
    hint = f"{round(x)},{round(y)},#be3c32,5"
    assert main([str(short), "-o", str(out), "--hint", hint, *options]) == 0
    assert re.search(r"b.mp4: 192x144, 40 frames, 1 shot, ", capsys.readouterr().out)
    assert np.abs(ab_of(films.read(out)[0][20])).max() < 3  # the look is the film's too
    assert main([str(short), "-o", str(out), "--layer", "x.png", "--report"]) == 1
    assert "--layer, --report go with photos, not with a film" in capsys.readouterr().err
    assert main(["photo.png", "-o", "out.png", "--codec", "h264"]) == 1
    assert "--codec goes with films" in capsys.readouterr().err
    assert main([str(short), "--out-dir", str(tmp_path)]) == 1
    assert "colorize it by itself" in capsys.readouterr().err


def test_without_pyav_the_sentence_says_what_to_install(short, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"hscaunet\[film\]"):
        Film(short)
    assert os.path.exists(short)
