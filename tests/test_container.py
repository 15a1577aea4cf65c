"""The Dockerfile: linted, and what it installs and starts is what there is."""

import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)


@pytest.mark.skipif(not HADOLINT, reason="there is no hadolint")
def test_hadolint_has_nothing_to_say():
    found = subprocess.run(
        [HADOLINT, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert found.returncode == 0


def test_the_extras_that_it_installs_exist():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    named = re.findall(r"\$\{wheel\}\[([a-z,]+)\]", TEXT)
    assert len(named) == 2
    assert all(set(some.split(",")) <= extras for some in named)


def test_it_runs_as_nobody_in_particular_and_is_looked_after():
    assert re.search(r"^USER [1-9]\d*$", TEXT, re.MULTILINE)
    assert "HEALTHCHECK" in TEXT
    assert "/healthz" in TEXT


def test_its_command_is_one_that_the_studio_takes(monkeypatch):
    from runtime.studio.__main__ import build_parser

    monkeypatch.setenv("HSCAUNET_TOKEN", "new")
    entry, command = (
        json.loads(re.search(rf"^{word} (\[.*\])$", TEXT, re.MULTILINE)[1])
        for word in ("ENTRYPOINT", "CMD")
    )
    assert entry == ["python", "-m"]
    assert command[0] == "runtime.studio"
    args = build_parser().parse_args(command[1:])
    assert args.host == "0.0.0.0"
    assert args.token == "new"
    assert f"EXPOSE {args.port}" in TEXT


def test_what_it_copies_is_enough_to_build(tmp_path):
    """The build context without what .dockerignore leaves out makes the wheel."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    skip = shutil.ignore_patterns(*(line.removeprefix("**/") for line in ignored))
    shutil.copytree(ROOT, tmp_path / "src", ignore=skip)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path]
    made = subprocess.run([*command, tmp_path / "src"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert list(tmp_path.glob("hscaunet-*.whl"))
