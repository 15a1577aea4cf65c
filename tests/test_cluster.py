"""Folders on a real local Ray cluster of two cores: what dies is done again, nothing is twice."""

import csv
import io
import os
import signal
import sys
import threading

import numpy as np
import pytest
from conftest import colorful

pytest.importorskip("ray")

from runtime import Hint, Hints, write_image
from runtime.__main__ import main as plain
from runtime.cluster import __main__ as cluster
from runtime.cluster.storage import Storage
from runtime.cluster.work import Worker, plan

MODEL = ["--backend", "onnxruntime", "--size", "64"]
COUNT = 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 photos in two folders, one with a hint file, one broken, and a text."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(COUNT):
        path = folder / ("deep/er" if i % 4 == 0 else ".") / f"p{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, colorful(48 if i % 3 else 64, 64, i))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (folder / "note.txt").write_text("not a photo")
    return folder


@pytest.fixture(scope="module")
def hints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hints")
    Hints([Hint(9, 9, "red", 9)]).save(folder / "p01.hints.json")
    Hints([Hint(9, 9, "red", 9)]).save(folder / "nobody.json")
    (folder / "p02.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def ray():
    """One cluster for all tests of this file."""
    module = cluster._ray()
    module.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000
    )
    yield module
    module.shutdown()


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def table(folder):
    return dict(list(csv.reader(io.StringIO((folder / cluster.ERRORS).read_text())))[1:])


