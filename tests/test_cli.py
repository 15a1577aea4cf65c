import os
import re

import cv2
import numpy as np
import pytest
from conftest import EXAMPLES, ROOT, colorful, run_python

from runtime import Colorizer, Hint, Hints, read_image, write_image
from runtime.__main__ import main

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
    expected = Colorizer().colorize(grey, Hints.from_image(rgb, mask))
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
