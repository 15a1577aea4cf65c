"""What only a GPU can show: ``pytest -m gpu``; benchmarks/gpu.sh runs it. Skipped elsewhere."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from export.checks import check_inputs
from export.tensorrt.build import build
from export.tensorrt.options import BuildOptions
from runtime import Colorizer
from runtime.engines.tensorrt.buffers import Buffers
from runtime.engines.tensorrt.cuda import LAYERS, open_cuda
from runtime.engines.tensorrt.library import open_library
from runtime.errors import ColorizationError, MissingDependencyError
from runtime.models.manifest import DEFAULT_MODEL, find_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.fixture(params=LAYERS)
def cuda(request):
    try:
        opened = open_cuda(request.param)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=("tensorrt", "rtx"))
def engine(request, tmp_path_factory):
    """The bundled model as an fp16 engine for this GPU."""
    path = tmp_path_factory.mktemp("engine") / f"{request.param}.engine"
    try:
        build(find_model(DEFAULT_MODEL), path, open_library(request.param), BuildOptions())
        Colorizer(path).close()
    except ColorizationError as error:
        pytest.skip(str(error))
    return path


def test_copies_there_and_back(cuda):
    rng = np.random.default_rng(0)
    with cuda.current():
        stream, buffers = cuda.open_stream(), Buffers(cuda)
        for size in (5, 1000, 17):
            values = rng.random((size, 3)).astype(np.float32)
            buffers.reserve("x", values.shape, values.dtype)
            np.copyto(buffers.host("x"), values)
            buffers.upload("x", stream)
            cuda.synchronize(stream)
            buffers.host("x")[:] = 0
            buffers.download("x", stream)
            cuda.synchronize(stream)
            assert np.array_equal(buffers.host("x"), values)
        if cuda.graphs:
            graph = cuda.capture(stream, lambda: buffers.upload("x", stream))
            buffers.host("x")[:] = 7
            cuda.launch(graph, stream)
            cuda.synchronize(stream)
            buffers.host("x")[:] = 0
            buffers.download("x", stream)
            cuda.synchronize(stream)
            assert (buffers.host("x") == 7).all()
            cuda.drop(graph)
        buffers.close(lambda free, what: free(what))
        cuda.close_stream(stream)


def test_other_frameworks_keep_their_context(cuda):
    before = torch.ones(1000, device="cuda")
    with cuda.current():
        memory = cuda.allocate(1 << 20)
    after = before + 1
    with cuda.current():
        cuda.free(memory)
    assert float(after.sum()) == 2000


def test_onnx_runtime_on_cuda():
    try:
        colorizer = Colorizer(backend="onnxruntime", device="cuda")
    except ColorizationError as error:
        pytest.skip(str(error))
    with colorizer, Colorizer(backend="onnxruntime", device="cpu") as right:
        assert colorizer.device == "cuda"
        for name, x in check_inputs().items():
            x = np.ascontiguousarray(x)
            for _ in range(2):  # TF32 may be used for convolutions: that of fp16 is allowed
                assert np.abs(colorizer.predict(x) - right.predict(x)).max() <= 5e-3, name


@pytest.mark.parametrize("layer", LAYERS)
def test_an_engine_gives_what_the_network_gives(engine, layer):
    try:
        colorizer = Colorizer(engine, cuda=layer)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    with colorizer, Colorizer(backend="onnxruntime", device="cpu") as right:
        for name, x in check_inputs().items():
            x = np.ascontiguousarray(x)
            for _ in range(3):  # the first run, the capture, the graph
                assert np.abs(colorizer.predict(x) - right.predict(x)).max() <= 5e-3, name


def test_eight_threads_on_one_engine(engine):
    with Colorizer(engine) as colorizer:
        inputs = [np.ascontiguousarray(x) for x in check_inputs().values()]
        alone = [colorizer.predict(x) for x in inputs]

        def work(number: int) -> bool:
            order = np.random.default_rng(number).permutation(len(inputs)).tolist() * 10
            return all(np.abs(colorizer.predict(inputs[i]) - alone[i]).max() < 1e-3 for i in order)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))


def test_opening_and_closing_does_not_grow(engine):
    x = np.ascontiguousarray(check_inputs()["80x144"])

    def used() -> int:
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return total - free

    marks = []
    for i in range(60):
        with Colorizer(engine) as colorizer:
            colorizer.predict(x)
        if i in (10, 59):
            marks.append(used())
    assert marks[1] - marks[0] < 8 << 20
