"""Downloads from a server of our own on 127.0.0.1, which can be told to misbehave."""

import gzip
import hashlib
import http.server
import io
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import urllib.request
import urllib.response
import zlib
from email.message import Message
from types import SimpleNamespace

import pytest

from course_lib.data import download
from course_lib.data.download import DataFile, DataUnavailable, fetch

CONTENT = bytes(range(256)) * 3001 + os.urandom(300_007)
PACKED = gzip.compress(CONTENT, mtime=0)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.body`; answers with each of `server.errors` and cuts after each length in `server.cuts`
    first, one a request."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        if self.path != "/file":
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if start and start >= len(server.body):
            self.send_error(416)
            return
        body = server.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[:cut])
        if server.hang.is_set() and cut < len(body):
            server.released.wait(20)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.ranges, server.cuts, server.errors, server.requests = PACKED, True, [], [], []
    server.redirect = "http://example.org/file"
    server.hang, server.released = threading.Event(), threading.Event()
    server.address = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "cache"
    monkeypatch.setattr(download, "cache_folder", lambda: folder)
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    return folder


def record(address, content=CONTENT, path="toy/numbers.gz"):
    return DataFile(path, address, len(content), hashlib.sha256(content).hexdigest())


def names(cache):
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_file_is_downloaded_once_and_then_read_from_the_cache(server, cache):
    file = record(server.address)
    assert fetch(file) == CONTENT
    assert fetch(file) == CONTENT
    assert server.requests == [None]
    assert names(cache) == ["numbers.gz"]


def test_who_compressed_the_file_does_not_matter(server, cache):
    server.body = gzip.compress(CONTENT, compresslevel=1, mtime=1234567)
    assert server.body != PACKED
    assert fetch(record(server.address)) == CONTENT


def test_a_file_that_is_not_compressed(server, cache):
    server.body = CONTENT
    assert fetch(record(server.address, path="toy/numbers.txt")) == CONTENT


def test_a_broken_transfer_is_resumed(server, cache):
    server.cuts = [100_003, 50_021]
    assert fetch(record(server.address)) == CONTENT
    assert server.requests == [None, "bytes=100003-", "bytes=150024-"]
    assert names(cache) == ["numbers.gz"]


def test_a_server_without_ranges_makes_it_start_again(server, cache):
    server.cuts, server.ranges = [100_003], False
    assert fetch(record(server.address)) == CONTENT
    assert server.requests == [None, "bytes=100003-"]


def test_what_was_left_is_continued_by_a_later_call(server, cache):
    file = record(server.address)
    server.cuts = [70_001, 1, 1]
    with pytest.raises(DataUnavailable, match=r"3 attempts.*broke off after 70,003 of") as caught:
        fetch(file)
    came = zlib.decompressobj(31).decompress(PACKED[:70_003])
    assert_says_all(caught.value, file, f"{digest(came)}, {len(came):,} bytes, and then it broke off")
    assert names(cache) == ["numbers.gz.part"]
    assert fetch(file) == CONTENT
    assert server.requests[-1] == "bytes=70003-"
    assert names(cache) == ["numbers.gz"]


def test_a_bad_beginning_left_behind_is_thrown_away(server, cache):
    (cache / "toy").mkdir(parents=True)
    (cache / "toy/numbers.gz.part").write_bytes(b"of another file" * 100)
    assert fetch(record(server.address)) == CONTENT
    assert server.requests == ["bytes=1500-", None]


def test_a_left_file_that_is_already_whole(server, cache):
    (cache / "toy").mkdir(parents=True)
    (cache / "toy/numbers.gz.part").write_bytes(PACKED)
    assert fetch(record(server.address)) == CONTENT


def digest(content):
    return f"SHA-256 {hashlib.sha256(content).hexdigest()}"


def assert_says_all(error, file, found):
    """A message must name the file, what was expected and what was found, and how to do without a network."""
    message = str(error)
    expected = f"expected content SHA-256 {file.sha256}, {file.size:,} bytes"
    offline = (f"set {download.FOLDER_VARIABLE}", 'load_translation("grammar")', 'load_images("shapes")')
    for part in (file.path, file.address, expected, "found content", found, *offline):
        assert part in message, f"{part!r} is missing from: {message}"


def test_a_corrupted_file_is_named_with_both_digests_and_not_kept(server, cache):
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    server.body = gzip.compress(wrong)
    file = record(server.address)
    with pytest.raises(DataUnavailable, match="downloaded 3 times, but its content is not the exp") as caught:
        fetch(file)
    assert_says_all(caught.value, file, digest(wrong))
    assert names(cache) == []
    assert isinstance(caught.value, OSError)


LOGIN = b"<html>please log in</html>"
DAMAGED = {
    "not compressed": (LOGIN, f"the file as it came has {digest(LOGIN)}, 26 bytes"),
    "empty": (b"", f"none; the file as it came has {digest(b'')}, 0 bytes"),
    "wrong check sum": (PACKED[:-8] + bytes(8), f"{digest(CONTENT)}, {len(CONTENT):,} bytes"),
    "without its end": (PACKED[:-1000], digest(zlib.decompressobj(31).decompress(PACKED[:-1000]))),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_not_kept_and_their_digest_is_given(server, cache, damage):
    server.body, found = DAMAGED[damage]
    file = record(server.address)
    with pytest.raises(DataUnavailable, match=r"damaged or cut short|not the expected one") as caught:
        fetch(file)
    assert_says_all(caught.value, file, found)
    assert names(cache) == []


def test_decompression_stops_at_the_known_size(server, cache):
    bomb = gzip.compress(bytes(200_000_000), compresslevel=9)
    assert len(bomb) < 300_000
    server.body = bomb
    tracemalloc.start()
    file = record(server.address, content=bytes(1000))
    with pytest.raises(DataUnavailable, match="more than the expected 1,000 bytes") as caught:
        fetch(file)
    assert_says_all(caught.value, file, f"{digest(bytes(1001))}, of the first 1,001 bytes of a longer file")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert names(cache) == []


@pytest.mark.parametrize("path", ["toy/numbers.gz", "toy/numbers.txt"])
def test_a_download_stops_when_it_is_far_too_long(server, cache, path):
    server.body = bytes(download._SLACK + 300_000)
    file = record(server.address, content=bytes(1000), path=path)
    with pytest.raises(DataUnavailable, match="sends more than the expected 1,000 bytes") as caught:
        fetch(file)
    found = "none; the file as it came has SHA-256" if path.endswith("gz") else digest(bytes(1001))
    assert_says_all(caught.value, file, found)
    assert names(cache) == [] and len(server.requests) == 1


def test_not_found_is_final_and_names_file_and_address(server, cache):
    file = record(server.address.replace("file", "nothing"))
    with pytest.raises(DataUnavailable, match=r"toy/numbers.gz: .*404") as caught:
        fetch(file)
    assert_says_all(caught.value, file, "none, since nothing came")
    assert server.requests == [None]


def test_an_error_that_may_pass_is_tried_again_after_a_pause(server, cache, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=pauses.append, time=time.time))
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.5)
    server.errors = [503, 429]
    assert fetch(record(server.address)) == CONTENT
    assert len(server.requests) == 3 and pauses == [0.5, 1.0]


def test_a_lasting_error_is_given_up(server, cache):
    server.errors = [503] * 9
    with pytest.raises(DataUnavailable, match="did not succeed in 3 attempts: the server answered 503"):
        fetch(record(server.address))
    assert len(server.requests) == 3


def test_refused_connection(cache):
    with socket.socket() as silent:  # bound, so that nobody else takes the port, and not listening
        silent.bind(("127.0.0.1", 0))
        file = record(f"http://127.0.0.1:{silent.getsockname()[1]}/file")
        with pytest.raises(DataUnavailable, match="cannot be reached") as caught:
            fetch(file)
    assert_says_all(caught.value, file, "none, since nothing came")
    assert names(cache) == []


def test_a_silent_server_is_given_up(server, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 1)  # time enough to answer, and none to go on
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.hang.set()
    server.cuts = [10]
    with pytest.raises(DataUnavailable, match="broke off after 10 bytes"):
        fetch(record(server.address))


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/file",
        "ftp://127.0.0.1/file",
        "file:///etc/hostname",
        "http://127.0.0.1.example.org/file",
        "http://localhost@example.org/file",
    ],
)
def test_only_https(cache, address):
    with pytest.raises(ValueError, match="https only"):
        fetch(record(address))


def test_a_redirect_to_a_trusted_address_is_followed(server, cache):
    server.redirect = server.address
    assert fetch(record(server.address.replace("file", "away"))) == CONTENT


@pytest.mark.parametrize(
    "redirect", ["http://example.org/file", "ftp://127.0.0.1/file", "file:///etc/hostname", "data:,numbers"]
)
def test_a_redirect_out_of_https_is_refused(server, cache, redirect):
    server.redirect = redirect
    file = record(server.address.replace("file", "away"))
    with pytest.raises(DataUnavailable, match=r"https only|not allowed") as caught:
        fetch(file)
    assert_says_all(caught.value, file, "none, since nothing came")
    assert server.requests == [None] and names(cache) == []


class HttpsRedirect(urllib.request.HTTPSHandler):
    """An https server that knows one answer: look over there."""

    def __init__(self, server):
        super().__init__()
        self.server = server

    def https_open(self, request):
        headers = Message()
        headers["Location"] = self.server.redirect
        response = urllib.response.addinfourl(io.BytesIO(), headers, request.full_url, 302)
        response.msg = "Found"
        return response


def test_a_redirect_from_https_to_http_is_refused_even_on_this_machine(server, cache, monkeypatch):
    opener = urllib.request.build_opener(download._CheckedRedirects, HttpsRedirect(server))
    monkeypatch.setattr(download, "_OPENER", opener)
    server.redirect = server.address
    with pytest.raises(DataUnavailable, match="https only, but the server leads on to http://127"):
        fetch(record("https://example.org/file"))
    assert server.requests == [] and names(cache) == []


def test_a_bad_cached_file_is_replaced(server, cache):
    (cache / "toy").mkdir(parents=True)
    (cache / "toy/numbers.gz").write_bytes(PACKED[:1000])
    assert fetch(record(server.address)) == CONTENT
    assert (cache / "toy/numbers.gz").read_bytes() == PACKED


def test_a_bad_cached_file_goes_even_without_network(cache):
    (cache / "toy").mkdir(parents=True)
    (cache / "toy/numbers.gz").write_bytes(PACKED[:1000])
    with pytest.raises(DataUnavailable):
        fetch(record("http://127.0.0.1:9/file"))
    assert names(cache) == []


def test_the_users_folder_comes_first(server, cache, monkeypatch, tmp_path):
    own = tmp_path / "own/toy/numbers.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(PACKED)
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path / "own"))
    assert fetch(record(server.address)) == CONTENT
    assert server.requests == [] and names(cache) == []


def test_a_bad_file_of_the_user_is_named_and_left_alone(server, cache, monkeypatch, tmp_path):
    own = tmp_path / "own/toy/numbers.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(PACKED[:5000])
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path / "own"))
    file = record(server.address)
    with pytest.raises(DataUnavailable, match=re.escape(str(own)) + " was left as it is") as caught:
        fetch(file)
    assert_says_all(caught.value, file, digest(zlib.decompressobj(31).decompress(PACKED[:5000])))
    assert own.read_bytes() == PACKED[:5000] and server.requests == []


def test_what_the_users_folder_lacks_is_downloaded(server, cache, monkeypatch, tmp_path):
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path / "missing"))
    assert fetch(record(server.address)) == CONTENT


def _full(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["mkstemp", "replace"])
def test_a_full_disk_is_not_taken_for_a_broken_network(server, cache, monkeypatch, call):
    monkeypatch.setattr(*((download.tempfile, call) if call == "mkstemp" else (download.os, call)), _full)
    with pytest.raises(DataUnavailable, match=r"cache folder .* cannot be written.*No space left"):
        fetch(record(server.address))


def test_a_cache_that_cannot_be_made(server, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataUnavailable, match="cannot be written"):
        fetch(record(server.address))


def test_unlisted_names_are_answered_with_the_list(cache):
    with pytest.raises(ValueError, match=r"'multi30k/train.xx.gz'; choose from multi30k/train.de.gz"):
        fetch("multi30k/train.xx.gz")


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("file", [None, 5, ["multi30k/train.de.gz"]])
def test_what_is_no_file_is_told_so(cache, file):
    with pytest.raises(TypeError, match=re.escape(f"a DataFile, got {file!r}")):
        fetch(file)


def test_the_table_of_files():
    folders = [path.partition("/")[0] for path in download.FILES]
    counts = {"multi30k": 9, "tiny-shakespeare": 1, "gpt2": 3, "fashion-mnist": 4}
    assert {folder: folders.count(folder) for folder in folders} == counts
    for path, file in download.FILES.items():
        assert file.path == path and file.address.endswith("/" + path.partition("/")[2])
        assert file.address.startswith("https://") and re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size > 10_000


_CHILD = """
    import sys
    from pathlib import Path
    from course_lib.data import download
    download.cache_folder = lambda: Path(sys.argv[1])
    download.PAUSE_SECONDS = 0
    file = download.DataFile("toy/numbers.gz", sys.argv[2], int(sys.argv[3]), sys.argv[4])
    print(len(download.fetch(file)))
"""


def _child(cache, file):
    arguments = [str(cache), file.address, str(file.size), file.sha256]
    code = textwrap.dedent(_CHILD)
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )


def _wait_for(condition):
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "waited 300 seconds in vain"
        time.sleep(0.01)


def test_a_killed_process_leaves_nothing_that_harms_the_next(server, cache, monkeypatch):
    file = record(server.address)
    server.hang.set()
    server.cuts = [200_003]
    child = _child(cache, file)
    # The child writes what it buffered only later: it is enough that its own file is there.
    _wait_for(lambda: server.requests and names(cache))
    child.kill()
    child.communicate()
    (left,) = names(cache)
    assert left.endswith(".part") and left != "numbers.gz.part"
    assert fetch(file) == CONTENT
    assert "numbers.gz" in names(cache) and server.requests == [None, None]
    # Once it is old enough to be nobody's, a left file is taken over and goes away.
    (cache / "toy/numbers.gz").unlink()
    os.utime(cache / "toy" / left, (0, 0))
    assert fetch(file) == CONTENT
    assert names(cache) == ["numbers.gz"]


def test_an_unfinished_file_that_was_taken_over_is_not_taken_a_second_time(cache):
    """However old it is: it belongs to the process that took it over."""
    (cache / "toy").mkdir(parents=True)
    left = cache / "toy/numbers.gz.part"
    left.write_bytes(PACKED[:1000])
    os.utime(left, (0, 0))
    file, cached = record("https://example.org/file"), cache / "toy/numbers.gz"
    with download._partial_file(file, cached) as first, download._partial_file(file, cached) as second:
        assert first != second
        assert (first.stat().st_size, second.stat().st_size) == (1000, 0)


def test_an_unfinished_file_that_was_taken_away_is_begun_again(server, cache, monkeypatch):
    transfer, taken = download._transfer, []

    def transfer_and_lose(file, partial):
        transfer(file, partial)
        if not taken:
            taken.append(partial.rename(cache / "taken"))

    monkeypatch.setattr(download, "_transfer", transfer_and_lose)
    assert fetch(record(server.address)) == CONTENT
    assert server.requests == [None, None]


def test_processes_at_once_do_not_damage_each_other(server, cache):
    file = record(server.address)
    server.cuts = [90_001, 80_001]  # not more than one process can bear
    children = [_child(cache, file) for _ in range(3)]
    assert [child.communicate(timeout=600)[0].strip() for child in children] == [str(len(CONTENT))] * 3
    assert fetch(file) == CONTENT
    assert "numbers.gz" in names(cache)


def test_ctrl_c_keeps_what_came(server, cache, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.tqdm, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(record(server.address))
    assert names(cache) == ["numbers.gz.part"]
