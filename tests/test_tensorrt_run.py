"""Running an engine file, on a GPU of the imagination that has no more than TensorRT's real API."""

import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import fake_gpu
import numpy as np
import pytest
import torch
from fake_gpu import LAYERS, VERSIONS, Gpu

from runtime import BackendError, Colorizer, Hint, MissingDependencyError, ModelError
from runtime.engines.tensorrt import library
from runtime.engines.tensorrt.cuda import open_cuda
from runtime.engines.tensorrt.engine import SHAPES_KEPT, Engine
from runtime.engines.tensorrt.sidecar import Sidecar, sidecar_path


def write_engine(folder, made_by="rtx", data=b"an engine", **changes):
    """An engine file with a sidecar that fits the fake."""
    rtx = made_by == "rtx"
    facts = {
        "flavor": "rtx" if rtx else "tensorrt",
        "version": "1.7.1.116" if rtx else made_by,
        "precision": "fp16",
        "profiles": ({"input": ((1, 4, 16, 16), (1, 4, 64, 64), (8, 4, 128, 128))},),
        "engine_sha256": hashlib.sha256(data).hexdigest(),
        "onnx_sha256": "0" * 64,
        "onnx": "tiny.onnx",
        "gpu": None if rtx else "Fake GPU",
        "compute_capability": None if rtx else (8, 9),
        "metadata": {"layout": "hscaunet-layout-1", "name": "tiny"},
    } | changes
    path = folder / "tiny.engine"
    path.write_bytes(data)
    sidecar_path(path).write_bytes(Sidecar(**facts).to_json())
    return path


@pytest.fixture
def world(monkeypatch, tmp_path):
    """Opens an engine on a fake GPU: world(version, layer) gives (path, gpu, module)."""

    def make(version="rtx", layer="cuda-python", gpu=None, **kinds):
        gpu = gpu or Gpu()
        module = fake_gpu.tensorrt(gpu, version, **kinds)
        name = "rtx" if version == "rtx" else "tensorrt"
        monkeypatch.setattr(
            library, "import_module", lambda wanted: {library.FLAVORS[name]: module}[wanted]
        )
        LAYERS[layer](gpu, monkeypatch)
        return write_engine(tmp_path, version), gpu, module

    return make


def picture(n=1, h=32, w=48, seed=0):
    return np.random.default_rng(seed).random((n, 4, h, w), np.float32)


def right(x):
    return x[:, 1:3] + x[:, :1]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_it_runs_with_each_version_and_each_package(world, version, layer):
    path, gpu, _ = world(version, layer)
    engine = Engine(path, device="cuda", cuda=layer)
    assert (engine.backend, engine.device, engine.precision) == ("tensorrt", "cuda", "fp16")
    assert layer in engine.reason
    for seed in range(4):
        x = picture(seed=seed)
        assert np.array_equal(engine.run(x), right(x))
    assert gpu.stack() == [], "a context was left current"
    engine.close()
    assert gpu.alive() == {}
    assert gpu.retained == (0 if layer == "cuda-python" else 1)  # PyCUDA's stays: see open_device


def test_the_order_of_calls(world):
    path, gpu, _ = world()
    engine = Engine(path, device="cuda")
    opening = gpu.calls[:]
    assert opening == ["deserialize"]
    engine.run(picture())
    first = gpu.calls[len(opening) :]
    # Shape, workspace and addresses before the first run, which is not captured.
    assert first == [
        "context", "open_stream", "shape", "workspace", "allocate",
        "allocate", "pin", "address", "allocate", "pin", "address",
        "upload", "execute", "enqueue", "download", "synchronize",
    ]  # fmt: skip
    mark = len(gpu.calls)
    engine.run(picture())
    assert gpu.calls[mark:] == [
        "begin_capture", "upload", "execute", "enqueue", "download", "end_capture",
        "node", "node", "node", "launch", "synchronize",
    ]  # fmt: skip
    mark = len(gpu.calls)
    engine.run(picture())
    assert gpu.calls[mark:] == ["node", "node", "node", "launch", "synchronize"]
    engine.close()


def test_in_the_steady_state_nothing_is_allocated(world):
    path, gpu, _ = world()
    engine = Engine(path, device="cuda")
    engine.run(picture())
    before = gpu.calls.count("allocate"), gpu.calls.count("pin"), gpu.calls.count("context")
    for seed in range(20):
        engine.run(picture(seed=seed))
    assert before == (gpu.calls.count("allocate"), gpu.calls.count("pin"), 1)
    engine.close()


def test_each_shape_has_its_graph_and_a_new_one_is_captured_anew(world):
    path, gpu, _ = world()
    engine = Engine(path, device="cuda")
    shapes = [(1, 32, 48), (2, 32, 48), (1, 64, 64), (8, 128, 128), (1, 16, 16), (3, 48, 32)]
    for shape in shapes * 3:
        for seed in range(3):
            x = picture(*shape, seed)
            assert np.array_equal(engine.run(x), right(x))
    # More shapes than are kept: lanes are made ready anew, and their graphs with them.
    assert gpu.calls.count("context") == SHAPES_KEPT
    assert gpu.calls.count("begin_capture") == len(shapes) * 3
    assert len(gpu.graphs) == SHAPES_KEPT, "old graphs were not dropped"
    engine.close()
    assert gpu.alive() == {}


