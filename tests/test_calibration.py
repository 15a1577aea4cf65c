"""INT8: ranges, quantizing, the search, the report, and what is refused."""

import errno
import json
import os
import weakref
from dataclasses import replace

import numpy as np
import onnx
import pytest
from conftest import ONNX_ENGINES, colorful
from onnx import helper, numpy_helper

from calibration import METHODS
from calibration import ranges as ranges_module
from calibration import report as report_module
from calibration import search as search_module
from calibration.__main__ import main
from calibration.data import BUILT_IN, MOST_HINTS, CalibrationSet
from calibration.measure import cases, onnxruntime_run, picture, quality, some_cases
from calibration.quantize import CalibrationError, candidates, exclude, quantize
from calibration.ranges import LEVELS, _Histograms, collect, load, save
from calibration.search import rank, search
from export.parity import main as parity
from export.reading import load_graph
from export.tensorrt.build import build
from export.tensorrt.options import BuildOptions
from hscaunet.data.photos import DataError
from runtime import Colorizer, Hint, ModelError
from runtime.engines.tensorrt.library import open_library


@pytest.fixture(scope="module")
def graph(tiny_onnx):
    return load_graph(tiny_onnx)[0]


@pytest.fixture(scope="module")
def measured(graph):
    """Ranges of the tiny network over the built-in set."""
    return collect(graph, CalibrationSet(photos=4).inputs, "max", candidates(graph))


@pytest.fixture(scope="module")
def int8(tiny_onnx, photo_folder, tmp_path_factory):
    """The tiny network, quantized by the command."""
    output = tmp_path_factory.mktemp("int8") / "tiny.int8.onnx"
    command = [str(tiny_onnx), "-o", str(output), "--data", str(photo_folder), "--photos", "4"]
    assert main(command) == 0
    return output


@pytest.fixture(scope="module")
def squares():
    return [colorful(256, 256, seed) for seed in range(4)]


def test_the_file_is_what_tensorrt_takes(int8, tiny_onnx):
    proto = onnx.load(int8)
    assert proto.opset_import[0].version <= 20
    assert {n.domain for n in proto.graph.node} <= {"", "ai.onnx"}
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    quantized = 0
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8, "S8"
            assert not zero.any(), "symmetric"
        if node.op_type in ("Conv", "ConvTranspose"):
            weight = makers.get(node.input[1])
            if weight is None:
                continue
            if weight.op_type == "Cast":  # stays in float, and is stored as fp16
                assert constants[weight.input[0]].dtype == np.float16
                continue
            quantized += 1
            assert weight.op_type == "DequantizeLinear"
            assert constants[weight.input[0]].dtype == np.int8, "weights are stored as 8 bits"
            channels = constants[weight.input[0]].shape[1 if node.op_type == "ConvTranspose" else 0]
            assert constants[weight.input[1]].shape == (channels,), "by channel"
            if len(node.input) > 2:
                assert node.input[2] in constants, "no quantized bias"
                assert constants[node.input[2]].dtype == np.float32
    assert quantized == 39
    # What starts as float: attention, hint input, last convolution, interpolation.
    assert {"unet.inc.conv.weight", "unet.outc.weight"} <= set(constants)
    facts = {p.key: p.value for p in proto.metadata_props}
    assert facts["precision"] == "int8"
    # All that the file says of itself but where it may be cut: eight bits come as one graph.
    own = ("precision", "photo")
    before = {p.key: p.value for p in onnx.load(tiny_onnx).metadata_props}
    assert {k: v for k, v in facts.items() if k != "precision"} == {
        k: v for k, v in before.items() if k not in own
    }


def test_the_bundled_model_shrinks_to_less_than_a_third(tmp_path, capsys):
    output = tmp_path / "lite.int8.onnx"
    assert main(["-o", str(output), "--photos", "1", "--method", "max"]) == 0
    out = capsys.readouterr().out
    assert "1 pictures of one sample photo: enough to try, too few to ship" in out
    assert "39 of 39 convolutions" in out
    whole = 4 * sum(  # of the fp32 file
        numpy_helper.to_array(t).size for t in onnx.load(output).graph.initializer
    )
    assert output.stat().st_size < whole / 3


