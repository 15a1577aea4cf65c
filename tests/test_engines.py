"""Engines: which one runs, own sessions, batches, threads, pickling."""

import itertools
import logging
import multiprocessing
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import ONNX_ENGINES, colorful, run_python

from runtime import (
    BackendError,
    ColorizationError,
    Colorizer,
    Hint,
    HintError,
    Hints,
    ImageError,
    ModelError,
)
from runtime import engines as engines_module
from runtime.engines import choose, open_engine
from runtime.tiles import cores

INSTALLED = {"onnxruntime", "openvino"}


def photos(count, height=60, width=80):
    return [colorful(height, width, seed)[..., 1] for seed in range(count)]


@pytest.mark.parametrize("backend", sorted(INSTALLED))
def test_each_engine_gives_what_the_others_give(backend, tiny_onnx):
    rng = np.random.default_rng(0)
    reference = ort.InferenceSession(tiny_onnx, providers=["CPUExecutionProvider"])
    engine = (
        # OpenVINO takes bf16 by itself where the processor has it: parity is one of fp32.
        engines_module.import_module("runtime.engines.openvino").Engine(
            tiny_onnx, device="cpu", threads=None, precision="fp32"
        )
        if backend == "openvino"
        else open_engine(tiny_onnx, backend=backend, device="cpu")
    )
    assert (engine.backend, engine.device, engine.precision) == (backend, "cpu", "fp32")
    for shape in ((1, 4, 64, 64), (3, 4, 32, 80), (1, 4, 16, 16)):
        x = rng.random(shape, np.float32)
        assert np.abs(engine.run(x) - reference.run(None, {"input": x})[0]).max() <= 1e-4
    assert engine.metadata["network"] == "HSCAU-Net"


@pytest.mark.parametrize("backend", sorted(INSTALLED))
def test_every_engine_colorizes_from_many_threads_alike(backend, tiny_onnx):
    colorizer = Colorizer(tiny_onnx, backend=backend, device="cpu", size=64)
    jobs = [(p, [Hint(i, i, (200, 20 * i, 30), 5)]) for i, p in enumerate(photos(8))]
    alone = [colorizer.colorize(*job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: colorizer.colorize(*job), jobs * 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 3, together, strict=True))


@pytest.mark.parametrize("backend", ONNX_ENGINES)
def test_a_file_in_two_parts_gives_what_it_gives_as_one(backend, tiny_onnx, tmp_path):
    """And holds each weight once."""
    from runtime.models.onnx_cut import KEY, cut
    from runtime.models.onnx_file import read_model_file

    data, metadata = read_model_file(tiny_onnx)
    photo, rest, between = cut(data, metadata, "tiny")
    assert len(photo) + len(rest) < len(data) + 20_000
    assert between[0] == "photo.quarter"
    for part in (photo, rest):
        onnx.checker.check_model(onnx.load_from_string(part), full_check=True)
    whole = onnx.load(tiny_onnx)
    entries = [p for p in whole.metadata_props if p.key != KEY]
    del whole.metadata_props[:]
    whole.metadata_props.extend(entries)
    onnx.save(whole, tmp_path / "whole.onnx")
    parts, one = (open_engine(p, backend=backend) for p in (tiny_onnx, tmp_path / "whole.onnx"))
    assert (parts.splits, one.splits) == (True, False)
    rng = np.random.default_rng(0)
    x = rng.random((2, 4, 64, 96), np.float32)
    x[:, 3] = x[:, 3] < 0.02
    other = x.copy()
    other[:, 3] = 0
    kept = parts.look(x)
    assert all(np.array_equal(a, b) for a, b in zip(kept, parts.look(other), strict=True))
    close = 0.02 if parts.precision == "bf16" else 1e-5
    for one_input in (x, other):
        assert np.array_equal(parts.answer(one_input, kept), parts.run(one_input))
        assert np.abs(parts.run(one_input) - one.run(one_input)).max() < close


@pytest.mark.parametrize("names", ["", "nothing", "photo.quarter,nothing", "ab", "input,ab"])
def test_a_file_that_names_tensors_which_it_does_not_hold_is_refused(names, tiny_onnx, tmp_path):
    from runtime.models.onnx_cut import KEY

    model = onnx.load(tiny_onnx)
    for entry in model.metadata_props:
        if entry.key == KEY:
            entry.value = names
    onnx.save(model, tmp_path / "m.onnx")
    for backend in ONNX_ENGINES:
        with pytest.raises(ModelError, match="does not hold the tensors"):
            open_engine(tmp_path / "m.onnx", backend=backend)


