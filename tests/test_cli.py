import io
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import EXAMPLES, ROOT, colorful, run_python

from runtime import Colorizer, Hint, Hints, read_image, write_image
from runtime.__main__ import main
from runtime.folders import plan, run_jobs
from runtime.images import decode_photo
from runtime.results import Settings

COFFEE, COFFEE_HINTS = str(EXAMPLES / "coffee-grey.jpg"), str(EXAMPLES / "coffee.hints.json")


def test_the_command_writes_what_the_library_returns(tmp_path, capsys):
    out = tmp_path / "o.png"
    assert main([COFFEE, "--hints", COFFEE_HINTS, "--hint", "30,30,#00ff00,9", "-o", str(out)]) == 0
    hints = [*Hints.load(COFFEE_HINTS), Hint(30, 30, "#00ff00", 9)]
    assert np.array_equal(read_image(out), Colorizer().colorize(read_image(COFFEE), hints))
    said = capsys.readouterr().out
    assert f"600x400, {len(hints)} hints" in said
    assert f"{Colorizer()!r}" in said


def test_hint_image_and_mask_are_the_published_test_format(tmp_path):
    rgb = colorful(96, 128)
    mask = (np.random.default_rng(0).random((96, 128)) < 0.05).astype(np.uint8) * 255
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    for name, picture in (("i", rgb), ("m", np.dstack([mask] * 3)), ("g", np.dstack([grey] * 3))):
        write_image(tmp_path / f"{name}.png", picture)
    options = ["--hint-image", str(tmp_path / "i.png"), "--hint-mask", str(tmp_path / "m.png")]
    out = tmp_path / "o.png"
    assert main([str(tmp_path / "g.png"), *options, "-o", str(out)]) == 0
    expected = Colorizer().colorize(np.dstack([grey] * 3), Hints.from_image(rgb, mask))
    assert np.array_equal(read_image(out), expected)


def test_hints_for_another_size_are_scaled_and_that_is_said(tmp_path, capsys):
    small = cv2.resize(read_image(COFFEE), (300, 200), interpolation=cv2.INTER_AREA)
    write_image(tmp_path / "s.png", small)
    options = ["--hints", COFFEE_HINTS, "-o", str(tmp_path / "o.png")]
    assert main([str(tmp_path / "s.png"), *options]) == 0
    assert "scaled to 300x200" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["none.png", "-o", "OUT.png"], "cannot be read"),
        ([__file__, "-o", "OUT.png"], "not a picture"),
        ([COFFEE, "-o", "OUT.xyz"], "extension"),
        ([COFFEE, "--hint", "1,2", "-o", "OUT.png"], "must look like"),
        ([COFFEE, "--hint", "600,2,#ff0000", "-o", "OUT.png"], "outside the image"),
        ([COFFEE, "--hints", __file__, "-o", "OUT.png"], "not JSON"),
        ([COFFEE, "--model", "none.onnx", "-o", "OUT.png"], "no model file"),
        ([COFFEE, "--model", __file__, "-o", "OUT.png"], "cannot be opened"),
        ([COFFEE, "--device", "cuda", "-o", "OUT.png"], "CUDA"),
        ([COFFEE, "--hint-image", COFFEE, "-o", "OUT.png"], "go together"),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(tmp_path, capsys, options, message):
    options = [str(tmp_path / o) if o.startswith("OUT") else o for o in options]
    try:
        status = main(options)
    except SystemExit as error:
        status = error.code
    assert status in (1, 2)
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("runtime", {"numpy", "cv2", "onnxruntime"}),
        ("hscaunet.train", {"torch"}),
        ("hscaunet.evaluate", {"torch", "onnxruntime"}),
        ("export.onnx", {"torch", "onnx"}),
        ("export.release", {"torch", "onnx"}),
    ],
)
def test_help_is_instant_because_nothing_heavy_is_imported(module, forbidden):
    result = run_python("-X", "importtime", "-m", module, "--help")
    assert result.returncode == 0
    assert "usage: python -m " + module in result.stdout
    loaded = set(re.findall(r"\| +([\w.]+)$", result.stderr, re.MULTILINE))
    assert not loaded & forbidden


def test_the_version_is_in_one_place():
    from runtime import __version__

    assert run_python("-m", "runtime", "--version").stdout.strip().endswith(__version__)
    assert "attr: runtime.__version__" in (ROOT / "setup.cfg").read_text()