@pytest.mark.parametrize("backend", ONNX_ENGINES)
def test_int8_models_are_first_class(backend, int8, tiny_onnx):
    photo = colorful(200, 260)[..., 1]
    hints = [Hint(60, 60, "#c04020", 9), Hint(200, 90, "#3060c0", 9)]
    with Colorizer(int8, backend=backend, device="cpu") as colorizer:
        assert colorizer.precision == "int8"
        found = colorizer.colorize(photo, hints)
    with Colorizer(tiny_onnx, backend=backend, device="cpu") as colorizer:
        right = colorizer.colorize(photo, hints)
    assert 0 < np.abs(found.astype(int) - right).mean() < 3


def test_parity_judges_int8_by_psnr(int8, tiny_onnx, capsys):
    status = parity([f"onnxruntime:{tiny_onnx}", f"onnxruntime:{int8}"])
    out = capsys.readouterr().out
    assert "int8 may by 0.05 dB" in out
    assert ("\nthe same" in out) == (status == 0)


def test_rtx_builds_it(int8, tmp_path):
    sidecar = build(int8, tmp_path / "a.engine", open_library("rtx"), BuildOptions())
    assert (sidecar.precision, sidecar.quantized) == ("int8", 39)


def test_ranges_are_kept_and_used_until_something_changes(tiny_onnx, tmp_path, capsys, monkeypatch):
    output, kept = tmp_path / "a.onnx", tmp_path / "a.onnx.ranges.json"
    command = [str(tiny_onnx), "-o", str(output), "--photos", "2", "--method", "max"]
    assert main(command) == 0
    first, text = output.read_bytes(), kept.read_text()
    assert len(text.splitlines()) > 40, "a line a tensor"
    assert "nothing has changed" not in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(ranges_module, "collect", None)
        assert main(command) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert output.read_bytes() == first
    for change in (["--photos", "3"], ["--seed", "1"], ["--method", "percentile"]):
        assert main([*command, *change]) == 0
        assert "nothing has changed" not in capsys.readouterr().out
        kept.write_text(text)
    whole = json.loads(text)
    empty = json.dumps({**whole, "ranges": {}})
    lacking = json.dumps({**whole, "ranges": dict(list(whole["ranges"].items())[1:])})
    reverse = text.replace("[-", "[9", 1)
    for damage in (
        empty,
        lacking,
        reverse,
        text.replace("[-", "[-" + "9" * 400, 1),
        "",
        "{",
        "[]",
        '{"format": "hscaunet-ranges-1"}',
        "[" * 100_000,
    ):
        kept.write_text(damage)
        assert main(command) == 0
        assert "nothing has changed" not in capsys.readouterr().out
        assert kept.read_text() == text
    assert output.read_bytes() == first


@pytest.mark.parametrize("method", METHODS)
def test_each_method_takes_inputs_one_at_a_time(method, graph, monkeypatch):
    """Memory does not grow with the number of photos: neither inputs nor values are kept."""
    real, given, calibrators = ranges_module.create_calibrator, [], []

    def spy(*args, **kwargs):
        calibrators.append(real(*args, **kwargs))
        return calibrators[-1]

    monkeypatch.setattr(ranges_module, "create_calibrator", spy)

    def inputs():
        for x in CalibrationSet(photos=7).inputs():
            one = x[:, :, :64, :64].copy()
            given.append(weakref.ref(one))
            yield one
            del one
            assert sum(ref() is not None for ref in given) <= 2
            assert len(calibrators[-1].intermediate_outputs) <= 1

    found = collect(graph, inputs, method, candidates(graph))
    assert len(calibrators) == (1 if method == "max" else 2)
    assert len(found) == len(
        {
            t
            for n in graph.graph.node
            if n.name in candidates(graph)
            for t in (n.input[0], *n.output)
        }
    )
    assert all(low <= high for low, high in found.values())
    assert all(low == -high for low, high in found.values()) or method != "max"


