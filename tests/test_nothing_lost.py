"""Files, folders, pipes and streams: everything used or named, nothing written by mistake."""

import errno
import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT, colorful, run_python

from runtime import CutShortError, Hint, Hints, ImageError, read_image, read_photo, write_image
from runtime.__main__ import main
from runtime.folders import plan
from runtime.hints.masks import painted
from runtime.images import check_writable, decode_photo, encode_image
from runtime.images.signals import depth_of_avif
from runtime.safe_files import write_atomically

RGB = colorful(40, 52)
linux = pytest.mark.skipif(os.name == "nt", reason="links, pipes and rights as Unix has them")


@pytest.fixture
def run(tmp_path, tiny_onnx, capsys, monkeypatch):
    """The command, in a folder of its own: status and what it said."""
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(tiny_onnx), "--backend", "onnxruntime", "--size", "64"]

    def call(*words):
        status = main([*map(str, words), *model])
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


# Folders


def test_every_picture_is_done_whatever_its_ending(run, tmp_path):
    (tmp_path / "f").mkdir()
    jpeg = encode_image(RGB, "JPEG")
    for name in ("c.jfif", "d.jpe", "noending", "wrong.txt"):
        (tmp_path / "f" / name).write_bytes(jpeg)
    (tmp_path / "f" / "g.GIF").write_bytes(b"")
    (tmp_path / "f" / "readme.md").write_text("no picture")
    status, said = run("f", "--out-dir", "o")
    assert status == 1  # the empty one
    assert "4 of 5 colorized" in said
    assert "1 other files passed over" in said
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "c.jfif", "d.jpe", "noending.jpg", "wrong.txt.jpg",
    ]  # fmt: skip


def test_pictures_of_kinds_that_are_not_read_are_named(run, tmp_path):
    (tmp_path / "f").mkdir()
    write_image(tmp_path / "f" / "a.png", RGB)
    (tmp_path / "f" / "b.psd").write_bytes(b"8BPS")
    (tmp_path / "f" / "c.NEF").write_bytes(encode_image(RGB, "TIFF"))
    status, said = run("f", "--out-dir", "o")
    assert status == 1
    assert "1 of 3 colorized" in said
    assert said.count("not read; convert it first") == 2


@linux
def test_linked_folders_are_followed_once(tmp_path):
    for name in ("f", "else"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / f"{name}.png", RGB)
    (tmp_path / "f" / "link").symlink_to(tmp_path / "else")
    (tmp_path / "f" / "again").symlink_to(tmp_path / "else")
    (tmp_path / "f" / "loop").symlink_to(tmp_path / "f")
    found = [job.source.name for job in plan([str(tmp_path / "f")], tmp_path / "o").jobs]
    assert sorted(found) == ["else.png", "f.png"]


def test_a_folder_that_cannot_be_entered_is_named(tmp_path, monkeypatch):
    (tmp_path / "f" / "secret").mkdir(parents=True)
    write_image(tmp_path / "f" / "a.png", RGB)
    whole = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    made = plan([str(tmp_path / "f")], tmp_path / "o")
    assert len(made.jobs) == 1
    assert made.refused[0][0].name == "secret"
    assert "Permission denied" in made.refused[0][1]


