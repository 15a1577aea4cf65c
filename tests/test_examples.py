"""Each example runs and writes what it says."""

import pytest
from conftest import EXAMPLES, run_python

from runtime import read_photo

WRITES = {
    "with_points": ["points.jpg"],
    "with_strokes": ["strokes.hints.json", "strokes.png"],
    "with_session": ["preview-1.png", "preview-2.png", "session.hints.json", "session.jpg"],
    "with_batch_folder": ["astronaut-grey.jpg", "chelsea-grey.jpg", "coffee-grey.jpg"],
    "with_own_onnx_session": ["own-session.png"],
    "with_tensorrt": ["tensorrt.png"],
    "with_threads": ["astronaut-threads.png", "chelsea-threads.png", "coffee-threads.png"],
    "with_16_bit_tiff": ["colour.tif", "scan.tif"],
}


def test_every_example_is_here():
    assert sorted(path.stem for path in EXAMPLES.glob("with_*.py")) == sorted(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_an_example_runs(name, tmp_path):
    result = run_python(f"examples/{name}.py", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == WRITES[name]
    for path in tmp_path.iterdir():
        if path.suffix != ".json":
            photo = read_photo(path)
            assert photo.pixels.dtype == ("uint16" if path.suffix == ".tif" else "uint8")
            if path.name == "colour.tif":
                assert photo.metadata.dpi == pytest.approx((600, 600))