def test_the_methods_differ_and_max_holds_everything(graph):
    few = [x[:, :, :64, :64].copy() for x in CalibrationSet(photos=3).inputs()]
    found = {m: collect(graph, lambda: few, m, candidates(graph)) for m in METHODS}
    for name, (_, high) in found["max"].items():
        assert found["percentile"][name][1] <= high * 1.001
        assert found["entropy"][name][1] <= high * 1.001
    clipped = [n for n, (_, h) in found["entropy"].items() if h < 0.9 * found["max"][n][1]]
    assert clipped, "entropy clips; docs/deploy.md says what that costs"


def test_the_order_of_the_photos_changes_no_range(graph):
    """ONNX Runtime alone makes its bins of the first photo; entropy's result is then another."""
    few = [x[:, :, :64, :64].copy() for x in CalibrationSet(photos=4).inputs()]
    few[1][:, 0] *= 0.05
    for method in METHODS:
        one, two = (
            collect(graph, lambda o=order: o, method, candidates(graph))
            for order in (few, few[::-1])
        )
        assert one.keys() == two.keys()
        for name, (_, high) in one.items():
            assert two[name][1] == pytest.approx(high, rel=1e-5, abs=1e-9), (method, name)


@pytest.mark.parametrize("bins", [128, 200, 501])
def test_the_entropy_search_is_that_of_onnxruntime(bins):
    from onnxruntime.quantization.calibrate import HistogramCollector

    rng = np.random.default_rng(bins)
    collector = HistogramCollector("entropy", True, bins, LEVELS, 0, "same")
    for _ in range(3):
        values = rng.standard_t(3, 4000).astype(np.float32)
        if rng.random() < 0.5:
            values = np.maximum(values, 0)
        limit = np.abs(values).max()
        counts, edges = np.histogram(values, bins, (-limit, limit))
        histogram = (counts, edges.astype(np.float32), values.min(), values.max(), limit)
        wanted = collector.get_entropy_threshold(histogram, LEVELS)
        assert _Histograms("entropy", {}).get_entropy_threshold(histogram, LEVELS) == wanted


