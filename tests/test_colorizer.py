import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnx
import pytest
from conftest import EXAMPLES, ONNX_ENGINES, ROOT, colorful

import runtime
from runtime import (
    ArrayError,
    BackendError,
    ColorizationError,
    Colorizer,
    Hint,
    HintError,
    Hints,
    ImageError,
    MissingDependencyError,
    ModelError,
    read_image,
)
from runtime.color import L_from_rgb, lab_from_rgb
from runtime.layout import NEUTRAL, network_size
from runtime.models import manifest as manifest_module


@pytest.fixture(scope="module")
def colorizer():
    return Colorizer(backend="onnxruntime")


@pytest.fixture(scope="module")
def grey():
    return cv2.cvtColor(colorful(120, 200), cv2.COLOR_RGB2GRAY)


def test_it_says_what_runs(colorizer):
    assert (colorizer.backend, colorizer.device, colorizer.precision) == (
        "onnxruntime",
        "cpu",
        "fp32",
    )
    assert colorizer.metadata["name"] == "hscaunet-lite"
    assert "hscaunet-lite" in repr(colorizer)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (37, 91), (256, 256), (700, 1001)])
def test_any_size_comes_back_as_rgb_of_that_size_with_its_own_L(colorizer, shape):
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.integers(0, 256, shape, np.uint8), (0, 0), 2).reshape(shape)
    out = colorizer.colorize(grey, [Hint(0, 0, "#c06040")])
    assert out.shape == (*shape, 3)
    assert out.dtype == np.uint8
    # L is kept but for rounding and colours clipped to sRGB.
    assert np.median(np.abs(L_from_rgb(out) - L_from_rgb(grey))) < 0.5


def test_colour_input_is_reduced_to_its_L(colorizer):
    rgb = colorful(96, 128)
    L = L_from_rgb(rgb)
    hints = [Hint(10, 10, "#7080a0")]
    first = colorizer.colorize(rgb, hints)
    turned = colorizer.colorize(first, hints)
    inside = np.abs(L_from_rgb(first) - L) < 0.5
    assert inside.mean() > 0.7
    assert np.abs(first.astype(int) - turned)[inside].mean() < 1.5


def test_views_and_read_only_arrays_work_and_are_left_alone(colorizer, grey):
    big = np.zeros((240, 400), np.uint8)
    big[::2, ::2] = grey
    view = big[::2, ::2]
    view.flags.writeable = False
    hints = Hints([Hint(5, 5, "#ff0000")])
    assert np.array_equal(colorizer.colorize(view, hints), colorizer.colorize(grey, hints))
    assert np.array_equal(view, grey)


def test_a_hint_colours_its_place(colorizer):
    photo = read_image(EXAMPLES / "coffee-grey.jpg")
    hints = Hints.load(EXAMPLES / "coffee.hints.json")
    lab = lab_from_rgb(colorizer.colorize(photo, hints))
    distances = []
    for hint in hints:
        wanted = lab_from_rgb(np.array([[hint.color]], np.uint8))[0, 0, 1:]
        distances.append(np.hypot(*(lab[hint.y, hint.x, 1:] - wanted)))
    assert np.median(distances) < 10


def test_a_one_pixel_hint_on_a_large_photo_counts_fully(colorizer):
    grey = cv2.resize(cv2.cvtColor(colorful(96, 128), cv2.COLOR_RGB2GRAY), (1600, 1200))
    plain = colorizer.colorize(grey)
    red = colorizer.colorize(grey, [Hint(801, 601, "#d02020")])
    place = (
        lab_from_rgb(red[601:602, 801:802])[0, 0, 1]
        - lab_from_rgb(plain[601:602, 801:802])[0, 0, 1]
    )
    assert place > 15