def test_the_runtime_imports_nothing_above_it():
    for path in (ROOT / "runtime").rglob("*.py"):
        found = re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
        above = {"torch", "onnx", "hscaunet", "export", "calibration", "scipy", "skimage", "tqdm"}
        assert not set(found) & above, path


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["hscaunet.train", "--data", "x", "--out", "OUT"], "hscaunet[train]"),
        (["hscaunet.evaluate", "m.pt", "--data", "x"], "hscaunet[train]"),
        (["export.onnx"], "hscaunet[export]"),
    ],
)
def test_without_torch_a_command_names_its_pip_install(tmp_path, command, extra):
    (tmp_path / "torch.py").write_text("raise ImportError('blocked', name='torch')")
    command = [str(tmp_path / c) if c == "OUT" else c for c in command]
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    result = run_python("-m", *command, PYTHONPATH=path)
    assert result.returncode == 1
    assert f"torch is missing; pip install '{extra}'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def folder(tmp_path):
    """Photos of several kinds and places, hints for some, and one that is broken."""
    photos, hints = tmp_path / "in", tmp_path / "hints"
    (photos / "sub").mkdir(parents=True)
    (hints / "sub").mkdir(parents=True)
    grey = colorful(60, 80)[..., 1]
    write_image(photos / "a.png", grey)
    write_image(photos / "b.jpg", grey)
    write_image(photos / "sub" / "a.tif", grey.astype(np.uint16) * 257)
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n junk")
    (photos / "notes.txt").write_text("no picture")
    Hints([Hint(5, 5, "#c04030", 9)]).save(hints / "a.hints.json")
    Hints([Hint(10, 10, "#3040c0", 9)], image_size=(160, 120)).save(hints / "b.json")
    return tmp_path


def test_a_folder_goes_on_past_bad_files_and_ends_with_a_summary(folder, tiny_onnx, capsys):
    options = ["--model", str(tiny_onnx), "--backend", "onnxruntime", "--size", "64"]
    paths = [str(folder / "in"), "--out-dir", str(folder / "out")]
    assert main([*paths, "--hints-dir", str(folder / "hints"), *options]) == 1
    said = capsys.readouterr()
    assert "3 of 4 colorized, 3 with hints, 1 failed" in said.out
    assert said.err.count("broken.png") == 2  # when it happened, and at the end
    written = sorted(
        p.relative_to(folder / "out").as_posix() for p in (folder / "out").rglob("*.*")
    )
    assert written == ["a.png", "b.jpg", "sub/a.tif"]
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", size=64)
    grey = read_image(folder / "in" / "a.png")
    expected = colorizer.colorize(grey, [Hint(5, 5, "#c04030", 9)])
    assert np.array_equal(read_image(folder / "out" / "a.png"), expected)
    deep = read_image(folder / "out" / "sub" / "a.tif")
    assert deep.dtype == np.uint16
    assert np.array_equal(
        deep,
        colorizer.colorize(read_image(folder / "in" / "sub" / "a.tif"), [Hint(5, 5, "#c04030", 9)]),
    )


def test_a_run_goes_on_where_an_earlier_one_stopped(folder, tiny_onnx, capsys):
    options = ["--model", str(tiny_onnx), "--backend", "onnxruntime", "--size", "64"]
    files = [str(folder / "in" / name) for name in ("a.png", "b.jpg")]
    out = ["--out-dir", str(folder / "out")]
    assert main([files[0], *out, *options]) == 0
    before = (folder / "out" / "a.png").stat().st_mtime_ns
    assert main([*files, *out, "--skip-existing", *options]) == 0
    assert (folder / "out" / "a.png").stat().st_mtime_ns == before
    assert "1 of 2 colorized, 0 with hints, 1 were there already" in capsys.readouterr().out


def test_depth_and_alpha_that_a_format_cannot_hold_are_said_to_be_lost(tmp_path, tiny_onnx, capsys):
    options = ["--model", str(tiny_onnx), "--backend", "onnxruntime", "--size", "64"]
    deep = np.full((20, 30, 4), 30_000, np.uint16)
    write_image(tmp_path / "d.png", deep)
    assert main([str(tmp_path / "d.png"), "-o", str(tmp_path / "o.jpg"), *options]) == 0
    assert "cannot hold more than 8 bits a channel or alpha" in capsys.readouterr().err
    assert read_image(tmp_path / "o.jpg").shape == (20, 30, 3)
    assert main([str(tmp_path / "d.png"), "-o", str(tmp_path / "o.webp"), *options]) == 0
    assert read_image(tmp_path / "o.webp").shape == (20, 30, 4)
    assert main([str(tmp_path / "d.png"), "-o", str(tmp_path / "o.png"), *options]) == 0
    assert np.array_equal(read_image(tmp_path / "o.png")[..., 3], deep[..., 3])


