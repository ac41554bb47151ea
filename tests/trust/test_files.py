"""Files from outside, damaged in every way: refused in clear words, nothing executed, nothing lost."""

import errno
import gzip
import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import notebooks.build as notebook_build
from course_lib.checkpoints import load_checkpoint, save_checkpoint
from course_lib.data import download
from course_lib.data.download import DataFile, DataUnavailable, fetch
from course_lib.exercises.progress import FILE_VARIABLE, note_solved
from course_lib.pretrained import load_gpt2
from tests.benchmarks.translation import write_json

CONTENT = bytes(range(256)) * 41 + b"the end"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_the_bomb_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "made")))
    assert (tmp_path / "made").exists()


def make_model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))


def saved(folder):
    save_checkpoint(make_model(0), folder / "model.safetensors")
    return folder / "model.safetensors"


def assert_refused_or_same(path):
    """A damaged checkpoint is refused and the model is untouched."""
    model = make_model(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"not a whole safetensors file|another model|in the model"):
        load_checkpoint(model, path)
    torch.testing.assert_close(dict(model.state_dict()), before, atol=0, rtol=0)


def test_a_checkpoint_cut_at_any_length_is_refused(tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    for length in [*range(0, len(content), 13), len(content) - 1]:
        path.write_bytes(content[:length])
        assert_refused_or_same(path)


def test_a_checkpoint_with_a_bit_flipped_in_its_head_is_refused_or_says_the_same(tmp_path):
    """The format has no check sum: a flip in the numbers cannot be seen, one in the head mostly is."""
    path = saved(tmp_path)
    content, draw = path.read_bytes(), random.Random(0)
    head = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for _ in range(200):
        place = draw.randrange(head)
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
        )
        try:
            load_checkpoint(make_model(1), path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("kind", ["pickle", "torch", "gzip", "text", "folder"])
def test_a_checkpoint_of_another_kind_is_refused_and_nothing_runs(tmp_path, kind):
    path, made = tmp_path / "model.safetensors", tmp_path / "made"
    if kind == "folder":
        path.mkdir()
        with pytest.raises(FileNotFoundError, match="no checkpoint"):
            load_checkpoint(make_model(0), path)
        return
    if kind == "torch":
        torch.save({"0.weight": Bomb(made)}, path)
    else:
        bomb = pickle.dumps(Bomb(made))
        path.write_bytes({"pickle": bomb, "gzip": gzip.compress(bomb), "text": b"{}"}[kind])
    assert_refused_or_same(path)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_gpt2(path)
    assert not made.exists()


def test_a_huge_head_is_not_believed(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    assert_refused_or_same(path)
    head = json.dumps({"0.weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    assert_refused_or_same(path)


_LIMITED = """
    import resource, signal, sys
    from torch import nn
    from course_lib.checkpoints import save_checkpoint
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        save_checkpoint(nn.Linear(100, 100), sys.argv[1])
    except OSError as error:
        print("refused:", error)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits are tried on Unix")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    path = saved(tmp_path)
    before = path.read_bytes()
    child = run(_LIMITED, path)
    assert child.stdout.startswith("refused:") and str(path) in child.stdout, child
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("place", ["model.safetensors", "new/model.safetensors"])
def test_a_read_only_folder_is_told_and_the_old_checkpoint_stays(locked, place):
    folder, lock = locked
    before = saved(folder).read_bytes()
    with lock(), pytest.raises(OSError, match="is the disk full or read-only") as caught:
        save_checkpoint(make_model(1), folder / place)
    assert str(folder / place) in str(caught.value)
    assert os.listdir(folder) == ["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_checkpoint_in_a_read_only_folder_is_read_and_one_that_may_not_be_is_told(locked):
    folder, lock = locked
    path = saved(folder)
    path.chmod(0o644)
    with lock():
        load_checkpoint(make_model(1), path)
    path.chmod(0)
    with lock(), pytest.raises(PermissionError, match=r"model\.safetensors"):
        load_checkpoint(make_model(1), path)


# ------------------------------------------------------------------------------------------- data


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "cache" / "toy").mkdir(parents=True)
    return tmp_path / "cache"


def record(path="toy/numbers.gz", content=CONTENT):
    return DataFile(path, "https://example.org/x", len(content), hashlib.sha256(content).hexdigest())


def test_a_cached_file_cut_or_flipped_is_never_used_and_taken_away(cache):
    packed, draw = gzip.compress(CONTENT, mtime=0), random.Random(0)
    damaged = [packed[: draw.randrange(len(packed))] for _ in range(40)]
    for _ in range(200):
        place = draw.randrange(len(packed))
        damaged.append(packed[:place] + bytes([packed[place] ^ 1 << draw.randrange(8)]) + packed[place + 1 :])
    same = 0
    for content in damaged:
        path = cache / "toy/numbers.gz"
        path.write_bytes(content)
        try:
            assert fetch(record(), download=False) == CONTENT  # a flip in a date or a name changes nothing
            same += 1
        except DataUnavailable:
            assert not path.exists()
    assert same < 30


def test_a_link_in_the_cache_is_taken_away_and_not_what_it_leads_to(cache, tmp_path):
    (tmp_path / "precious").write_bytes(b"mine")
    (cache / "toy/numbers.gz").symlink_to(tmp_path / "precious")
    with pytest.raises(DataUnavailable):
        fetch(record(), download=False)
    assert (tmp_path / "precious").read_bytes() == b"mine" and not (cache / "toy/numbers.gz").is_symlink()


def test_a_folder_in_the_place_of_a_file_is_told(cache):
    (cache / "toy/numbers.gz").mkdir()
    with pytest.raises(DataUnavailable, match="cannot be read"):
        fetch(record(), download=False)


@pytest.mark.parametrize(
    "path", ["../x", "/etc/hostname", "a/../../x", "a//b", "C:/x", "a\\b", "", "a\x00b", "."]
)
def test_no_path_leads_out_of_the_cache(cache, path):
    with pytest.raises(ValueError, match="must lead down from its folder"):
        fetch(record(path), download=False)


def test_a_pickle_among_the_data_is_not_run(cache, tmp_path):
    (cache / "toy/numbers.gz").write_bytes(gzip.compress(pickle.dumps(Bomb(tmp_path / "made"))))
    with pytest.raises(DataUnavailable):
        fetch(record(), download=False)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("there", [None, b"damaged"], ids=["nothing", "damaged"])
def test_a_read_only_cache_is_told_from_a_broken_network(locked, monkeypatch, there):
    """Nothing is asked of the network before there is a place for the answer."""
    folder, lock = locked
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(download, "cache_folder", lambda: folder)
    path = folder / "toy" / "numbers.gz"
    if there is not None:
        path.parent.mkdir()
        path.write_bytes(there)
    with lock(), pytest.raises(DataUnavailable, match="cannot be written: is it read-only or full") as caught:
        fetch(record())
    assert str(folder) in str(caught.value)
    assert (path.read_bytes() if path.exists() else None) == there


def test_a_read_only_cache_is_read(locked, monkeypatch):
    folder, lock = locked
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(download, "cache_folder", lambda: folder)
    (folder / "toy").mkdir()
    (folder / "toy" / "numbers.gz").write_bytes(gzip.compress(CONTENT))
    with lock():
        assert fetch(record()) == CONTENT


# ---------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("place", ["results.json", "new/results.json"])
def test_results_that_cannot_be_written_are_told_and_the_old_ones_stay(locked, place):
    folder, lock = locked
    write_json({"old": True}, folder / "results.json")
    with lock(), pytest.raises(SystemExit, match="is the disk full or read-only") as caught:
        write_json({"old": False}, folder / place)
    assert str(folder / place) in str(caught.value)
    assert json.loads((folder / "results.json").read_text()) == {"old": True}
    assert os.listdir(folder) == ["results.json"]


def test_results_that_find_the_disk_full_leave_nothing_half_written(tmp_path, monkeypatch):
    def half(path, text, encoding):
        path.write_bytes(text.encode(encoding)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    write_json({"old": True}, tmp_path / "results.json")
    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(SystemExit, match="No space left"):
        write_json({"old": False}, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_bytes()) == {"old": True}
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_notebook_that_cannot_be_written_is_told_and_the_old_one_stays(locked, monkeypatch, capsys):
    folder, lock = locked
    (folder / "01_small.py").write_text("# %%\n1\n")
    (folder / "01_small.ipynb").write_text("old")
    monkeypatch.setattr(notebook_build, "execute", lambda notebook, folder: None)
    monkeypatch.setattr(notebook_build, "chapters", lambda: [folder / "01_small.py"])
    with lock(), pytest.raises(SystemExit) as caught:
        notebook_build.main()
    told = capsys.readouterr().err
    assert caught.value.code is True and "01_small.ipynb is left as it was" in told
    assert str(folder / "01_small.ipynb") in told and (folder / "01_small.ipynb").read_text() == "old"


# --------------------------------------------------------------------------------------- progress


def test_progress_cut_or_flipped_is_never_lost(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    for number in ("1.1", "1.2", "3.2"):
        note_solved(number)
    whole, draw = file.read_bytes(), random.Random(0)
    for turn in range(60):
        place = draw.randrange(len(whole))
        flipped = bytes([whole[place] ^ 1 << draw.randrange(8)])
        content = whole[:place] if turn % 2 else whole[:place] + flipped + whole[place + 1 :]
        for old in tmp_path.iterdir():
            old.unlink()
        file.write_bytes(content)
        note = note_solved("2.2")
        assert "2.2" in json.loads(file.read_text(encoding="utf-8"))["solved"]
        kept = [path for path in tmp_path.iterdir() if path != file]
        assert bool(note) == bool(kept) and all(path.read_bytes() == content for path in kept)


def test_a_pickle_for_progress_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "progress.json"))
    (tmp_path / "progress.json").write_bytes(pickle.dumps(Bomb(tmp_path / "made")))
    assert "damaged" in note_solved("1.1") and not (tmp_path / "made").exists()


# ----------------------------------------------------------------------------------- interruption


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.skipif(os.name == "nt", reason="kills are tried on Unix")
def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one(tmp_path):
    """20 kills at random moments of one child each, forked from a process that has imported all."""
    path, draw = tmp_path / "model.safetensors", random.Random(0)
    save_checkpoint(nn.Linear(300, 300), path)
    for _ in range(20):
        child = os.fork()
        if child == 0:
            try:
                torch.set_num_threads(1)
                model = nn.Linear(300, 300)
                while True:
                    save_checkpoint(model, path)
            finally:
                os._exit(1)
        time.sleep(draw.uniform(0.001, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        load_checkpoint(nn.Linear(300, 300), path)
    save_checkpoint(nn.Linear(300, 300), path)
    load_checkpoint(nn.Linear(300, 300), path)


def serve(folder):
    """A server on this machine that hands out its file slowly; it says its port."""
    code = """
        import http.server, sys, time
        content = open(sys.argv[1], "rb").read()
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                start = int(asked[6:-1]) if asked else 0
                body = content[start:]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for place in range(0, len(body), 20_000):
                    self.wfile.write(body[place : place + 20_000])
                    time.sleep(0.004)
            def log_message(self, *arguments):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        print(server.server_port, flush=True)
        server.serve_forever()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(os.name == "nt", reason="kills are tried on Unix")
def test_a_kill_while_a_file_is_downloaded_leaves_a_cache_that_works(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "ABANDONED_SECONDS", -1.0)  # what a killed one left is taken over at once
    content, draw = random.Random(1).randbytes(1_000_003), random.Random(0)
    (tmp_path / "served").write_bytes(content)
    server = serve(tmp_path / "served")
    killed = 0
    try:
        address = f"http://127.0.0.1:{int(server.stdout.readline())}/numbers"
        file = DataFile("toy/numbers", address, len(content), hashlib.sha256(content).hexdigest())
        for _ in range(20):
            (cache / "toy/numbers").unlink(missing_ok=True)
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                try:
                    fetch(file)
                finally:
                    os._exit(0)
            time.sleep(draw.uniform(0.0, 0.15))
            os.kill(child, signal.SIGKILL)
            killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            if (cache / "toy/numbers").exists():  # it was quicker: then the file is whole
                assert (cache / "toy/numbers").read_bytes() == content
        assert fetch(file) == content
        assert killed >= 10
    finally:
        server.kill()
        server.communicate()
    assert "numbers" in {path.name for path in (cache / "toy").iterdir()}
