"""What malformed, truncated and hostile files do: an error of ours each, and nothing else."""

import json

from conftest import ROOT, run_python


def test_500_hostile_files_are_each_an_error_of_ours(tiny_onnx, tmp_path):
    script = str(ROOT / "tests" / "hostile.py")
    result = run_python(script, str(tiny_onnx), str(tmp_path), timeout=240, PYTHONPATH=str(ROOT))
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    # A crash or another exception ends the process: the last file begun is the one.
    assert result.returncode == 0, (rows[-1], result.stderr[-2000:])
    done = [row for row in rows if "group" in row]
    failing = [row for row in done if row["group"] in ("must", "hints")]
    assert len(failing) >= 500
    opened = [row["name"] for row in failing if row["said"] is None]
    assert not opened
    for row in done:
        assert row["left"] == [], row  # no output where there was an error, no temporary files
        assert row["seconds"] < 20, row
        if row["said"] is not None:
            assert row["said"].endswith((".", ")")), row
            assert len(row["said"]) < 600, row
            assert "Traceback" not in row["said"]


def test_a_share_of_the_mutated_files_does_no_harm():
    script = str(ROOT / "benchmarks" / "hostile.py")
    result = run_python(
        script, "--pictures", "1500", "--models", "150", "--seed", "3", timeout=240,
        PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert "nothing went wrong" in result.stdout