@linux
def test_a_folder_is_found_at_its_own_place_before_links(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    write_image(tmp_path / "b" / "deep" / "p.png", RGB)
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    (job,) = plan([str(tmp_path)], tmp_path / "out").jobs
    assert job.source == tmp_path / "b" / "deep" / "p.png"


@linux
def test_links_that_lead_nowhere_are_named(run, tmp_path):
    (tmp_path / "f").mkdir()
    write_image(tmp_path / "f" / "p.png", RGB)
    (tmp_path / "f" / "q.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "f" / "note").symlink_to(tmp_path / "gone")
    status, said = run("f", "--out-dir", "o")
    assert status == 1
    assert "1 of 2 colorized" in said
    assert "q.png: it is no file, or a link that leads nowhere" in said
    assert "1 other files passed over" in said


def test_a_folder_of_hint_files_that_cannot_be_entered_is_named(tmp_path, monkeypatch):
    write_image(tmp_path / "p.png", RGB)
    (tmp_path / "hints" / "closed").mkdir(parents=True)
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    made = plan([str(tmp_path / "p.png")], tmp_path / "out", hints_dir=tmp_path / "hints")
    ((path, why),) = made.refused
    assert path == tmp_path / "hints" / "closed"
    assert "cannot be entered" in why


def test_one_clash_stops_one_photo(run, tmp_path):
    (tmp_path / "f").mkdir()
    for name in ("a.jpg", "a.png", "b.jpg"):
        write_image(tmp_path / "f" / name, RGB)
    status, said = run("f", "--out-dir", "o", "--format", "png")
    assert status == 1
    assert "2 of 3 colorized" in said
    assert "would be written to o" in said


def test_no_result_replaces_the_input_of_another(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "x.png", np.roll(RGB, len(name), 0))
    before = (tmp_path / "b" / "x.png").read_bytes()
    status, said = run("a", "b", "--out-dir", "b", "--in-place")
    assert status == 1
    assert "which is read" in said
    assert "1 of 2 colorized" in said
    status, said = run("a", "b", "--out-dir", "b")
    assert "0 of 2 colorized" in said
    assert before != (tmp_path / "b" / "x.png").read_bytes()  # its own, by --in-place
    write_image(tmp_path / "m.png", RGB[..., 0])
    words = ["--hint-image", "a/x.png", "--hint-mask", "m.png", "--in-place"]
    assert "m.png would be written over" in run("a/x.png", "-o", "m.png", *words)[1]


def test_hint_files_are_used_or_named(run, tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "h").mkdir()
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "f" / name, RGB)
    for name in ("a.JSON", "b.jpg.json", "typo_name.json"):
        Hints([Hint(3, 3, "#c04030")]).save(tmp_path / "h" / name)
    status, said = run("f", "--out-dir", "o", "--hints-dir", "h")
    assert status == 0
    assert "2 with hints" in said
    assert "match no photo" in said
    assert "typo_name.json" in said
    assert "a.JSON" not in said


def test_one_hint_file_for_two_photos_is_said(tmp_path):
    for place in ("f/one", "f/two", "h"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("one", "two"):
        write_image(tmp_path / "f" / place / "x.png", RGB)
    Hints([Hint(3, 3, "#c04030")]).save(tmp_path / "h" / "x.json")
    made = plan([str(tmp_path / "f")], tmp_path / "o", hints_dir=tmp_path / "h")
    assert "used for 2 photos" in made.notes[0]


# Targets


@linux
@pytest.mark.parametrize("way", ["itself", "link", "hard link"])
def test_a_photo_is_not_written_over_itself_unless_asked(run, tmp_path, way):
    write_image(tmp_path / "p.png", RGB)
    target = tmp_path / ("p.png" if way == "itself" else "q.png")
    if way == "link":
        target.symlink_to("p.png")
    elif way == "hard link":
        os.link(tmp_path / "p.png", target)
    before = target.read_bytes()
    status, said = run("p.png", "-o", target.name)
    assert status == 1
    assert "over itself" in said
    assert target.read_bytes() == before
    assert run("p.png", "-o", target.name, "--in-place")[0] == 0
    assert target.read_bytes() != before


def test_neither_hints_nor_masks_are_written_over(run, tmp_path):
    write_image(tmp_path / "p.png", RGB)
    write_image(tmp_path / "l.png", np.dstack([RGB, RGB[..., 0]]))
    status, said = run("p.png", "-o", "l.png", "--layer", "l.png")
    assert status == 1
    assert "l.png would be written over itself" in said


def test_a_folder_over_itself_is_refused_unless_asked(run, tmp_path):
    (tmp_path / "f").mkdir()
    write_image(tmp_path / "f" / "a.png", RGB)
    before = (tmp_path / "f" / "a.png").read_bytes()
    status, said = run("f", "--out-dir", "f")
    assert status == 1
    assert "over itself" in said
    assert (tmp_path / "f" / "a.png").read_bytes() == before
    assert run("f", "--out-dir", "f", "--in-place")[0] == 0
    assert (tmp_path / "f" / "a.png").read_bytes() != before


@linux
def test_a_file_without_write_permission_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "keep.png"
    write_image(path, RGB)
    path.chmod(0o444)
    # Whoever runs the tests may write to everything; the system's answer for others:
    monkeypatch.setattr(os, "access", lambda p, mode, **_: str(p) != str(path))
    before = path.read_bytes()
    for write in (
        lambda: check_writable(path),
        lambda: write_image(path, RGB),
        lambda: Hints([]).save(path),
        lambda: write_atomically(path, b"x"),
    ):
        with pytest.raises((ValueError, PermissionError), match="Permission denied"):
            write()
    assert path.read_bytes() == before


@linux
def test_bytes_go_into_a_pipe_that_stays_one(run, tmp_path):
    write_image(tmp_path / "p.png", RGB)
    os.mkfifo(tmp_path / "pipe.png")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe.png").read_bytes()))
    reader.start()
    assert run("p.png", "-o", "pipe.png")[0] == 0
    reader.join(20)
    assert decode_photo(got[0]).pixels.shape == RGB.shape
    assert not (tmp_path / "pipe.png").is_file()


@linux
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_a_sentence_everywhere(tmp_path):
    (tmp_path / "x.png").symlink_to("/dev/full")
    (tmp_path / "x.json").symlink_to("/dev/full")
    with pytest.raises(ImageError, match="No space left"):
        write_image(tmp_path / "x.png", RGB)
    with pytest.raises(ValueError, match="No space left"):
        Hints([]).save(tmp_path / "x.json")


# Streams


def command(words, **options):
    return subprocess.run(
        [sys.executable, "-m", "runtime", *words], cwd=ROOT, capture_output=True, timeout=100,
        **options,
    )  # fmt: skip


@linux
def test_without_standard_error_photos_are_done(tmp_path, tiny_onnx):
    write_image(tmp_path / "a.png", RGB)
    code = (
        "import sys; sys.stderr = sys.stdout = sys.stdin = None\n"
        "from runtime.__main__ import main\n"
        f"raise SystemExit(main([{str(tmp_path / 'a.png')!r}, '--out-dir', "
        f"{str(tmp_path / 'o')!r}, '--model', {str(tiny_onnx)!r}]))"
    )
    assert run_python("-c", code).returncode == 0
    assert (tmp_path / "o" / "a.png").exists()


@linux
@pytest.mark.parametrize(
    ("shell", "sentence"),
    [
        ("- -o {tmp}/x.png <&-", "Standard input is closed"),
        ("{photo} -o - >&-", "Standard output is closed"),
        ("{photo} -o - >/dev/full", "No space left on device"),
        ("{photo} -o {tmp}/x.png >/dev/full", "No space left on device"),
    ],
)
def test_closed_and_full_streams_are_a_sentence_and_a_status(tmp_path, tiny_onnx, shell, sentence):
    if "/dev/full" in shell and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    write_image(tmp_path / "p.png", RGB)
    words = shell.format(tmp=tmp_path, photo=tmp_path / "p.png")
    words, _, redirection = words.partition(" >") if ">" in words else words.partition(" <")
    sign = ">" if ">" in shell else "<"
    line = f"{sys.executable} -m runtime {words} --model {tiny_onnx} {sign}{redirection}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@linux
def test_hints_come_by_standard_input_and_by_pipe(run, tmp_path, monkeypatch):
    write_image(tmp_path / "p.png", RGB)
    text = Hints([Hint(3, 3, "#c04030")]).to_json()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    status, said = run("p.png", "-o", "a.png", "--hints", "-")
    assert status == 0
    assert "1 hint" in said
    os.mkfifo(tmp_path / "h")
    writer = threading.Thread(target=lambda: (tmp_path / "h").write_text(text))
    writer.start()
    status, said = run("p.png", "-o", "b.png", "--hints", "h")
    writer.join(20)
    assert "1 hint" in said
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# Masks


def test_masks_count_where_a_person_painted():
    where = np.zeros((40, 52), bool)
    where[5:20, 10:35] = True
    white, alpha = np.full((40, 52, 3), 255, np.uint8), np.where(where, 255, 0).astype(np.uint8)
    for mask in (
        alpha,
        np.repeat(alpha[..., None], 3, 2),
        np.dstack([white, alpha]),  # white on see-through
        np.dstack([0 * alpha, alpha]),  # in the alpha only
        np.dstack([np.repeat(alpha[..., None], 3, 2), 255 + 0 * alpha]),  # nothing see-through
    ):
        assert np.array_equal(painted(mask)[0] == 255, where)
        assert len(Hints.from_image(RGB, mask)) == where.sum()
    lossy = decode_photo(encode_image(alpha, "JPEG", quality=60)).pixels
    made, notes = painted(lossy)
    assert np.array_equal(made == 255, where)
    assert "black and white" in notes[0]


# Diagnosis


def test_damage_limits_and_what_is_not_read_are_different_sentences(tmp_path):
    png = encode_image(RGB, "PNG")
    for data, message in (
        (b"", "is empty"),
        (b"plain text", "is not a picture this release reads"),
        (b"FUJIFILMCCD-RAW 0201", "camera's raw file"),
        (png[:40], "damaged"),
        (png[:-400], r"cut short; get the whole file"),
        (encode_image(RGB, "JPEG")[:-600], "cut short"),
    ):
        with pytest.raises(ImageError, match=message):
            decode_photo(data)
    with pytest.raises(ImageError, match="limit of 10"):
        decode_photo(png, max_pixels=10)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_end_marker_only_is_whole(progressive):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(colorful(160, 208)).save(file, "JPEG", progressive=progressive)
    whole = file.getvalue()
    photo = decode_photo(whole[:-2])
    assert np.array_equal(photo.pixels, decode_photo(whole).pixels)
    assert "lacks its end marker" in photo.notes[0]
    for lost in (40, 200, len(whole) // 2):
        with pytest.raises(ImageError, match=r"cut short.*--tolerant"):
            decode_photo(whole[:-lost])
    part = decode_photo(whole[: -len(whole) // 4], tolerant=True)
    assert part.pixels.shape == (160, 208, 3)
    assert "cut short" in part.notes[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_cut_png_is_read_as_far_as_it_goes_if_asked(dtype):
    image = colorful(200, 300).astype(dtype)
    data = encode_image(image, "PNG")
    data = data[: len(data) * 2 // 3]
    with pytest.raises(CutShortError, match=r"cut short.*tolerant") as caught:
        decode_photo(data, name="half.png")
    assert caught.value.name == pickle.loads(pickle.dumps(caught.value)).name == "half.png"
    photo = decode_photo(data, tolerant=True)
    assert np.array_equal(photo.pixels[:50], image[:50])
    assert "cut short" in photo.notes[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_that_lacks_its_end_only_is_whole(dtype):
    image = colorful(60, 70).astype(dtype)
    data = encode_image(image, "PNG")
    photo = decode_photo(data[:-12])
    assert np.array_equal(photo.pixels, image)
    assert photo.notes == ("It is cut short; all pixels are there.",)


def test_what_lies_behind_a_jpeg_is_named():
    data = encode_image(RGB, "JPEG")
    assert decode_photo(data + b"\0" * 512).notes == ()  # padding
    film = decode_photo(data + b"\0\0\0\x18ftypmp42" + bytes(20))
    assert film.notes == ("Left out: a video behind the picture (32 bytes).",)
    assert "4 bytes behind the picture" in decode_photo(data + b"more").notes[0]
    assert np.array_equal(film.pixels, decode_photo(data).pixels)


def test_the_depth_that_an_avif_loses_is_named(monkeypatch):
    data = bytearray(encode_image(RGB, "AVIF"))
    assert decode_photo(bytes(data)).notes == ()
    at = data.index(b"av1C") + 6
    for bits, flags in ((8, 0), (10, 0x40), (12, 0x60)):
        data[at] = (data[at] & 0x9F) | flags  # what the box says; Pillow writes no deep pictures
        assert depth_of_avif(bytes(data)) == bits
    monkeypatch.setattr("runtime.images.containers.depth_of_avif", lambda data: 10)
    note = decode_photo(encode_image(RGB, "AVIF")).notes[0]
    assert note == "Its 10 bits a channel were read as 8."


def test_text_that_begins_like_a_bmp_is_no_picture(run, tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "notes").write_text("BM 12, the archive's box of glass plates")
    (tmp_path / "f" / "p").write_bytes(encode_image(RGB, "BMP"))
    status, said = run("f", "--out-dir", "o")
    assert status == 0
    assert "1 of 1 colorized" in said
    assert "1 other files passed over" in said


def test_other_frames_are_named():
    from PIL import Image

    frames = [Image.fromarray(np.roll(RGB, 5 * i, 0)) for i in range(3)]
    for kind in ("GIF", "WEBP", "PNG", "AVIF"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        photo = decode_photo(file.getvalue())
        assert photo.notes == ("It holds 3 frames; only the first was read.",), kind
        with pytest.raises(ImageError, match="no pages"):
            decode_photo(file.getvalue(), page=2)


def test_brands_that_hold_an_avif_are_read():
    data = encode_image(RGB, "AVIF")
    assert data[8:12] == b"avif"
    for brand in (b"mif1", b"miaf"):
        assert decode_photo(data[:8] + brand + data[12:]).pixels.shape == RGB.shape


def test_heic_by_its_package_or_a_sentence(monkeypatch, tmp_path):
    heif = pytest.importorskip("pillow_heif")
    from PIL import Image

    file = heif.from_pillow(Image.fromarray(colorful(64, 64)))
    file.save(tmp_path / "p.heic", quality=90)
    assert read_photo(tmp_path / "p.heic").pixels.shape == (64, 64, 3)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"hscaunet\[heif\]"):
        read_photo(tmp_path / "p.heic")


def test_jpeg_2000_of_8_and_16_bits(tmp_path):
    from PIL import Image

    Image.fromarray(RGB).save(tmp_path / "p.jp2", irreversible=False)
    assert np.array_equal(read_image(tmp_path / "p.jp2"), RGB)
    grey = RGB[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "g.jp2", irreversible=False)
    assert np.array_equal(read_image(tmp_path / "g.jp2"), grey)


def test_metadata_is_left_out_and_provenance_said_if_asked(run, tmp_path):
    from runtime import Metadata

    write_image(tmp_path / "p.jpg", RGB, Metadata(comments=(b"mine",)))
    assert run("p.jpg", "-o", "a.jpg")[0] == 0
    assert read_photo(tmp_path / "a.jpg").metadata.comments == (b"mine",)
    assert run("p.jpg", "-o", "b.jpg", "--no-metadata")[0] == 0
    assert read_photo(tmp_path / "b.jpg").metadata.comments == ()
    assert run("p.jpg", "-o", "c.jpg", "--provenance", "--hint", "1,1,#c04030")[0] == 0
    packet = read_photo(tmp_path / "c.jpg").metadata.xmp.decode()
    assert 'hscaunet:Hints="1"' in packet
    assert "hscaunet:WeightsSHA256" in packet
    Hints([Hint(3, 4, "#c04030")]).save(tmp_path / "h.json")
    digest = hashlib.sha256((tmp_path / "h.json").read_bytes()).hexdigest()
    assert run("p.jpg", "-o", "d.jpg", "--provenance", "--hints", "h.json")[0] == 0
    assert digest.encode() in read_photo(tmp_path / "d.jpg").metadata.xmp


def test_provenance_keeps_a_packet_of_two_bytes_a_letter_and_says_what_it_replaces(run, tmp_path):
    from runtime import Metadata

    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description tiff:Orientation="6" dc:title="Großmutter"/></rdf:RDF>'
        "</x:xmpmeta>"
    )
    for coding in ("utf-16", "utf-16-be", "utf-8"):
        write_image(tmp_path / "p.tif", RGB, Metadata(xmp=packet.encode(coding)))
        assert run("p.tif", "-o", "q.tif", "--provenance")[0] == 0
        made = read_photo(tmp_path / "q.tif").metadata.xmp.decode()
        assert "Großmutter" in made
        assert 'Orientation="1"' in made
        assert "hscaunet:Model" in made
    write_image(tmp_path / "p.tif", RGB, Metadata(xmp=b"no XML"))
    assert "replaced by --provenance" in run("p.tif", "-o", "q.tif", "--provenance")[1]


@linux
@pytest.mark.skipif(not shutil.which("setpriv") or os.name == "nt", reason="needs setpriv")
def test_no_decoder_writes_to_standard_error(tmp_path):
    broken = bytearray(encode_image(RGB.astype(np.uint16) * 257, "PNG"))
    broken[-60] ^= 0xFF
    (tmp_path / "p.png").write_bytes(broken)
    done = command([str(tmp_path / "p.png"), "-o", str(tmp_path / "o.png")])
    lines = done.stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