def test_percentile_never_gives_a_range_of_nothing():
    """A few values above zero among many zeros, and a crowd near zero below a few outliers."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    assert issubclass(_Histograms, HistogramCollector)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 64, 64])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 64, 64])
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], "c")], "g", [x], [y])
    graph.initializer.append(weight)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    proto.ir_version = 10
    few = np.zeros((1, 1, 64, 64), np.float32)
    few[0, 0, 0, :3] = 5.0
    found = collect(proto, lambda: [few] * 40, "percentile", ["c"])
    assert all(high > 0 for _, high in found.values())
    crowd = np.random.default_rng(0).normal(0, 1e-3, (40, 1, 1, 64, 64)).astype(np.float32)
    crowd[0, 0, 0, 0, :3] = 5.0
    found = collect(proto, lambda: list(crowd), "percentile", ["c"])
    assert found["x"][1] >= np.quantile(np.abs(crowd), ranges_module.PERCENTILE / 100) - 1e-6


def test_photos_that_change_or_are_none_are_noticed(graph):
    few = [x[:, :, :64, :64].copy() for x in CalibrationSet(photos=2).inputs()]
    for method in ("percentile", "entropy"):
        turns = iter((few, few[:1], few, few[::-1]))
        for _ in range(2):
            with pytest.raises(DataError, match="changed while"):
                collect(graph, lambda t=turns: next(t), method, candidates(graph))
    for method in METHODS:
        with pytest.raises(DataError, match="no photos"):
            collect(graph, lambda: [], method, candidates(graph))
    with pytest.raises(ValueError, match="not all of the nodes"):
        collect(graph, lambda: few, "max", ["nonsense"])


def test_a_tensor_that_is_zero_throughout_has_a_range(graph):
    dark = [np.zeros((1, 4, 64, 64), np.float32)]
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    for constant in made.graph.initializer:
        if constant.name.startswith("unet.inc."):
            constant.CopyFrom(
                numpy_helper.from_array(
                    np.zeros_like(numpy_helper.to_array(constant)), constant.name
                )
            )
    for method in METHODS:
        found = collect(made, lambda: dark, method, candidates(made))
        assert (0.0, 0.0) in found.values()
        onnxruntime_run(quantize(made, found, list(candidates(made))))(dark[0])


def test_the_calibration_set_is_what_users_do(photo_folder):
    chosen = CalibrationSet((str(photo_folder),), photos=8)
    inputs = list(chosen.inputs())
    again = list(chosen.inputs())
    assert all(np.array_equal(a, b) for a, b in zip(inputs, again, strict=True))
    assert not np.array_equal(inputs[0], next(CalibrationSet(chosen.data, seed=1).inputs()))
    assert chosen.digest() == CalibrationSet((str(photo_folder),), photos=8).digest()
    assert chosen.digest() != CalibrationSet((str(photo_folder),), photos=8, seed=1).digest()
    counts = [int(x[:, 3].sum()) for x in CalibrationSet(photos=BUILT_IN).inputs()]
    assert len(counts) == BUILT_IN
    assert min(counts) < 60
    assert max(counts) > 300
    assert MOST_HINTS == 300
    # N is of photos that can be used: the grey and the broken one do not count.
    assert len(list(CalibrationSet((str(photo_folder),), photos=20).inputs())) == 8


def test_bad_photos(tmp_path, tiny_onnx, capsys):
    empty, grey = tmp_path / "empty", tmp_path / "grey"
    empty.mkdir()
    grey.mkdir()
    import cv2

    cv2.imwrite(str(grey / "a.png"), np.full((80, 80, 3), 100, np.uint8))
    output = tmp_path / "a.onnx"
    for folder, match in ((empty, "No usable colour photo"), (grey, "No usable colour photo"),
                          (tmp_path / "no", "does not exist")):  # fmt: skip
        assert main([str(tiny_onnx), "-o", str(output), "--data", str(folder)]) == 1
        assert match in capsys.readouterr().err
    assert not output.exists()
    with pytest.raises(DataError):
        list(CalibrationSet((str(grey),)).inputs())


def test_bad_models(tmp_path, tiny_onnx, int8, capsys):
    foreign = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), foreign)
    half = tmp_path / "half.onnx"
    proto = onnx.load(tiny_onnx)
    for entry in proto.metadata_props:
        if entry.key == "precision":
            entry.value = "fp16"
    onnx.save(proto, half)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(tiny_onnx.read_bytes()[:1000])
    output = tmp_path / "out.onnx"
    for path, match in (
        (int8, "quantized already"),
        (foreign, "not one of this project"),
        (half, "give the fp32 file"),
        (broken, "damaged or cut short"),
        (tmp_path / "no.onnx", "no model file"),
    ):
        assert main([str(path), "-o", str(output)]) == 1
        assert match in capsys.readouterr().err
    for wrong in (tiny_onnx, output, tmp_path, tmp_path / "no" / "a.json"):
        assert main([str(tiny_onnx), "-o", str(output), "--ranges", str(wrong)]) == 1
        assert "--ranges must be a file ending in .json" in capsys.readouterr().err
    for wrong in (str(tiny_onnx), "a.txt", str(tmp_path), "no/folder/a.onnx"):
        assert main([str(tiny_onnx), "-o", wrong]) == 1
        assert capsys.readouterr().err.startswith("error: The ")
    assert main([str(tiny_onnx), "-o", str(output), "--exclude", "nothing.*"]) == 1
    assert "matches none of" in capsys.readouterr().err
    assert not output.exists()


def test_a_full_disk_leaves_the_old_file(tmp_path, tiny_onnx, capsys, monkeypatch):
    output = tmp_path / "a.onnx"
    command = [str(tiny_onnx), "-o", str(output), "--photos", "1", "--method", "max"]
    assert main(command) == 0
    old = output.read_bytes()
    real = os.fsync

    def full(handle):
        if os.fstat(handle).st_size > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert main([*command, "--exclude", "unet.up1.*"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert output.read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.onnx.ranges.json"]


def test_exclude_keeps_convolutions_in_float(graph, measured):
    nodes = candidates(graph)
    left = exclude(nodes, ["unet.up1.*", "photo.join.*"])
    assert len(nodes) == 39
    assert len(left) == 39 - 2 - 2
    made = quantize(graph, measured, list(left))
    floats = {t.name for t in made.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    assert {w for n, w in nodes.items() if n not in left} <= floats
    with pytest.raises(CalibrationError, match="Nothing is left"):
        exclude(nodes, ["*"])


@pytest.fixture
def rank_once(monkeypatch):
    """`rank`, also as the search calls it, which keeps what it found: it takes minutes."""
    kept = {}

    def once(proto, ranges, nodes, photos, *more):
        truths = [case.truth.tobytes() for case in photos]
        key = repr((sorted(ranges.items()), sorted(nodes), truths))
        if key not in kept:
            kept[key] = rank(proto, ranges, nodes, photos, *more)
        return kept[key]

    monkeypatch.setattr(search_module, "rank", once)
    return once


def test_a_range_that_is_wrong_is_found_by_the_search(graph, measured, squares, rank_once):
    """One tensor's range is made far too small, as if it had been clipped."""
    nodes = candidates(graph)
    bad = "unet.up1.conv.1.0.weight"
    (node,) = [n for n, w in nodes.items() if w == bad]
    (made,) = [n for n in graph.graph.node if n.name == node]
    spoiled = {**measured, made.input[0]: (-0.001, 0.001)}
    # These weights are random; so the truth is what they make of it in fp32.
    run = onnxruntime_run(graph)
    photos = [replace(case, truth=picture(run, case)) for case in some_cases(squares[:2])]
    losses = rank_once(graph, spoiled, nodes, photos)
    assert losses[0].weight == bad
    assert losses[0].error > 3 * losses[1].error
    left, _, steps = search(graph, measured, nodes, photos, budget=100.0)
    assert (len(left), len(steps)) == (39, 1), "within the budget nothing stays in float"
    good = steps[0][1]
    _, _, steps = search(graph, spoiled, nodes, photos, budget=100.0)
    bad_psnr = steps[0][1]
    assert bad_psnr < good - 1
    left, _, steps = search(graph, spoiled, nodes, photos, budget=-(good + bad_psnr) / 2)
    assert node not in left
    assert (len(left), len(steps)) == (38, 2)


