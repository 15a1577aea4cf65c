"""A GPU of the imagination, with the two packages that drive it and TensorRT on top.

It offers nothing that the real ones do not: names come from the lists of TensorRT's API, from the
real ``cuda.bindings``, and from PyCUDA's source. Work is done when a stream is synchronized, and
what a real driver would punish (freed memory, no current context, two threads on one context) is
an AssertionError here.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

NOTES = Path(__file__).parents[2] / "shared" / "notes"
VERSIONS = ("10.13.3.9.post1", "10.16.1.11", "11.4.0.106", "rtx")


class Gpu:
    """Memory, streams, graphs and contexts, and what was done with them."""

    def __init__(self, name="Fake GPU", capability=(8, 9)):
        self.name, self.capability = name, capability
        self.memory, self.pinned, self.streams = {}, {}, {}
        self.capturing, self.graphs = {}, {}
        self.retained = 0
        self.calls = []
        self.limit = 1 << 40
        self._numbers = itertools.count(1)
        self._local = threading.local()
        self._lock = threading.Lock()

    # Contexts.
    def stack(self):
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        return self._local.stack

    def push(self):
        assert self.retained, "the primary context was not retained"
        self.stack().append("primary")

    def pop(self):
        self.stack().pop()

    def call(self, name):
        assert self.stack(), f"{name} without a current context"
        with self._lock:
            self.calls.append(name)

    def number(self):
        with self._lock:
            return next(self._numbers)

    # Memory.
    def allocate(self, size):
        self.call("allocate")
        if size + sum(map(len, self.memory.values())) > self.limit:
            raise MemoryError
        address = 256 * (self.number() << 20)
        self.memory[address] = bytearray(size)
        return address

    def free(self, address):
        self.call("free")
        del self.memory[address]

    def pin(self, size):
        self.call("pin")
        buffer = (ctypes.c_ubyte * size)()
        address = ctypes.addressof(buffer)
        self.pinned[address] = buffer
        return address

    def unpin(self, address):
        self.call("unpin")
        del self.pinned[address]

    # Streams.
    def open_stream(self):
        self.call("open_stream")
        handle = self.number()
        self.streams[handle] = []
        return handle

    def close_stream(self, handle):
        del self.streams[handle]

    def submit(self, handle, name, work):
        self.call(name)
        assert handle in self.streams, "a stream that was closed, or the default one"
        if handle in self.capturing:
            self.capturing[handle].append(work)
        else:
            self.streams[handle].append(work)

    def synchronize(self, handle):
        self.call("synchronize")
        assert handle not in self.capturing, "synchronizing breaks a capture"
        work, self.streams[handle] = self.streams[handle], []
        for one in work:
            one()

    def upload(self, address, source, size, handle):
        assert source in self.pinned, "a copy on a stream needs page-locked memory"

        def work():
            self.memory[address][:size] = ctypes.string_at(source, size)

        self.submit(handle, "upload", work)

    def download(self, target, address, size, handle):
        assert target in self.pinned, "a copy on a stream needs page-locked memory"

        def work():
            ctypes.memmove(target, bytes(self.memory[address][:size]), size)

        self.submit(handle, "download", work)

    # Graphs.
    def begin(self, handle):
        self.call("begin_capture")
        self.capturing[handle] = []

    def end(self, handle):
        self.call("end_capture")
        graph = self.number()
        self.graphs[graph] = self.capturing.pop(handle)
        return graph

    def launch(self, graph, handle):
        for work in self.graphs[graph]:
            self.submit(handle, "node", work)
        self.call("launch")

    def alive(self):
        """What has not been given back."""
        return {
            name: len(getattr(self, name))
            for name in ("memory", "pinned", "streams", "graphs")
            if getattr(self, name)
        }


def cuda_python(gpu, monkeypatch):
    """Put the GPU behind ``cuda.bindings.driver``."""
    import cuda.bindings.driver as real

    from runtime.engines.tensorrt import cuda_python as layer

    def status(function):
        def call(*args):
            try:
                result = function(*args)
            except MemoryError:
                return 2, None
            return (0,) if result is None else (0, result)

        return call

    attributes = {"MAJOR": gpu.capability[0], "MINOR": gpu.capability[1]}
    execs = gpu.graphs

    def retain(device):
        gpu.retained += 1
        return 77

    def release(device):
        gpu.retained -= 1

    def instantiate(graph, flags):
        made = gpu.number()
        execs[made] = execs[graph]
        return made

    def end(stream):
        return gpu.end(int(stream))

    functions = {
        "cuInit": lambda flags: None,
        "cuDeviceGet": lambda number: number,
        "cuDeviceGetName": lambda size, device: gpu.name.encode().ljust(size, b"\0"),
        "cuDeviceGetAttribute": lambda kind, device: attributes[
            str(kind).rpartition("_")[2].partition(":")[0]
        ],
        "cuDeviceTotalMem": lambda device: 1 << 34,
        "cuDevicePrimaryCtxRetain": retain,
        "cuDevicePrimaryCtxRelease": release,
        "cuCtxPushCurrent": lambda context: gpu.push(),
        "cuCtxPopCurrent": lambda: gpu.pop(),
        "cuStreamCreate": lambda flags: gpu.open_stream(),
        "cuStreamDestroy": gpu.close_stream,
        "cuStreamSynchronize": gpu.synchronize,
        "cuMemAlloc": gpu.allocate,
        "cuMemFree": gpu.free,
        "cuMemHostAlloc": lambda size, flags: gpu.pin(size),
        "cuMemFreeHost": gpu.unpin,
        "cuMemcpyHtoDAsync": gpu.upload,
        "cuMemcpyDtoHAsync": gpu.download,
        "cuStreamBeginCapture": lambda stream, mode: gpu.begin(stream),
        "cuStreamEndCapture": end,
        "cuGraphInstantiate": instantiate,
        "cuGraphLaunch": gpu.launch,
        "cuGraphExecDestroy": lambda graph: execs.pop(graph) and None,
        "cuGraphDestroy": lambda graph: execs.pop(graph) and None,
    }
    fake = types.SimpleNamespace(
        CUdevice_attribute=real.CUdevice_attribute,
        CUstream_flags=real.CUstream_flags,
        CUstreamCaptureMode=real.CUstreamCaptureMode,
        cuGetErrorName=lambda code: (
            0,
            b"CUDA_ERROR_OUT_OF_MEMORY" if code == 2 else b"CUDA_ERROR",
        ),
    )
    for name, function in functions.items():
        assert hasattr(real, name), f"the real driver has no {name}"
        call = status(function)
        call.__name__ = name
        setattr(fake, name, call)
    monkeypatch.setattr(layer, "driver", fake)


def pycuda(gpu, monkeypatch):
    """Put the GPU behind ``pycuda.driver``, with the names that PyCUDA 2026.1 has."""
    driver = types.ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class OutOfMemory(Error):
        pass

    class HostAllocation:
        def __init__(self, address, size):
            self.address = address
            self.__array_interface__ = {
                "data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3,
            }  # fmt: skip

        def free(self):
            gpu.unpin(self.address)

    class DeviceAllocation:
        def __init__(self, address):
            self._address = address

        def __int__(self):
            return self._address

        __index__ = __int__

        def free(self):
            gpu.free(self._address)

    class Stream:
        def __init__(self, flags=0):
            self.handle = gpu.open_stream()

        def synchronize(self):
            gpu.synchronize(self.handle)

        def __del__(self):
            gpu.streams.pop(self.handle, None)

    class Context:
        def push(self):
            gpu.push()

        @staticmethod
        def pop():
            gpu.pop()

    class Device:
        def __init__(self, number):
            pass

        def name(self):
            return gpu.name

        def compute_capability(self):
            return gpu.capability

        def total_memory(self):
            return 1 << 34

        def retain_primary_context(self):
            gpu.retained += 1
            return Context()

    def mem_alloc(size):
        try:
            return DeviceAllocation(gpu.allocate(size))
        except MemoryError:
            raise OutOfMemory("cuMemAlloc failed: out of memory") from None

    driver.Error, driver.MemoryError = Error, OutOfMemory
    driver.init = lambda: None
    driver.Device, driver.Context, driver.Stream = Device, Context, Stream
    driver.mem_alloc = mem_alloc
    driver.pagelocked_empty = lambda size, dtype: np.asarray(HostAllocation(gpu.pin(size), size))
    driver.memcpy_htod_async = lambda to, array, stream: gpu.upload(
        int(to), array.ctypes.data, array.nbytes, stream.handle
    )
    driver.memcpy_dtoh_async = lambda array, at, stream: gpu.download(
        array.ctypes.data, int(at), array.nbytes, stream.handle
    )
    package = types.ModuleType("pycuda")
    package.driver, package.__path__ = driver, []
    package.__spec__ = types.SimpleNamespace(name="pycuda")
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.delitem(sys.modules, "runtime.engines.tensorrt.cuda_pycuda", raising=False)


LAYERS = {"cuda-python": cuda_python, "pycuda": pycuda}


def read_api(version):
    """Classes with their members, and enums, of a version of TensorRT; skips where unknown."""
    if version != "rtx":
        path = NOTES / f"tensorrt-api-{version}.json"
        if not path.is_file():
            pytest.skip(f"the API list {path.name} is not here")
        api = json.loads(path.read_text())
        return api["members"], api["enums"]
    import tensorrt_rtx

    members, enums = {}, {}
    for name, value in vars(tensorrt_rtx).items():
        if isinstance(value, type):
            members[name] = [n for n in dir(value) if not n.startswith("__")]
            if hasattr(value, "__members__"):
                enums[name] = list(value.__members__)
    return members, enums


class Guard:
    """An object that has only what the API list gives its class."""

    def __init__(self, kind, allowed, inside):
        self.__dict__.update(_kind=kind, _allowed=frozenset(allowed), _inside=inside)

    def __getattr__(self, name):
        assert name in self._allowed, f"{self._kind} has no {name} in this version of TensorRT"
        return getattr(self._inside, name)

    def __setattr__(self, name, value):
        assert name in self._allowed, f"{self._kind} has no {name} in this version of TensorRT"
        setattr(self._inside, name, value)


class Member(int):
    """A value of an enum."""

    def __new__(cls, number, name):
        self = super().__new__(cls, number)
        self.name = name
        return self

    def __str__(self):
        return f"DataType.{self.name}"

    __hash__ = int.__hash__


class Host(bytes):
    """IHostMemory."""

    nbytes = property(len)


def tensorrt(
    gpu,
    version,
    *,
    profiles=None,
    engine=b"an engine",
    conv="HALF",
    fail=(),
    version_compatible=False,
):
    """A module that stands for ``tensorrt`` or ``tensorrt_rtx``.

    Parameters
    ----------
    gpu : Gpu
    version : str
        One of `VERSIONS`.
    profiles : list of (smallest, best, largest)
        Shapes of the input "input".
    engine : bytes
        What is built, and what can be deserialized.
    conv : str
        Data type that the convolutions of a parsed network have.
    fail : set of str
        What does not work: "deserialize", "context", "build", "parse", "capture", "run".
    """
    members, enums = read_api(version)
    profiles = profiles or [((1, 4, 16, 16), (1, 4, 64, 64), (8, 4, 128, 128))]
    module = types.SimpleNamespace()
    record = types.SimpleNamespace(flags=[], config={}, contexts=[], orphans=0)

    def guard(kind, inside):
        assert kind in members, f"this version of TensorRT has no {kind}"
        return Guard(kind, members[kind], inside)

    for name, values in enums.items():
        numbers = {value: Member(i, value) for i, value in enumerate(values)}
        setattr(module, name, types.SimpleNamespace(**numbers))

    class Context:
        def __init__(self):
            self.shapes, self.addresses, self.profile, self.workspace = {}, {}, 0, None
            self.users = set()
            self.busy = threading.Lock()
            record.contexts.append(self)

        def _use(self, name):
            gpu.call(name)
            assert self.busy.acquire(blocking=False), "two threads use one execution context"
            self.busy.release()

        def set_optimization_profile_async(self, profile, stream):
            self._use("profile")
            assert stream in gpu.streams
            self.profile, self.shapes = profile, {}
            return True

        def set_input_shape(self, name, shape):
            self._use("shape")
            low, _, high = profiles[self.profile]
            self.shapes[name] = tuple(shape)
            return all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))

        def update_device_memory_size_for_shapes(self):
            self._use("workspace")
            assert self.shapes, "shapes come first"
            return int(np.prod(self.shapes["input"]))

        def set_device_memory(self, address, size):
            assert len(gpu.memory[address]) >= size
            self.workspace = address

        def get_tensor_shape(self, name):
            n, _, h, w = self.shapes["input"]
            return (n, 4 if name == "input" else 2, h, w)

        def set_tensor_address(self, name, address):
            self._use("address")
            assert address in gpu.memory
            self.addresses[name] = address
            return True

        def is_stream_capturable(self, stream):
            return "not ready" not in fail

        def execute_async_v3(self, stream):
            self._use("execute")
            if "run" in fail:
                return False
            assert self.workspace in gpu.memory, "no workspace was given"
            if "capture" in fail:
                assert stream not in gpu.capturing or not self.capture_fails()
            n, c, h, w = self.shapes["input"]
            source, target = self.addresses["input"], self.addresses["ab"]

            def work():
                with self.busy:
                    x = np.frombuffer(gpu.memory[source], np.float32, n * c * h * w)
                    ab = x.reshape(n, c, h, w)[:, 1:3] + x.reshape(n, c, h, w)[:, :1]
                    gpu.memory[target][: ab.nbytes] = ab.astype(np.float32).tobytes()

            gpu.submit(stream, "enqueue", work)
            return True

        def capture_fails(self):
            from runtime.errors import BackendError

            raise BackendError("CUDA failed in cuStreamEndCapture (CUDA_ERROR_STREAM_CAPTURE)")

    class Inspector:
        def get_engine_information(self, form):
            layer = {
                "LayerType": "CaskConvolution",
                "Inputs": [],
                "Outputs": [{"Format/Datatype": {"HALF": "Half", "FLOAT": "Float"}[conv]}],
            }
            return json.dumps({"Layers": [layer, {"LayerType": "Reformat"}, "a name only"]})

    class RuntimeConfig:
        strategy = dynamic_shapes_kernel_specialization_strategy = None

        def set_execution_context_allocation_strategy(self, strategy):
            self.strategy = strategy

    def assert_alive():
        """An engine must not outlive the context that its weights lie in."""
        if not (gpu.stack() and gpu.retained):
            record.orphans += 1

    class Engine:
        num_io_tensors, num_optimization_profiles = 2, len(profiles)

        def get_tensor_name(self, i):
            return ("input", "ab")[i]

        def get_tensor_mode(self, name):
            return module.TensorIOMode.INPUT if name == "input" else module.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name):
            return module.DataType.FLOAT

        def get_tensor_profile_shape(self, name, profile):
            return list(profiles[profile])

        def __del__(self):
            assert_alive()

        def get_tensor_shape(self, name):
            return (-1, 4 if name == "input" else 2, -1, -1)

        def create_runtime_config(self):
            return guard("IRuntimeConfig", RuntimeConfig())

        def create_execution_context(self, how):
            gpu.call("context")
            if version == "rtx":
                kernels = module.DynamicShapesKernelSpecializationStrategy
                assert how.dynamic_shapes_kernel_specialization_strategy == kernels.EAGER
                how = how._inside.strategy
            assert how == module.ExecutionContextAllocationStrategy.USER_MANAGED
            return None if "context" in fail else guard("IExecutionContext", Context())

        def create_engine_inspector(self):
            return guard("EngineInspector", Inspector())

    class Runtime:
        engine_host_code_allowed = False

        def deserialize_cuda_engine(self, data):
            gpu.call("deserialize")
            good = data == engine and "deserialize" not in fail
            if version_compatible and not self.engine_host_code_allowed:
                good = False
            return guard("ICudaEngine", Engine()) if good else None

    class Tensor:
        def __init__(self, name, kind, shape=()):
            self.name, self.dtype, self.shape = name, getattr(module.DataType, kind), shape

    class Layer:
        def __init__(self, kind, out, number):
            self.type = getattr(module.LayerType, kind)
            self.num_inputs = self.num_outputs = 1  # weights that are constants are no input
            self._tensor = guard("ITensor", Tensor(f"t{number}", out))

        def get_output(self, i):
            return self._tensor

        def get_input(self, i):
            return self._tensor

    class Network:
        num_inputs = num_outputs = 1
        num_layers = 3

        def get_layer(self, i):
            kind = ("CONVOLUTION", "DECONVOLUTION", "RESIZE")[i]
            return guard("ILayer", Layer(kind, conv if i < 2 else "FLOAT", i))

        def get_input(self, i):
            return guard("ITensor", Tensor("input", "FLOAT"))

        def get_output(self, i):
            return guard("ITensor", Tensor("ab", "FLOAT"))

    class Problem:
        def desc(self):
            return "unsupported"

        def node_name(self):
            return "node_7"

        def node_operator(self):
            return "Einsum"

    class Parser:
        num_errors = 1

        def parse(self, data):
            return "parse" not in fail

        def get_error(self, i):
            return guard("ParserError" if "ParserError" in members else "IParserError", Problem())

    class Cache:
        def __init__(self, data):
            self.keys = set(data.decode().split())

        def queryKeys(self):
            return sorted(self.keys)

        def serialize(self):
            return Host(" ".join(sorted(self.keys)).encode())

    class Config:
        profiling_verbosity = builder_optimization_level = hardware_compatibility_level = None
        progress_monitor = None

        def __init__(self):
            self.cache = None
            record.config = self
            self.pools, self.profiles, self.set, self.cleared = {}, [], [], []

        def set_flag(self, flag):
            self.set.append(flag.name)

        def clear_flag(self, flag):
            self.cleared.append(flag.name)

        def set_memory_pool_limit(self, pool, size):
            self.pools[pool.name] = size

        def add_optimization_profile(self, profile):
            self.profiles.append(profile)
            return 0

        def create_timing_cache(self, data):
            return None if data == b"\xff" else guard("ITimingCache", Cache(bytes(data)))

        def set_timing_cache(self, cache, ignore):
            self.cache = cache
            return "other-GPU" not in cache.queryKeys()

        def get_timing_cache(self):
            return self.cache

    class Profile:
        def __init__(self):
            self.shapes = {}

        def set_shape(self, name, low, best, high):
            self.shapes[name] = (low, best, high)

    class Builder:
        def create_network(self, flags):
            typed = module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
            assert flags == 1 << int(typed), "the network must be strongly typed"
            return guard("INetworkDefinition", Network())

        def create_builder_config(self):
            return guard("IBuilderConfig", Config())

        def create_optimization_profile(self):
            return guard("IOptimizationProfile", Profile())

        def build_serialized_network(self, network, config):
            if config.progress_monitor is not None:
                config.progress_monitor.phase_start("Building", None, 2)
                config.progress_monitor.step_complete("Building", 0)
                config.progress_monitor.phase_finish("Building")
            if record.config.cache is not None:
                record.config.cache._inside.keys.update({"conv1", "conv2"})
            return None if "build" in fail else Host(engine)

    class Logger:
        ERROR = "error"

        def __init__(self, severity=None):
            pass

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "error", "internal", "warning"

        def __init__(self):
            pass

    class IProgressMonitor:
        def __init__(self):
            pass

    makers = {
        "Runtime": lambda logger: guard("Runtime", Runtime()),
        "Builder": lambda logger: guard("Builder", Builder()),
        "OnnxParser": lambda network, logger: guard("OnnxParser", Parser()),
        "Logger": Logger,
        "ILogger": ILogger,
        "IProgressMonitor": IProgressMonitor,
    }
    for name, maker in makers.items():
        assert name in members, f"this version of TensorRT has no {name}"
        setattr(module, name, maker)
    module.__version__ = "1.7.1.116" if version == "rtx" else version
    module.record = record
    return module