def test_standard_input_and_output(tmp_path, tiny_onnx):
    write_image(tmp_path / "a.png", colorful(30, 40)[..., 0])
    options = ["--model", str(tiny_onnx), "--size", "64", "--format", "webp"]
    result = subprocess.run(
        [sys.executable, "-m", "runtime", "-", "-o", "-", *options],
        input=(tmp_path / "a.png").read_bytes(),
        capture_output=True,
        cwd=ROOT,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert decode_photo(result.stdout).pixels.shape == (30, 40, 3)
    assert b"40x30, 0 hints" in result.stderr
    result = subprocess.run(
        [sys.executable, "-m", "runtime", "-", "-o", "-"],
        input=b"junk",
        capture_output=True,
        cwd=ROOT,
        timeout=120,
    )
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"standard input is not a picture" in result.stderr


def test_a_layer_is_hints_and_a_report_is_printed(tmp_path, tiny_onnx, capsys):
    grey = colorful(60, 80)[..., 1]
    layer = np.zeros((60, 80, 4), np.uint8)
    layer[10:14, 20:24] = (200, 40, 30, 255)
    write_image(tmp_path / "g.png", grey)
    write_image(tmp_path / "l.png", layer)
    options = ["--layer", str(tmp_path / "l.png"), "--report", "--model", str(tiny_onnx)]
    assert main([str(tmp_path / "g.png"), "-o", str(tmp_path / "o.png"), *options]) == 0
    said = capsys.readouterr().out
    assert "16 hints" in said
    assert "mean CIEDE2000 at the hints:" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([COFFEE], "either -o OUT"),
        ([COFFEE, "-o", "x.png", "--out-dir", "y"], "either -o OUT"),
        ([COFFEE, COFFEE, "-o", "x.png"], "one photo"),
        ([COFFEE, "--out-dir", "y", "--hint", "1,1,#000000"], "use --hints-dir"),
        ([COFFEE, "-o", "x.png", "--hints-dir", "y"], "go with --out-dir"),
        (["-", "--out-dir", "y"], "standard input"),
        ([COFFEE, "--out-dir", "y", "--format", "gif"], "must be png"),
        ([COFFEE, "-o", "x.png", "--format", "png"], "by its name"),
        ([COFFEE, "-o", "x.jpg", "--quality", "0"], "1 to 100"),
        ([COFFEE, "-o", "x.jpg", "--max-pixels", "0"], "at least 1"),
        ([COFFEE, "-o", "x.png", "--max-pixels", "9"], "limit of 9"),
        ([COFFEE, "-o", "x.png", "--size", "7"], "size must be"),
        ([str(EXAMPLES), "-o", "x.png"], "use --out-dir"),
        ([COFFEE, "--out-dir", "y", "--hints-dir", "none"], "no folder none"),
        ([COFFEE, "--out-dir", str(EXAMPLES)], "over itself"),
        ([str(ROOT / "docs" / "none"), "--out-dir", str(ROOT / "setup.cfg")], "cannot be made"),
        ([str(ROOT / "runtime" / "hints"), "--out-dir", "y"], "holds no picture"),
    ],
)
def test_options_that_do_not_go_together_are_said(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(options)
    except SystemExit as error:
        status = error.code
    assert status in (1, 2)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_on_a_terminal_only(folder, tiny_onnx):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def fileno(self):
            raise OSError

    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", size=64)
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        jobs = plan([str(folder / "in")], folder / f"out{shown}").jobs
        outcome = run_jobs(jobs, colorizer, Settings(), stream=stream)
        assert (outcome.done, len(outcome.failed)) == (3, 1)
        assert ("[####" in stream.getvalue()) == shown
        assert "error: " in stream.getvalue()


def test_photos_and_results_may_lie_in_folders_around_each_other(folder):
    photos = folder / "in"
    assert len(plan([str(photos)], folder).jobs) == 4  # DIR lies above: nothing is left out
    inside = photos / "colour"
    inside.mkdir()
    write_image(inside / "old.png", np.zeros((4, 4), np.uint8))
    assert len(plan([str(photos)], inside).jobs) == 4  # earlier results are no photos
    hints = plan([str(photos)], folder / "x", hints_dir=folder / "hints").jobs
    found = {j.source.name: j.hints and j.hints.name for j in hints}
    assert found == {
        "a.png": "a.hints.json",
        "b.jpg": "b.json",
        "broken.png": None,
        "old.png": None,
        "a.tif": "a.hints.json",
    }
    Hints([Hint(1, 1, "#000000")]).save(folder / "hints" / "sub" / "a.json")
    nearer = plan([str(photos)], folder / "x", hints_dir=folder / "hints").jobs[-1].hints
    assert nearer == folder / "hints" / "sub" / "a.json"


def test_whatever_happens_to_one_photo_the_others_go_on(folder, tiny_onnx, monkeypatch):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", size=64)
    whole = colorizer.colorize
    monkeypatch.setattr(
        colorizer,
        "colorize",
        lambda image, hints, **more: 1 / 0 if image.dtype == np.uint16 else whole(image, hints),
    )
    jobs = plan([str(folder / "in")], folder / "out").jobs
    outcome = run_jobs(jobs, colorizer, Settings(), stream=io.StringIO())
    assert (outcome.done, len(outcome.failed)) == (2, 2)


def test_names_that_the_console_cannot_show_do_not_end_the_run(tmp_path, tiny_onnx):
    write_image(tmp_path / "a.png", np.zeros((20, 20), np.uint8))
    out = tmp_path / "写真.png"
    result = run_python(
        "-m", "runtime", str(tmp_path / "a.png"), "-o", str(out), "--model", str(tiny_onnx),
        PYTHONIOENCODING="cp1252",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert out.exists()
