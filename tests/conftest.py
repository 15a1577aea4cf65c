"""What tests share. Everything is seeded and small; nothing needs a network or a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SHARED_PHOTOS = ROOT.parent / "shared" / "photos"
ONNX_ENGINES = ("onnxruntime", "openvino")  # those that run ONNX files on a CPU

if "PYTEST_XDIST_WORKER" in os.environ:  # two share two cores; before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def run_python(
    *args: str, timeout: float = 300, cwd: Path = ROOT, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run Python, at the top of the repository unless told otherwise."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def colorful(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth RGB picture with edges and every kind of colour."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    picture[height // 3 : height // 2, width // 4 : width // 2] = (200, 40, 30)
    return picture


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small colour photos with a grey and a broken one among them."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(8):
        cv2.imwrite(str(folder / f"a_{i:03}.png"), colorful(72 + 8 * i, 96, i))
    cv2.imwrite(str(folder / "b_000.png"), np.full((80, 80, 3), 128, np.uint8))
    (folder / "b_001.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return folder


TINY = {"form": "guided", "widths": [8, 12, 16, 16], "heads": 2, "depth": 4}
"""The smallest guided network; most of it is the classifier's features."""


def tiny_network(seed: int = 3):  # type: ignore[no-untyped-def]
    """A guided network whose every part does something."""
    import torch
    from torch import nn

    from hscaunet import build_network

    torch.manual_seed(seed)
    model = build_network(TINY)
    stir(model)
    nn.init.normal_(model.photo.guess4.weight, std=0.02)
    nn.init.normal_(model.photo.guess8.weight, std=0.02)
    nn.init.normal_(model.unet.outc.weight, std=0.05)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training state of a tiny guided network."""
    from dataclasses import asdict

    from hscaunet.checkpoints import save_training
    from hscaunet.training.options import Options

    model = tiny_network()
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    recipe = asdict(Options(widths=tuple(TINY["widths"])))
    state = {"config": model.config, "ema": model.state_dict(), "seen": 7, "recipe": recipe}
    save_training(path, state)
    return path


def stir(model) -> None:  # type: ignore[no-untyped-def]
    """Give BatchNorms statistics and scales as training would."""
    import torch
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.1)
            module.running_var.copy_(torch.rand_like(module.running_var) + 0.2)
    model.eval()


@pytest.fixture(scope="session", autouse=True)
def exported_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """torch.onnx.export takes most of a minute a network: each is exported once for all tests."""
    import hashlib

    import onnx

    from export import network, pipeline

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers share
    if kept := os.environ.get("HSCAUNET_KEEP_EXPORTS"):  # between runs, until export/ changes
        folder = Path(kept)
    real = network.to_proto

    def to_proto(network, example, *more):  # type: ignore[no-untyped-def]
        state = hashlib.sha256(repr((network, [tuple(e.shape) for e in example], more)).encode())
        for name, value in network.state_dict().items():
            state.update(name.encode() + value.contiguous().numpy().tobytes())
        file = folder / f"{state.hexdigest()[:32]}.exported"
        if not file.exists():
            new = file.with_suffix(f".{os.getpid()}")
            new.write_bytes(real(network, example, *more).SerializeToString())
            new.replace(file)
        return onnx.load_from_string(file.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        for module in (network, pipeline):
            patch.setattr(module, "to_proto", to_proto)
        yield


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint exported by the project's own command."""
    from export.onnx import main

    output = tiny_checkpoint.with_suffix(".onnx")
    assert main(["--checkpoint", str(tiny_checkpoint), "-o", str(output)]) == 0
    return output