def test_bound_memory_gives_what_a_plain_run_gives(tiny_onnx):
    """How the CUDA provider is run, on the device that there is here."""
    from runtime.engines.onnxruntime import _OnDevice

    session = ort.InferenceSession(tiny_onnx, providers=["CPUExecutionProvider"])
    engine = engines_module.engine_of_session(session)
    rng = np.random.default_rng(0)
    shapes = [(1, 4, 32, 48), (2, 4, 16, 16), (1, 4, 64, 32), (3, 4, 32, 32), (1, 4, 16, 80)]
    inputs = [rng.random(shapes[i % 5], np.float32) for i in range(40)]
    plain = [engine.run(x) for x in inputs]
    engine._on_device = bound = _OnDevice(engine._session, "cpu")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.run, inputs))
    assert all(np.array_equal(a, b) for a, b in zip(plain, found, strict=True))
    assert len(bound._idle) <= bound.shapes_kept
    kept = engine.run(inputs[0])
    engine.run(inputs[0] * 0)
    assert np.array_equal(kept, plain[0]), "a result must not be what the next call writes into"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_close_frees_the_model_and_later_calls_say_so(backend, tiny_onnx):
    photo = photos(1)[0]
    with Colorizer(tiny_onnx, backend=backend, device="cpu", size=64) as colorizer:
        session = colorizer.open(photo)
        colorizer.colorize(photo)
    colorizer.close()
    for call in (lambda: colorizer.colorize(photo), session.render, colorizer.warm_up):
        with pytest.raises(BackendError, match="has been closed; open another"):
            call()
    with pytest.raises(BackendError, match="has been closed"):
        colorizer._engine.run(np.zeros((1, 4, 16, 16), np.float32))


def test_a_pickled_colorizer_opens_again_after_the_one_before_was_closed(tiny_onnx):
    data = pickle.dumps(Colorizer(tiny_onnx, device="cpu", size=64))
    one = pickle.loads(data)
    one.close()
    two = pickle.loads(data)
    assert two is not one
    assert two.colorize(photos(1)[0]).shape == (60, 80, 3)


def test_4000_calls_from_8_threads_are_bitwise_alike_and_keep_the_memory(tiny_onnx):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", threads=1, size=32)
    jobs = [(p, [Hint(i, i, (200, 20 * i, 30), 5)]) for i, p in enumerate(photos(8, 40, 40))]
    alone = [colorizer.colorize(*job) for job in jobs]

    def work(thread):
        return all(
            np.array_equal(colorizer.colorize(*jobs[(thread + i) % 8]), alone[(thread + i) % 8])
            for i in range(calls)
        )

    with ThreadPoolExecutor(8) as pool:
        calls, held = 125, []
        for _ in range(4):
            assert all(pool.map(work, range(8)))
            held.append(resident())
    # What leaks grows in every round; engines' pools grow in some, until all threads met in them.
    assert min(after - before for before, after in itertools.pairwise(held)) < 1 << 20


def test_the_first_calls_from_several_threads_do_not_wait_for_each_other(tiny_onnx):
    """OpenVINO did, for ever, about every sixth time; a fresh process each shows it."""
    code = f"""
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from runtime import Colorizer
colorizer = Colorizer({str(tiny_onnx)!r}, backend="openvino", threads=1, size=32)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(colorizer.colorize, [np.zeros((32, 32), np.uint8)] * 16))
"""
    for _ in range(5):
        assert run_python("-c", code, timeout=60).returncode == 0