def test_threads_share_one_colorizer(colorizer, grey):
    jobs = [Hints([Hint(x, 60, (200, x, 30), 5)]) for x in range(0, 200, 25)]
    alone = [colorizer.colorize(grey, hints) for hints in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda hints: colorizer.colorize(grey, hints), jobs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_predict_takes_and_gives_the_networks_layout(colorizer):
    x = np.full((2, 4, 64, 96), NEUTRAL, np.float32)
    x[:, 3] = 0
    out = colorizer.predict(x)
    assert out.shape == (2, 2, 64, 96)
    assert out.dtype == np.float32
    assert np.abs(out[0] - out[1]).max() < 1e-5


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 4, 64, 64)), "float32"),
        (np.zeros((4, 64, 64), np.float32), r"\(N, 4, H, W\)"),
        (np.zeros((1, 3, 64, 64), np.float32), r"\(N, 4, H, W\)"),
        (np.zeros((0, 4, 64, 64), np.float32), r"\(N, 4, H, W\)"),
        (np.zeros((1, 4, 64, 72), np.float32), "multiples of 16"),
        (np.full((1, 4, 64, 64), np.nan, np.float32), "NaN"),
    ],
)
def test_wrong_arrays_are_refused(colorizer, x, message):
    with pytest.raises(ArrayError, match=message):
        colorizer.predict(x)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.complex64),
        np.zeros((8, 8), np.int16),
        np.zeros((8, 8), "U1"),
        np.zeros((8, 8, 5), np.uint8),
        np.zeros((8, 8, 0), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.full((8, 8), 255, np.float32),
        np.full((8, 8), np.nan, np.float32),
        np.full((8, 8), -np.inf, np.float32),
        np.zeros((0, 8), np.uint8),
        np.zeros(8, np.uint8),
        np.full((8, 8), np.nan),
        [[1, 2], [3, 4]],
        None,
    ],
)
def test_wrong_images_are_refused(colorizer, image):
    with pytest.raises(ImageError):
        colorizer.colorize(image)


def test_wrong_hints_are_refused(colorizer, grey):
    with pytest.raises(HintError, match="outside the image of 200x120"):
        colorizer.colorize(grey, [Hint(200, 0, "#000000")])
    with pytest.raises(HintError, match="made of Hint"):
        colorizer.colorize(grey, [(1, 1)])
    with pytest.raises(HintError, match="list of Hint"):
        colorizer.colorize(grey, 5)


def test_all_errors_have_one_base():
    for error in (
        ArrayError,
        BackendError,
        HintError,
        ImageError,
        MissingDependencyError,
        ModelError,
    ):
        assert issubclass(error, ColorizationError)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "nonsense"}, BackendError, "choose one of"),
        ({"device": "nonsense"}, BackendError, "choose one of"),
        ({"device": "cuda"}, BackendError, r"hscaunet\[gpu\]"),
        ({"threads": 0}, BackendError, "of 1 to 4096"),
        ({"threads": 1.5}, BackendError, "whole number"),
        ({"threads": 10**12}, BackendError, "of 1 to 4096"),
        ({"threads": 10**5000}, BackendError, "many digits"),
        ({"backend": ["openvino"]}, BackendError, "no engine"),
        ({"model": 5}, ModelError, "cannot be opened"),
        ({"model": "x" * 5000}, ModelError, "cannot be opened"),
        ({"model": "nonsense"}, ModelError, "no bundled model"),
        ({"model": "no/such.onnx"}, ModelError, "no model file"),
        ({"model": "no-such.onnx"}, ModelError, "no model file"),
    ],
)
def test_what_is_not_there_is_said(options, error, message):
    with pytest.raises(error, match=message):
        Colorizer(**options)


def test_threads_and_bundled_names_are_taken(grey):
    one = Colorizer("hscaunet-lite", backend="onnxruntime", device="cpu", threads=1)
    assert one.colorize(grey).shape == (120, 200, 3)