def test_profiles_are_switched_for_batches(world):
    profiles = [
        ((1, 4, 16, 16), (1, 4, 64, 64), (1, 4, 128, 128)),
        ((2, 4, 16, 16), (8, 4, 64, 64), (8, 4, 64, 64)),
    ]
    path, gpu, module = world("10.16.1.11", profiles=profiles)
    engine = Engine(path, device="cuda")
    for n in (1, 4, 1, 8):
        x = picture(n)
        assert np.array_equal(engine.run(x), right(x))
    assert {c.profile for c in module.record.contexts} == {0, 1}
    with pytest.raises(BackendError, match=r"takes input .* or input .* build it with a --batch"):
        engine.run(picture(9))
    x = picture(1)
    assert np.array_equal(engine.run(x), right(x)), "an error spoils nothing"
    engine.close()
    assert gpu.alive() == {}


@pytest.mark.parametrize("layer", LAYERS)
def test_threads_have_contexts_of_their_own(world, layer):
    path, gpu, module = world(layer=layer)
    engine = Engine(path, device="cuda", cuda=layer)
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for seed in range(20):
            x = picture(1 + number % 2, seed=100 * number + seed)
            if not np.array_equal(engine.run(x), right(x)):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert 1 <= len(module.record.contexts) <= 8
    assert gpu.stack() == []
    engine.close()
    assert gpu.alive() == {}


def test_closing_waits_for_runs_under_way_and_then_frees_all(world):
    path, gpu, _ = world()
    engine = Engine(path, device="cuda")
    lane = engine._file._borrow({"input": (1, 4, 32, 48)})
    engine.close()
    assert gpu.retained == 1, "a run is still under way"
    x = picture()
    assert np.array_equal(lane.run({"input": x})["ab"], right(x))
    engine._file._give_back(lane)
    assert gpu.alive() == {}
    assert gpu.retained == 0
    with pytest.raises(BackendError, match="has been closed"):
        engine.run(x)
    engine.close()


def test_a_thousand_open_close_cycles_leave_nothing(world):
    path, gpu, _ = world()
    for _ in range(1000):
        engine = Engine(path, device="cuda")
        engine.run(picture(h=16, w=16))
        engine.close()
    assert gpu.alive() == {}
    assert gpu.retained == 0


def test_without_graphs_it_goes_on(world, caplog):
    path, gpu, _ = world(fail={"capture"})
    engine = Engine(path, device="cuda")
    for seed in range(3):
        x = picture(seed=seed)
        assert np.array_equal(engine.run(x), right(x))
    assert caplog.text.count("without CUDA graphs") == 1
    assert gpu.calls.count("begin_capture") == 1
    engine.close()
    assert gpu.alive() == {}


def test_no_engine_outlives_the_context(world):
    path, gpu, module = world()
    engine = Engine(path, device="cuda")
    engine.run(picture())
    engine.close()
    assert module.record.orphans == 0
    engine = Engine(path, device="cuda")
    lane = engine._file._borrow({"input": (1, 4, 32, 48)})
    engine.close()
    engine._file._give_back(lane)
    assert module.record.orphans == 0
    assert gpu.retained == 0


def test_errors_while_closing_are_logged_and_the_rest_is_freed(world, caplog):
    """As after a kernel that has gone astray: every call of CUDA fails from then on."""
    path, gpu, _ = world()
    engine = Engine(path, device="cuda")
    engine.run(picture())
    engine.run(picture(2))
    real = gpu.synchronize

    def broken(handle):
        real(handle)
        raise BackendError("CUDA failed in cuStreamSynchronize (CUDA_ERROR_ILLEGAL_ADDRESS).")

    gpu.synchronize = broken
    from runtime.engines.tensorrt import cuda_python

    cuda_python.driver.cuStreamSynchronize = broken
    with pytest.raises(BackendError, match="ILLEGAL_ADDRESS"):
        engine.run(picture())
    engine.close()
    assert "While closing" in caplog.text
    assert gpu.alive() == {}
    assert gpu.retained == 0
    engine.close()


def test_closing_while_threads_run(world):
    path, gpu, module = world()
    for _ in range(20):
        engine = Engine(path, device="cuda")
        begun = threading.Barrier(5)

        def work(seed, engine=engine, begun=begun):
            begun.wait()
            x = picture(h=16, w=16, seed=seed)
            for _ in range(50):
                try:
                    if not np.array_equal(engine.run(x), right(x)):
                        return False
                except BackendError as error:
                    return "has been closed" in str(error)
            return True

        with ThreadPoolExecutor(4) as pool:
            results = [pool.submit(work, seed) for seed in range(4)]
            begun.wait()
            engine.close()
            assert all(r.result() for r in results)
        assert gpu.alive() == {}
        assert gpu.retained == 0
    assert module.record.orphans == 0