def test_a_folder_gives_what_the_plain_command_gives(ray, photos, hints, tmp_path, capsys):
    arguments = [str(photos), "--hints-dir", str(hints)]
    command = [*arguments, "--out", str(tmp_path / "a"), "--batch", "8", *MODEL]
    assert cluster.main(command) == 1
    said = capsys.readouterr()
    assert f"{COUNT - 1} of {COUNT + 1} colorized, 1 with hints, 2 failed" in said.out
    assert "match no photo: nobody.json" in said.err
    assert plain([*arguments, "--out-dir", str(tmp_path / "b"), "--threads", "1", *MODEL]) == 1
    mine, its = files(tmp_path / "a"), files(tmp_path / "b")
    assert mine == sorted([*its, cluster.ERRORS])
    for name in its:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    errors = table(tmp_path / "a")
    assert set(errors) == {"broken.png", "p02.png"}
    assert "p02.json" in errors["p02.png"]
    # Once more: only what failed is tried again; mended, it is done and the table goes.
    before = {n: (tmp_path / "a" / n).stat().st_mtime_ns for n in its}
    command = [str(photos), "--out", str(tmp_path / "a"), *MODEL]
    assert cluster.main(command) == 1
    assert "1 of 2 colorized, 0 with hints, 39 were there already" in capsys.readouterr().out
    assert all((tmp_path / "a" / n).stat().st_mtime_ns == t for n, t in before.items())
    assert set(table(tmp_path / "a")) == {"broken.png"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
def test_actors_killed_in_the_middle_lose_nothing_and_double_nothing(ray, photos, tmp_path):
    out = tmp_path / "out"
    args = cluster.build_parser().parse_args(
        [str(photos), "--out", str(out), "--batch", "4", "--actors", "2", *MODEL]
    )
    todo = plan(Storage(str(photos)), Storage(str(out)), None, None)
    killed, seen, writes = set(), [], {}
    stop = threading.Event()

    def watch():  # whether a result is ever written a second time
        while not stop.wait(0.01):
            for path in out.rglob("*.png"):
                writes.setdefault(path.name, set()).add(path.stat().st_mtime_ns)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for row in cluster.colorize(todo, args):
            seen.append(row["photo"])
            if len(killed) < 2 and row["worker"] not in killed:
                killed.add(row["worker"])
                os.kill(row["worker"], signal.SIGKILL)
    finally:
        stop.set()
        watcher.join()
    assert len(killed) == 2
    assert sorted(seen) == sorted(row["photo"] for row in todo.rows)
    assert len(files(out)) == COUNT
    assert all(len(times) == 1 for times in writes.values())


def test_a_photo_that_kills_its_actor_is_named(ray, photos, tmp_path, monkeypatch):
    class Deadly(Worker):
        def _opened(self, row, result):
            if row["photo"] == "p05.png":
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._opened(row, result)

    monkeypatch.setattr(cluster, "Worker", Deadly)
    args = cluster.build_parser().parse_args(
        [str(photos), "--out", str(tmp_path), "--batch", "4", "--actors", "1", *MODEL]
    )
    todo = plan(Storage(str(photos)), Storage(str(tmp_path)), None, None)
    todo.rows = todo.rows[10:20]
    found = {row["photo"]: row["error"] for row in cluster.colorize(todo, args)}
    assert len(found) == 10
    assert {name for name, error in found.items() if error} == {"p05.png"}
    assert "its actor died each time" in found["p05.png"]


def test_what_no_machine_has_is_a_sentence(ray, photos, tmp_path, capsys):
    for options in (["--threads", "64"], ["--device", "cuda"]):
        assert cluster.main([str(photos), "--out", str(tmp_path / "o"), *MODEL, *options]) == 1
        assert "No machine of the cluster" in capsys.readouterr().err
    assert cluster.main([str(photos), "--out", str(tmp_path), "--model", "no.onnx"]) == 1
    assert "no.onnx" in capsys.readouterr().err


def test_what_there_is_to_do(photos, hints, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("x.png", "x.jpg", "y.heic", ".hidden.png", "z.gif"):
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "y.png").write_bytes(b"")
    todo = plan(Storage(str(tmp_path / "in")), Storage(str(tmp_path / "out")), None, ".png")
    assert [row["target"] for row in todo.rows] == ["x.png", "z.png"]
    assert todo.done == 1
    assert [name for name, _ in todo.refused] == ["x.png"]
    assert plan(Storage(str(photos)), Storage(str(tmp_path / "no")), None, None).others == 1


def test_results_inside_of_the_folder_are_no_photos(tmp_path):
    for name in ("a.png", "out/a.png", "outer/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, colorful(32, 32))
    todo = plan(Storage(str(tmp_path)), Storage(str(tmp_path / "out")), None, None)
    assert [row["photo"] for row in todo.rows] == ["outer/b.png"]
    assert todo.done == 1


def test_other_file_systems(photos):
    """fsspec's own memory stands for an object store."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("a.png", "b/c.png"):
        memory.pipe_file(f"/in/{name}", (photos / "p01.png").read_bytes())
    memory.pipe_file("/hints/c.json", Hints([Hint(5, 5, "blue", 9)]).to_json().encode())
    folders = [Storage(f"memory://{name}") for name in ("/in", "/out", "/hints")]
    todo = plan(*folders, None)
    assert [(row["target"], row["hints"]) for row in todo.rows] == [
        ("a.png", ""),
        ("b/c.png", "c.json"),
    ]
    worker = Worker(
        *(f"memory://{name}" for name in ("/in", "/out", "/hints")),
        model={"backend": "onnxruntime", "size": 64},
    )
    batch = {key: np.array([row[key] for row in todo.rows]) for key in todo.rows[0]}
    made = worker(batch)
    assert made["error"] == ["", ""]
    assert made["hinted"] == [False, True]
    assert memory.exists("/out/b/c.png")
    assert plan(*folders, None).done == 2
    assert worker(batch)["written"] == [0, 0]  # what is there is not made again


def test_wrong_arguments_are_a_sentence(photos, tmp_path, capsys):
    for arguments, sentence in (
        ([str(tmp_path / "no"), "--out", str(tmp_path)], "There is no folder"),
        (["foo://x", "--out", str(tmp_path)], "cannot be opened"),
        ([str(photos), "--out", str(photos)], "over their photos"),
        ([str(photos), "--out", str(tmp_path), "--format", "gif"], "--format must be"),
        ([str(photos), "--out", str(tmp_path), "--batch", "0"], "--batch"),
    ):
        assert cluster.main(arguments) == 1
        assert sentence in capsys.readouterr().err


def test_without_ray_the_sentence_says_what_to_install(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cluster.main([str(photos), "--out", str(tmp_path / "o"), *MODEL]) == 1
    assert "hscaunet[ray]" in capsys.readouterr().err
