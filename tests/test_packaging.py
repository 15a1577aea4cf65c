"""The house itself: imports that go one way, a runtime that can be vendored, one command."""

import ast
import json
import re
import runpy
import shutil
from graphlib import TopologicalSorter

import pytest
from conftest import EXAMPLES, ROOT, run_python

from hscaunet.__main__ import VERBS, main

PACKAGES = ("runtime", "hscaunet", "export", "calibration")


def modules():
    """Names of all modules, and their files."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


def imported(path, name):
    """Which modules a file imports when it is imported itself, as absolute names."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        home = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            home = ".".join([*above, *([home] if home else [])])
        yield home
        yield from (f"{home}.{alias.name}" for alias in node.names)


def test_no_module_imports_itself_by_way_of_others():
    files = dict(modules())
    graph = {
        name: {home for home in imported(path, name) if home in files and home != name}
        for name, path in files.items()
    }
    for name, homes in graph.items():
        # What a package's front door imports is reached through it, not back.
        graph[name] = {home for home in homes if not name.startswith(home + ".")}
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_imports_inside_a_package_are_relative():
    for name, path in modules():
        package = name.partition(".")[0]
        own = re.findall(rf"^\s*(?:from|import) {package}\b", path.read_text(), re.MULTILINE)
        assert not own, path


def test_the_runtime_runs_vendored_under_another_name(tmp_path):
    shutil.copytree(ROOT / "runtime", tmp_path / "app" / "painter")
    code = f"""
import sys
sys.modules["runtime"] = None  # so that only the copy can be had
from app.painter import Colorizer, Hint, read_image, write_image
photo = read_image({str(EXAMPLES / "coffee-grey.jpg")!r})
with Colorizer(backend="onnxruntime") as colorizer:
    session = colorizer.open(photo)
    session.add(Hint(285, 165, "#c08040", size=9))
    write_image("coffee.png", session.render())
assert [m for m in sys.modules if m.startswith("runtime.")] == []
"""
    done = run_python("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "coffee.png").stat().st_size > 10_000


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_a_module_with_help(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_command_says_what_there_is(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in VERBS)
    assert main(["paint"]) == 2
    assert "there is no verb 'paint'" in capsys.readouterr().err
    assert main([]) == 2
    assert main(["--version"]) == 0


def test_the_tables_of_figures_are_those_that_were_measured():
    """``python benchmarks/figures.py`` writes them anew."""
    tool = runpy.run_path(str(ROOT / "benchmarks" / "figures.py"))
    kept = json.loads(tool["KEPT"].read_text("utf-8"))
    for document in tool["DOCUMENTS"]:
        text = document.read_text("utf-8")
        assert "<!-- figures: " in text, document
        assert tool["filled"](text, kept) == text, document
    new = {"objects": {}, "photos": {}}
    figures = {"took": 0.51, "spill": 0.1, "harmed": 0.2}
    rows = [
        {"method": "hscaunet-lite (x)", "protocol": f"objects true k={k}", **figures}
        for k in (1, 3, 5)
    ]
    tool["take"](new, {"rows": rows})
    tool["take"](
        new,
        {
            "rows": [
                {
                    "method": "hscaunet-lite (x)",
                    "protocol": "zhang N=0",
                    "psnr": 22.716,
                    "ssim": 0.9,
                }
            ]
        },
    )
    assert "| true | .51 / .51 / .51 | .10 / .10 / .10 |" in tool["objects_table"](new)
    assert "22.72 / 0.9000" in tool["photos_table"](new)