def test_search_by_command(tiny_onnx, tmp_path, capsys, rank_once):
    output = tmp_path / "a.onnx"
    command = [str(tiny_onnx), "-o", str(output), "--photos", "2", "--search"]
    command += ["--method", "max", "--budget", "9"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "unet.down3.conv.weight" in out
    assert "with 0 of them in float:" in out
    assert "stays in float" not in out
    assert main([*command[:-1], "1e-9"]) == 0
    out = capsys.readouterr().out
    assert out.count("stays in float") in (0, 1, 2, 4, 8, 16)
    assert "with 0 of them in float:" in out


def test_the_report(int8, tiny_onnx, photo_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report_module, "ROUNDS", 2)  # each is a process, and takes seconds
    report, drawn = tmp_path / "r.json", tmp_path / "r.png"
    command = [str(tiny_onnx), str(int8), "--data", str(photo_folder), "--photos", "2"]
    command += ["--json", str(report), "--plot", str(drawn), "--repeats", "1", "--method", "max"]
    assert report_module.main(command) == 0
    out = capsys.readouterr().out
    found = json.loads(report.read_text())
    quality_of = found["quality"]["tiny.int8.onnx"]
    assert list(quality_of) == ["zhang N=0", "zhang N=10", "zhang N=100", "published 0.5 %"]
    assert all(abs(q["psnr_change"]) < 3 for q in quality_of.values())
    assert found["quality"]["tiny.onnx"]["zhang N=10"]["psnr_change"] == 0
    assert {(r["file"], r["engine"]) for r in found["speed"]} == {
        (f, e) for f in ("tiny.onnx", "tiny.int8.onnx") for e in ONNX_ENGINES
    }
    assert all(r["ms"] >= r["fastest_ms"] > 0 for r in found["speed"])
    assert len(found["layers"]) == 39
    for name, of in found["quality"].items():
        assert all(q["psnr_change_worst"] <= q["psnr_change"] for q in of.values()), name
    assert "| tiny.int8.onnx | onnxruntime | int8 |" in out
    assert drawn.read_bytes()[:4] == b"\x89PNG"
    data = ["--data", str(photo_folder)]
    capsys.readouterr()
    twin = tmp_path / tiny_onnx.name
    twin.write_bytes(int8.read_bytes())
    for arguments, match in (
        (["no.onnx", *data], "no model file"),
        ([str(int8), *data], "quantized already"),
        ([str(tiny_onnx), str(twin), *data], "same file name"),
        ([str(tiny_onnx), *data, "--plot", str(tmp_path / "a.xyz")], "must end in .png"),
        ([str(tiny_onnx), *data, "--json", str(tmp_path / "no" / "a.json")], "folder that exists"),
    ):
        assert report_module.main(arguments) == 1
        assert match in capsys.readouterr().err


def test_an_engine_that_cannot_open_a_file_is_no_row_of_milliseconds(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "ROUNDS", 2)
    monkeypatch.setattr(report_module, "ENGINES", ("onnxruntime",))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    (row,) = report_module.measure_speed([broken], 1)
    assert row["ms"] is None
    assert "broken.onnx" in row["precision"]


def test_a_network_that_gives_nan_on_a_later_photo_is_refused(graph):
    x = next(CalibrationSet(photos=1).inputs())[:, :, :64, :64].copy()
    bad = x.copy()
    bad[0, 0, 5, 5] = np.nan
    for method in METHODS:
        with pytest.raises(ModelError, match="NaN or infinity"):
            collect(graph, lambda: [x, bad], method, candidates(graph))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def inputs():
        yield x
        raise full

    with pytest.raises(OSError, match="No space left"):
        collect(graph, inputs, "max", candidates(graph))


def test_quality_is_that_of_the_evaluation(tiny_onnx, squares):
    from hscaunet.evaluation.method import RuntimeMethod
    from hscaunet.evaluation.photos import measure
    from hscaunet.evaluation.protocols import Protocol

    protocol = Protocol("zhang", 10)
    (case,) = cases(squares[:1], protocols=[protocol])
    found = quality(picture(onnxruntime_run(onnx.load(tiny_onnx)), case), case.truth)
    right = measure(RuntimeMethod(str(tiny_onnx), "cpu", "onnxruntime"), protocol, squares[0], 0)
    assert found["psnr"] == pytest.approx(right["psnr"], abs=1e-3)
    assert 0 < found["ciede2000"] < 60


def test_a_file_of_ranges_comes_back_as_it_was(tmp_path):
    path = tmp_path / "r.json"
    ranges = {"a": (-1.5, 1.5), "b": (0.0, 0.0)}
    save(path, {"model": "x"}, ranges)
    assert load(path, {"model": "x"}, ["a", "b"]) == ranges
    assert load(path, {"model": "x"}, ["a", "c"]) is None
    assert load(path, {"model": "y"}, ["a"]) is None
    assert load(tmp_path / "no.json", {}, ["a"]) is None