def test_idle_lanes_give_their_memory_to_a_larger_shape(world):
    path, gpu, _ = world()
    engine = Engine(path, device="cuda")
    for n in (1, 2, 3):
        engine.run(picture(n, 128, 128))
    largest = picture(8, 128, 128)
    gpu.limit = int(largest.nbytes * 2.1)  # too little for all four
    assert np.array_equal(engine.run(largest), right(largest))
    engine.close()
    assert gpu.alive() == {}


def test_an_rtx_context_that_is_not_ready_is_not_captured(world, caplog):
    path, gpu, _ = world(fail={"not ready"})
    engine = Engine(path, device="cuda")
    for seed in range(3):
        x = picture(seed=seed)
        assert np.array_equal(engine.run(x), right(x))
    assert "begin_capture" not in gpu.calls
    assert caplog.text.count("not ready to be captured") == 1
    engine.close()


@pytest.mark.parametrize("layer", LAYERS)
def test_out_of_memory_is_said_and_survived(world, layer):
    path, gpu, _ = world(layer=layer)
    engine = Engine(path, device="cuda", cuda=layer)
    gpu.limit = 1 << 16
    with pytest.raises(BackendError, match="smaller batches"):
        engine.run(picture(8, 128, 128))
    gpu.limit = 1 << 30
    x = picture()
    assert np.array_equal(engine.run(x), right(x))
    engine.close()
    assert gpu.alive() == {}


@pytest.mark.parametrize(
    ("what", "error", "match"),
    [
        ("deserialize", ModelError, "does not open .* python -m export.trt tiny.onnx"),
        ("context", BackendError, "no execution context"),
        ("run", BackendError, "failed to run the engine"),
    ],
)
def test_what_tensorrt_refuses_is_an_error_and_leaves_nothing(world, what, error, match):
    path, gpu, _ = world(fail={what})

    def use():
        engine = Engine(path, device="cuda")
        try:
            engine.run(picture())
        finally:
            engine.close()

    with pytest.raises(error, match=match):
        use()
    assert gpu.alive() == {}
    assert gpu.retained == 0
    assert gpu.stack() == []


def test_colorizer_takes_an_engine_by_its_file(world):
    path, gpu, _ = world()
    photo = np.full((60, 80), 120, np.uint8)
    with Colorizer(path, size=64) as colorizer:
        assert repr(colorizer) == "<Colorizer tiny on tensorrt cuda fp16>"
        rgb = colorizer.colorize(photo, [Hint(10, 10, "#c04020")])
        assert rgb.shape == (60, 80, 3)
        many = colorizer.batch([photo] * 11, at_once=8)
        assert all(np.array_equal(m, many[0]) for m in many)
        arguments = pickle.loads(pickle.dumps(colorizer._portable))
        assert arguments["cuda"] == "auto"
    assert gpu.alive() == {}
    with pytest.raises(BackendError, match="has been closed"):
        colorizer.colorize(photo)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"backend": "onnxruntime"}, "is an engine of TensorRT"),
        ({"device": "cpu"}, "NVIDIA GPUs only"),
        ({"cuda": "cupy"}, "no CUDA package 'cupy'"),
    ],
)
def test_options_that_do_not_fit_an_engine(world, arguments, match):
    path, gpu, _ = world()
    with pytest.raises(BackendError, match=match):
        Colorizer(path, **arguments)
    assert gpu.retained == 0


def test_tensorrt_says_how_to_make_an_engine_of_an_onnx_file(tiny_onnx):
    with pytest.raises(BackendError, match=r"python -m export.trt .*tiny.onnx -o .*tiny.engine"):
        Colorizer(tiny_onnx, backend="tensorrt")
    with pytest.raises(BackendError, match="cuda= is for engine files"):
        Colorizer(tiny_onnx, backend="onnxruntime", cuda="pycuda")


def test_a_machine_without_a_gpu_is_told_so(tmp_path):
    """The real packages, on the machine that runs the tests."""
    path = write_engine(tmp_path)
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match="CUDA does not start"):
        open_cuda("cuda-python")
    with pytest.raises(BackendError, match="CUDA does not start"):
        Colorizer(path)


def test_missing_packages_are_named(world, monkeypatch):
    from runtime.engines.tensorrt import cuda

    path, _, _ = world()
    monkeypatch.setattr(cuda, "_is_installed", lambda module: False)
    with pytest.raises(MissingDependencyError, match="pip install cuda-bindings, or pycuda"):
        Engine(path, device="cuda")
    with pytest.raises(MissingDependencyError, match="pip install pycuda"):
        Engine(path, device="cuda", cuda="pycuda")


def test_the_fake_really_refuses_what_is_not_in_the_api():
    """What TensorRT 11 removed, called as code for 10 would."""
    module = fake_gpu.tensorrt(Gpu(), "rtx")
    builder = module.Builder(None)
    with pytest.raises(AssertionError, match="Builder has no platform_has_fast_fp16"):
        _ = builder.platform_has_fast_fp16
    config = builder.create_builder_config()
    with pytest.raises(AssertionError, match="IBuilderConfig has no int8_calibrator"):
        config.int8_calibrator = None
    with pytest.raises(AttributeError):
        _ = module.BuilderFlag.FP16
