"""Engine files and their sidecars: what is refused before anything is loaded."""

import contextlib
import json
import platform
import shlex

import fake_gpu
import numpy as np
import pytest
from fake_gpu import Gpu
from test_tensorrt_run import write_engine

from runtime import BackendError, MissingDependencyError, ModelError
from runtime.engines.tensorrt import library
from runtime.engines.tensorrt.engine import Engine
from runtime.engines.tensorrt.sidecar import parse, read_engine, sidecar_path


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Try to open an engine whose sidecar says something else; gives the GPU's calls."""

    def make(installed="10.16.1.11", on=None, **changes):
        gpu = on or Gpu()
        module = fake_gpu.tensorrt(gpu, installed)
        modules = {"tensorrt_rtx" if installed == "rtx" else "tensorrt": module}
        monkeypatch.setattr(library, "import_module", modules.__getitem__)
        fake_gpu.cuda_python(gpu, monkeypatch)
        path = write_engine(tmp_path, installed, **changes)
        try:
            Engine(path, device="cuda").close()
        finally:
            assert gpu.retained == 0
            assert gpu.alive() == {}
        return gpu.calls

    return make


def test_one_that_fits_is_loaded(opened):
    assert "deserialize" in opened()
    assert "deserialize" in opened("rtx")


REFUSALS = {
    "another version": ({"version": "10.15.0.1"}, "was built by TensorRT 10.15.0.1, but 10.16"),
    "a later version": (
        {"version": "10.17.0.1", "version_compatible": True},
        "was built by TensorRT 10.17",
    ),
    "another major version": (
        {"version": "9.9.0.1", "version_compatible": True},
        "was built by TensorRT 9.9",
    ),
    "another GPU": ({"gpu": "Other GPU"}, r"was built for Other GPU .*, this GPU is Fake GPU"),
    "another capability": ({"compute_capability": (9, 0)}, r"capability 9.0\), this GPU is"),
    "the same capability only": (
        {"compute_capability": (9, 0), "hardware_compatible": "same"},
        "compute capability 9.0",
    ),
    "another system": ({"os": "Plan 9"}, f"for Plan 9 .*, this is {platform.system()}"),
    "another processor": ({"machine": "riscv"}, "riscv, this is"),
    "another layout": ({"metadata": {"layout": "other"}}, "whose layout is 'other'"),
    "a pipeline": ({"metadata": {"layout": "hscaunet-pipeline-1"}}, "hscaunet-pipeline-1"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_with_the_command_that_builds_it(opened, case):
    changes, match = REFUSALS[case]
    with pytest.raises(ModelError, match=match) as caught:
        opened(**changes)
    assert "python -m export.trt" in str(caught.value)
    assert str(caught.value).count(". ") == 0, "one sentence"


@pytest.mark.parametrize(
    ("changes", "gpu"),
    [
        ({"version": "10.14.0.1", "version_compatible": True}, Gpu()),
        ({"gpu": "Other", "hardware_compatible": "same"}, Gpu()),
        ({"gpu": "Other", "hardware_compatible": "ampere+"}, Gpu("New", (12, 0))),
    ],
)
def test_compatible_ones_are_loaded(opened, changes, gpu):
    assert "deserialize" in opened(on=gpu, **changes)


def test_ampere_and_later_is_not_turing(opened):
    with pytest.raises(ModelError, match="this GPU is Old"):
        opened(on=Gpu("Old", (7, 5)), hardware_compatible="ampere+")


def test_rtx_refuses_what_it_does_not_support(opened):
    with pytest.raises(ModelError, match=r"this GPU is Data centre .*9.0"):
        opened("rtx", on=Gpu("Data centre", (9, 0)))
    with pytest.raises(ModelError, match="was built by tensorrt 1, but rtx"):
        # The module that is there is the one for RTX; the sidecar speaks of the other.
        opened_flavor(opened)


def opened_flavor(opened):
    import runtime.engines.tensorrt.engine as engine_module

    real = engine_module.open_library
    engine_module.open_library = lambda flavor: real("rtx")
    try:
        opened("rtx", flavor="tensorrt", version="1")
    finally:
        engine_module.open_library = real


def test_a_version_that_is_too_old_is_refused(monkeypatch):
    module = fake_gpu.tensorrt(Gpu(), "rtx")
    module.__version__ = "10.11.0"
    monkeypatch.setattr(library, "import_module", lambda name: module)
    with pytest.raises(BackendError, match=r"at least 10.12 is needed"):
        library.open_library("tensorrt")


def test_the_missing_library_is_named(tmp_path):
    if library.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed here")
    with pytest.raises(MissingDependencyError, match=r"pip install 'hscaunet\[trt\]'"):
        Engine(write_engine(tmp_path, "10.16.1.11"), device="cuda")


def test_no_sidecar_no_engine(tmp_path):
    path = write_engine(tmp_path)
    sidecar_path(path).unlink()
    with pytest.raises(ModelError, match=r"has no tiny.engine.json beside it"):
        read_engine(path)


@pytest.mark.parametrize("data", [b"", b"an engine!", b"an engin", b"AN ENGINE"])
def test_another_file_than_the_sidecar_speaks_of(tmp_path, data):
    path = write_engine(tmp_path)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="its sha256 differs, so it is not loaded"):
        read_engine(path)


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": "other"}',
        b'{"format": "hscaunet-engine-1"}', b"9" * 5000, b"[" * 200_000, b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_damaged_sidecars(tmp_path, damage):
    path = write_engine(tmp_path)
    sidecar_path(path).write_bytes(damage)
    with pytest.raises(ModelError, match="is no sidecar of an engine"):
        read_engine(path)


def test_every_wrong_entry_of_a_sidecar_is_an_error_of_ours(tmp_path):
    path = write_engine(tmp_path)
    whole = json.loads(sidecar_path(path).read_text())
    rng = np.random.default_rng(0)
    for key in whole:
        for value in (None, 3, "x", [], {}, [[1]], {"a": 1}, True, [1, "b"]):
            if key == "format" or value == whole[key]:
                continue
            sidecar_path(path).write_text(json.dumps({**whole, key: value}))
            try:
                read_engine(path)
            except ModelError:
                continue
            assert isinstance(value, type(whole[key])) or key in ("gpu", "compute_capability"), key
        rest = {k: v for k, v in whole.items() if k != key}
        sidecar_path(path).write_text(json.dumps({**rest, "unknown": 1}))
        with pytest.raises(ModelError):
            read_engine(path)
    text = sidecar_path(write_engine(tmp_path)).read_bytes()
    for _ in range(200):
        cut = bytearray(text)
        cut[rng.integers(len(cut))] = rng.integers(256)
        sidecar_path(path).write_bytes(bytes(cut))
        with contextlib.suppress(ModelError):
            read_engine(path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("profiles", '[{"input": [[1e400], [1], [1]]}]'),
        ("compute_capability", "[Infinity, 1]"),
        ("version", '"' + "9" * 5000 + '"'),
        ("version", '"1.7; rm"'),
        ("onnx", '"x.onnx\\n\\u001b[31m"'),
        ("arguments", '["--batch", "\\n"]'),
        ("gpu", '"' + "x" * 300 + '"'),
    ],
)
def test_hostile_sidecars(tmp_path, entry, value):
    path = write_engine(tmp_path)
    whole = json.loads(sidecar_path(path).read_text())
    text = json.dumps({**whole, entry: "HERE"}).replace('"HERE"', value)
    sidecar_path(path).write_text(text)
    with pytest.raises(ModelError, match="is no sidecar of an engine"):
        read_engine(path)


def test_the_command_that_builds_it_again_can_be_pasted(opened):
    """Names with spaces and quotes are quoted, and the options are those of the first time."""
    changes = {"onnx": "a b; rm.onnx", "arguments": ("--precision", "fp32", "--batch", "1,2,4")}
    with pytest.raises(ModelError) as caught:
        opened(gpu="Other GPU", **changes)
    command = shlex.split(str(caught.value).partition("machine: ")[2].removesuffix("."))
    assert command[:4] == ["python", "-m", "export.trt", "a b; rm.onnx"]
    assert command[6:] == ["--precision", "fp32", "--batch", "1,2,4"]


def test_a_small_file_is_not_given_room_for_the_largest(tmp_path):
    import resource

    path = write_engine(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, before[1]))
    try:
        assert read_engine(path)[0] == b"an engine"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_sidecar_comes_back_as_it_was_written(tmp_path):
    _, sidecar = read_engine(write_engine(tmp_path))
    assert parse(sidecar.to_json()) == sidecar