def resident() -> int:
    """Bytes of memory that this process holds."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        pytest.skip("this system does not tell a process's memory in /proc")


@pytest.mark.parametrize(
    ("installed", "cuda", "device", "expected"),
    [
        ({"onnxruntime"}, False, "auto", ["onnxruntime"]),
        ({"onnxruntime"}, True, "auto", ["onnxruntime"]),
        ({"onnxruntime"}, True, "cpu", ["onnxruntime"]),
        (INSTALLED, False, "auto", ["openvino", "onnxruntime"]),
        (INSTALLED, False, "cpu", ["openvino", "onnxruntime"]),
        (INSTALLED, True, "auto", ["onnxruntime", "openvino", "onnxruntime"]),
        (INSTALLED, True, "cuda", ["onnxruntime"]),
        ({"openvino"}, False, "auto", ["openvino"]),
        (set(), False, "auto", []),
    ],
)
def test_auto_chooses_by_rule(monkeypatch, installed, cuda, device, expected):
    monkeypatch.setattr(engines_module, "find_spec", lambda n: n if n in installed else None)
    monkeypatch.setattr(engines_module, "_has_cuda", lambda: cuda)
    choices = choose(device)
    assert [name for name, _ in choices] == expected
    assert all(why for _, why in choices)


def test_auto_says_what_it_chose_and_why(caplog, tiny_onnx, monkeypatch):
    with caplog.at_level(logging.INFO, "runtime"):
        assert Colorizer(tiny_onnx).backend == "openvino"
    assert "Chose openvino (the fastest engine on CPUs that is installed) on cpu" in caplog.text
    monkeypatch.setattr(engines_module, "find_spec", lambda n: n if n == "onnxruntime" else None)
    with caplog.at_level(logging.INFO, "runtime"):
        assert Colorizer(tiny_onnx).backend == "onnxruntime"
    assert "Chose onnxruntime (OpenVINO, faster on CPUs, is not installed)" in caplog.text


def test_auto_goes_on_where_an_engine_is_broken(caplog, tiny_onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "runtime.engines.openvino", None)
    assert Colorizer(tiny_onnx).backend == "onnxruntime"
    assert "openvino is installed but cannot be imported" in caplog.text


def test_openvino_does_not_run_on_cuda(tiny_onnx):
    with pytest.raises(BackendError, match="CPU only"):
        Colorizer(tiny_onnx, backend="openvino", device="cuda")


def test_an_own_session_and_own_options(tiny_onnx):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(tiny_onnx, options, providers=["CPUExecutionProvider"])
    photo = photos(1)[0]
    mine = Colorizer(session=session, size=64)
    assert (mine.backend, mine.device) == ("onnxruntime", "cpu")
    wanted = Colorizer(tiny_onnx, backend="onnxruntime", threads=1, size=64).colorize(photo)
    assert np.array_equal(mine.colorize(photo), wanted)
    tuned = Colorizer(tiny_onnx, session_options=options, size=64)
    assert tuned.backend == "onnxruntime"
    assert np.array_equal(tuned.colorize(photo), wanted)
    for colorizer in (mine, tuned):
        with pytest.raises(BackendError, match="cannot be pickled"):
            pickle.dumps(colorizer)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"session": "x"}, BackendError, "must be an onnxruntime.InferenceSession"),
        ({"session_options": "x"}, BackendError, "must be an onnxruntime.SessionOptions"),
        ({"session_options": "x", "backend": "openvino"}, BackendError, "not for openvino"),
        ({"session_options": "x", "threads": 2}, BackendError, "not both"),
        ({"session": "x", "model": "y"}, BackendError, "brings its model"),
    ],
)
def test_what_does_not_go_together_is_said(options, error, message):
    with pytest.raises(error, match=message):
        Colorizer(**options)


def test_a_foreign_session_is_refused(tmp_path):
    import onnx

    values = [onnx.helper.make_tensor_value_info(n, 1, [1, 4, 8, 8]) for n in "xy"]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="not one of this project"):
        Colorizer(session=session)


def test_a_batch_is_one_call_of_the_engine_for_each_shape(tiny_onnx, monkeypatch):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", size=64)
    shapes = []
    run = colorizer._engine.run
    monkeypatch.setattr(colorizer._engine, "run", lambda x: (shapes.append(x.shape), run(x))[1])
    tall, wide = photos(3, 90, 60), photos(4, 60, 80)
    deep = (wide[0].astype(np.uint16)) * 257
    images = [tall[0], wide[0], tall[1], wide[1], deep, tall[2], wide[2]]
    hints = [[Hint(3 * i, 5, (200, 30 * i, 90), 7)] for i in range(7)]
    together = colorizer.batch(images, hints)
    assert len(shapes) == 2
    assert sorted(s[0] for s in shapes) == [3, 4]
    for image, its, result in zip(images, hints, together, strict=True):
        alone = colorizer.colorize(image, its)
        assert result.dtype == image.dtype
        unit = 257 if image.dtype == np.uint16 else 1
        assert np.abs(result.astype(int) - alone).max() <= unit
    shapes.clear()
    colorizer.batch(wide, at_once=3)
    assert [s[0] for s in shapes] == [3, 1]
    assert colorizer.batch([]) == []


def test_a_batch_says_which_photo_is_wrong_before_it_works(tiny_onnx, monkeypatch):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", size=64)
    monkeypatch.setattr(colorizer._engine, "run", lambda x: pytest.fail("worked"))
    good = photos(1)[0]
    with pytest.raises(ImageError, match="Image 1 of the batch"):
        colorizer.batch([good, np.zeros((4, 4), np.int32)])
    with pytest.raises(HintError, match="Image 1 of the batch: Hint 0 at"):
        colorizer.batch([good, good], [None, [Hint(500, 0, "#000000")]])
    with pytest.raises(HintError, match="hints for 1"):
        colorizer.batch([good, good], [None])
    with pytest.raises(BackendError, match="at_once"):
        colorizer.batch([good], at_once=0)


def test_warming_up_runs_the_network_at_the_size_of_the_photos(tiny_onnx, monkeypatch):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", size=64)
    seen = []
    run = colorizer._engine.run
    monkeypatch.setattr(colorizer._engine, "run", lambda x: (seen.append(x), run(x))[1])
    colorizer.warm_up((4000, 3000))
    colorizer.colorize(np.zeros((300, 400), np.uint8))
    assert seen[0].shape == seen[1].shape
    assert seen[0][0, 3].any()


def test_a_pickled_colorizer_opens_itself_again(tiny_onnx, monkeypatch, tmp_path):
    first = Colorizer(tiny_onnx, backend="onnxruntime", threads=1, size=64)
    data = pickle.dumps(first)
    assert len(data) < 1000  # its arguments, not the model
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(data)
    assert (again.backend, again.size) == ("onnxruntime", 64)
    photo = photos(1)[0]
    assert np.array_equal(again.colorize(photo), first.colorize(photo))


def test_a_colorizer_goes_to_other_processes(tiny_onnx):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", threads=1, size=64)
    images = photos(2)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as pool:
        there = list(pool.map(colorizer.colorize, images))
    for image, result in zip(images, there, strict=True):
        assert np.array_equal(result, colorizer.colorize(image))


def test_hints_go_to_other_processes_too():
    from runtime import Region, Stroke

    mask = np.eye(5, dtype=bool)
    hints = Hints(
        [Hint(1, 2, "#ff0000"), Stroke([(1, 1), (2, 2)], "#00ff00"), Region("#0000ff", mask=mask)],
        image_size=(9, 9),
    )
    assert pickle.loads(pickle.dumps(hints)) == hints


def test_a_reopened_colorizer_is_opened_once_in_a_process(tiny_onnx):
    first = Colorizer(tiny_onnx, backend="onnxruntime", threads=1, size=48)
    assert pickle.loads(pickle.dumps(first)) is pickle.loads(pickle.dumps(first))


def test_openvino_runs_calls_side_by_side_where_threads_are_given(tiny_onnx):
    from runtime.engines import openvino

    for threads, streams in ((1, cores()), (cores(), 1)):
        for part in openvino.Engine(tiny_onnx, device="cpu", threads=threads)._parts:
            assert int(part._compiled.get_property("NUM_STREAMS")) == streams
            assert int(part._compiled.get_property("INFERENCE_NUM_THREADS")) == cores()


def test_auto_passes_over_an_engine_that_does_not_start(tiny_onnx, monkeypatch, caplog):
    from runtime.engines import openvino

    def broken(*args, **kwargs):
        raise ModelError("Could not load the CPU plugin.")

    monkeypatch.setattr(openvino, "Engine", broken)
    assert Colorizer(tiny_onnx).backend == "onnxruntime"
    assert "passed over: Could not load" in caplog.text


def test_auto_works_beside_a_broken_onnxruntime(tiny_onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert Colorizer(tiny_onnx).backend == "openvino"


@pytest.mark.parametrize("size", [32, 50, 250, 257])
@pytest.mark.parametrize("shape", [(10, 4000), (4000, 10), (100, 130)])
def test_every_size_suits_every_shape(tiny_onnx, size, shape):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime")
    assert colorizer.colorize(np.zeros(shape, np.uint8), size=size).shape == (*shape, 3)


def test_wrong_calls_are_errors_of_ours(tiny_onnx):
    colorizer = Colorizer(tiny_onnx, backend="onnxruntime", size=np.int64(64))
    for call in (
        lambda: colorizer.warm_up((0, 0)),
        lambda: colorizer.warm_up(("a", 5)),
        lambda: colorizer.batch(None),
        lambda: colorizer.batch([np.zeros((4, 4), np.uint8)], 5),
        lambda: colorizer.predict([[1], [1, 2]]),
        lambda: colorizer.open(np.zeros((4, 4), np.uint8)).preview(10**400),
        lambda: Colorizer(session=colorizer._engine._session, threads="x"),
    ):
        with pytest.raises(ColorizationError):
            call()