@pytest.mark.parametrize("backend", ONNX_ENGINES)
def test_damaged_and_foreign_models_are_refused(tmp_path, tiny_onnx, backend):
    path = tmp_path / "m.onnx"
    data = tiny_onnx.read_bytes()
    for content in (b"", b"junk" * 100, data[: len(data) // 2]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be opened"):
            Colorizer(path, backend=backend)
    whole = bytearray(data)  # as long as before, with a name that an operator does not have
    at = whole.index(b"\x22\x04Conv") + 2
    whole[at : at + 4] = b"Xonv"
    path.write_bytes(whole)
    with pytest.raises(ModelError, match="cannot be opened"):
        Colorizer(path, backend=backend)
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    shape = [onnx.helper.make_tensor_value_info(n, 1, [1, 4]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "other", shape[:1], shape[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    with pytest.raises(ModelError, match="not one of this project"):
        Colorizer(path, backend=backend)


@pytest.mark.parametrize("backend", ONNX_ENGINES)
def test_a_model_with_our_name_but_another_interface_is_refused(tmp_path, backend):
    for shape in ([1, 3, "H", "W"], [1, 4]):
        values = [onnx.helper.make_tensor_value_info(n, 1, shape) for n in "xy"]
        node = onnx.helper.make_node("Relu", ["x"], ["y"])
        graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
        opset = [onnx.helper.make_opsetid("", 17)]
        proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        proto.metadata_props.add(key="layout", value="hscaunet-layout-1")
        onnx.save(proto, tmp_path / "m.onnx")
        with pytest.raises(ModelError, match="claims this project's layout"):
            Colorizer(tmp_path / "m.onnx", backend=backend)


@pytest.mark.parametrize("backend", ONNX_ENGINES)
def test_a_model_cannot_read_other_files(tmp_path, tiny_onnx, monkeypatch, backend):
    """Weights outside the model file are refused, wherever they lie."""
    monkeypatch.chdir(tmp_path)
    onnx.save(
        onnx.load(tiny_onnx),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(ModelError, match="weights in other files"):
        Colorizer(tmp_path / "m.onnx", backend=backend)


@pytest.mark.parametrize("backend", ONNX_ENGINES)
def test_a_model_that_returns_nan_is_an_error(tmp_path, tiny_onnx, backend):
    proto = onnx.load(tiny_onnx)
    for tensor in proto.graph.initializer:
        if tensor.name.endswith("unet.outc.weight"):
            spoiled = np.full(list(tensor.dims), np.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(spoiled, tensor.name))
    onnx.save(proto, tmp_path / "nan.onnx")
    colorizer = Colorizer(tmp_path / "nan.onnx", backend=backend)
    with pytest.raises(BackendError, match="NaN"):
        colorizer.colorize(np.zeros((32, 32), np.uint8))
    with pytest.raises(BackendError, match="NaN"):
        colorizer.warm_up()


def test_a_bundled_model_that_was_changed_is_refused(tmp_path, monkeypatch):
    source = manifest_module.MODELS
    for path in source.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(manifest_module, "MODELS", tmp_path)
    monkeypatch.setattr("runtime.colorizer.MODELS", tmp_path)
    with open(tmp_path / "hscaunet-lite.onnx", "r+b") as file:
        file.seek(1000)
        file.write(b"\xff\xfe\xfd")
    with pytest.raises(ModelError, match="sha256"):
        manifest_module.find_model("hscaunet-lite", tmp_path)
    (tmp_path / "hscaunet-lite.onnx").unlink()
    with pytest.raises(ModelError, match="missing"):
        manifest_module.find_model("hscaunet-lite", tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="manifest"):
        manifest_module.find_model("hscaunet-lite", tmp_path)


def test_a_missing_engine_names_its_pip_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "runtime.engines.onnxruntime", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hscaunet\[cpu\]'"):
        Colorizer(backend="onnxruntime")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "runtime.engines.openvino", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hscaunet\[openvino\]'"):
        Colorizer(backend="openvino")
    monkeypatch.setattr("runtime.engines.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hscaunet\[cpu\]'"):
        Colorizer()


def test_network_sizes_keep_the_aspect_in_multiples_of_16():
    assert network_size(256, 256) == (256, 256)
    assert network_size(3000, 4000) == (224, 304)
    assert network_size(1, 100_000) == (16, 1024)
    assert network_size(100_000, 1) == (1024, 16)
    assert network_size(400, 600) == (208, 320)
    for height, width in [(7, 5), (1080, 1920), (2000, 1000), (500, 499)]:
        h, w = network_size(height, width)
        assert h % 16 == w % 16 == 0
        assert 0.9 < (h / w) / (height / width) < 1.1
        assert 0.9 < h * w / 65536 < 1.1


def test_the_runtime_works_where_torch_and_onnx_cannot_be_imported(tmp_path):
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "scipy", "skimage", "hscaunet", "export"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
try:
    import torch
except ImportError as error:
    assert "blocked" in str(error)
else:
    raise SystemExit("torch was importable")
from runtime.__main__ import main
raise SystemExit(main([{str(EXAMPLES / "coffee-grey.jpg")!r}, "--hints",
    {str(EXAMPLES / "coffee.hints.json")!r}, "-o", {str(tmp_path / "o.png")!r}]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert read_image(tmp_path / "o.png").shape == (400, 600, 3)


def test_the_package_lists_what_it_offers():
    assert {"Colorizer", "Hint", "Hints"} <= set(dir(runtime))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = runtime.nonsense
