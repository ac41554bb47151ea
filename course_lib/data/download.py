"""Public data files: found in a local folder or in the cache, else downloaded, and always checked.

A file is looked for in the folder named by the environment variable `ATTENTION_COURSE_DATA`, then in the
cache, and last at its public home. Whatever its source, its decompressed bytes are compared with the
pinned size and SHA-256 digest before anyone sees them.
"""

import gzip
import hashlib
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from tqdm.auto import tqdm

FOLDER_VARIABLE = "ATTENTION_COURSE_DATA"
TIMEOUT_SECONDS = 30  # for one wait on the network, not for the whole file
ATTEMPTS = 3
PAUSE_SECONDS = 1.0  # before the second attempt; twice as long before each later one
ABANDONED_SECONDS = 10 * TIMEOUT_SECONDS  # a partial file untouched for so long has lost its writer
_ABSENT = (FileNotFoundError, NotADirectoryError)
_TRANSIENT = (408, 425, 429)  # of the answers 4xx those that may be another one soon; the rest is final
_CHUNK = 1 << 16
_SLACK = 1 << 20  # what a compressed file may exceed its content by


class DataUnavailable(OSError):
    """A data file could not be had, or is not the file that the course was written for."""


@dataclass(frozen=True)
class DataFile:
    """A public file: its place in a data folder, its address, and its content's size and SHA-256 digest.

    Size and digest are those of the decompressed bytes: who compressed the file must not matter.
    """

    path: str
    address: str
    size: int
    sha256: str


_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
_GPT2 = "https://huggingface.co/openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/"
_FASHION_MNIST = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_TABLE = """
multi30k/train.de.gz            2110398 2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72
multi30k/train.en.gz            1801238 460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6
multi30k/train.fr.gz            2111303 5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d
multi30k/val.de.gz                75981 660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660
multi30k/val.en.gz                63297 1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227
multi30k/val.fr.gz                73924 5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc
multi30k/test_2016_flickr.de.gz   70649 4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16
multi30k/test_2016_flickr.en.gz   62076 399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182
multi30k/test_2016_flickr.fr.gz   72261 cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6
tiny-shakespeare/input.txt      1115394 86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
gpt2/vocab.json                 1042301 196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783
gpt2/merges.txt                  456318 1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5
gpt2/model.safetensors        548105171 248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707
fashion-mnist/train-images-idx3-ubyte.gz 47040016 c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
fashion-mnist/train-labels-idx1-ubyte.gz    60008 bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
fashion-mnist/t10k-images-idx3-ubyte.gz   7840016 5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
fashion-mnist/t10k-labels-idx1-ubyte.gz     10008 0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34
"""  # noqa: E501
# The folder of a path decides where it is downloaded from.
_HOMES = {
    "multi30k": _MULTI30K,
    "tiny-shakespeare": _SHAKESPEARE,
    "gpt2": _GPT2,
    "fashion-mnist": _FASHION_MNIST,
}


def _read_table() -> Iterator[DataFile]:
    for line in _TABLE.split("\n"):
        if line:
            path, size, digest = line.split()
            folder, _, name = path.partition("/")
            yield DataFile(path, _HOMES[folder] + name, int(size), digest)


FILES: dict[str, DataFile] = {file.path: file for file in _read_table()}


def cache_folder() -> Path:
    """The folder that keeps downloaded files between runs."""
    return Path(platformdirs.user_cache_dir("attention-you-can-check"))


def fetch(file: str | DataFile, download: bool = True) -> bytes:
    """Return the decompressed content of a data file, checked against its pinned digest.

    Args:
        file: a path listed in `FILES`, such as "multi30k/train.en.gz", or a record of your own.
        download: whether to ask the network for a file that is not on this machine yet.

    Raises:
        TypeError: `file` is neither a path nor a record.
        ValueError: the path is not listed, or the address is not https.
        DataUnavailable: the file cannot be reached, read, stored, or is not the expected one. The message
            names the file, the expected digest, that of what was found, and how to go on without a network.
    """
    if isinstance(file, str):
        if file not in FILES:
            raise ValueError(f"no data file is called {file!r}; choose from {', '.join(FILES)}")
        file = FILES[file]
    if not isinstance(file, DataFile) or not isinstance(file.path, str) or not isinstance(file.address, str):
        raise TypeError(f"fetch takes a path listed in FILES, or a DataFile, got {file!r:.80}")
    _check_address(file.address)
    _check_path(file.path)

    if folder := os.environ.get(FOLDER_VARIABLE):
        local = Path(folder) / file.path
        try:
            return _checked(file, local)
        except _ABSENT:
            pass  # the folder may hold some files only
        except _BadContent as problem:
            raise _unavailable(file, f"{local} was left as it is, but {problem}", problem.found) from problem

    cached = cache_folder() / file.path
    try:
        return _checked(file, cached)
    except _ABSENT:
        pass
    except _BadContent:
        _disk(file, cached.unlink, missing_ok=True)
    if not download:
        raise _unavailable(file, "not on this machine, and download=False says not to fetch it", "none")
    return _download(file, cached)


class _BadContent(Exception):
    """The bytes at hand are not the expected ones: says why, and what was found."""

    def __init__(self, problem: str, found: str):
        super().__init__(problem)
        self.found = found


def _checked(file: DataFile, path: Path) -> bytes:
    """Decompress `path` and compare it with the pinned digest.

    Raises _BadContent where it is not the expected file, and one of _ABSENT where there is none.
    """
    content, damage = _decompress(file, path)
    found = _describe(file, content, path)
    if damage is not None:
        raise _BadContent(f"it is damaged or cut short ({damage})", found) from damage
    if len(content) > file.size:
        raise _BadContent(f"it holds more than the expected {file.size:,} bytes", found)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise _BadContent("its content is not the expected one", found)
    return content


def _decompress(file: DataFile, path: Path) -> tuple[bytes, Exception | None]:
    """Read `path` as far as it can be, never far beyond the known size; also give what stopped it."""
    content = bytearray()
    try:
        with (gzip.open if file.path.endswith(".gz") else open)(path, "rb") as stream:
            # read1 hands over what it has before the damage; read would lose it.
            while len(content) <= file.size and (chunk := stream.read1(file.size + 1 - len(content))):
                content += chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as damage:
        return bytes(content), damage
    except _ABSENT:
        raise
    except OSError as problem:
        raise _unavailable(file, f"{path} cannot be read ({problem})", "none that can be read") from problem
    return bytes(content), None


def _describe(file: DataFile, content: bytes, path: Path) -> str:
    """Size and digest of what was decompressed, or of the file as it is where that is nothing."""
    if not content:
        raw = path.read_bytes()
        return f"none; the file as it came has SHA-256 {hashlib.sha256(raw).hexdigest()}, {len(raw):,} bytes"
    digest = hashlib.sha256(content).hexdigest()
    if len(content) > file.size:
        return f"SHA-256 {digest}, of the first {len(content):,} bytes of a longer file"
    return f"SHA-256 {digest}, {len(content):,} bytes"


def _unavailable(file: DataFile, problem: str, found: str) -> DataUnavailable:
    folder = os.environ.get(FOLDER_VARIABLE)
    looked = f"set to {folder!r}" if folder else "not set"
    return DataUnavailable(
        f"{file.path}: {problem}\n"
        f"  expected content SHA-256 {file.sha256}, {file.size:,} bytes\n"
        f"  found content    {found}\n"
        f"  public address   {file.address}\n"
        f"To go on without a network, set {FOLDER_VARIABLE} (now {looked}) to a folder that holds "
        f'{file.path}, or use load_translation("grammar"), load_text("python-docs") or '
        'load_images("shapes"), which need no files.'
    )


def _disk(file: DataFile, action, *arguments, **options):
    """Do something in the cache folder; a full or read-only disk is told from a broken network."""
    try:
        return action(*arguments, **options)
    except OSError as problem:
        raise _unavailable(
            file,
            f"the cache folder {cache_folder()} cannot be written: is it read-only or full? ({problem})",
            "none that could be kept",
        ) from problem


class _Interrupted(Exception):
    """The transfer broke off; what came so far may be continued."""


class _Refused(Exception):
    """The answer will not be another one the next time."""


def _download(file: DataFile, cached: Path) -> bytes:
    """Download to a temporary file of our own, check it, and only then move it to `cached`."""
    with _partial_file(file, cached) as partial:
        for attempt in range(1, ATTEMPTS + 1):
            if attempt > 1:
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 2))
            try:
                _transfer(file, partial)
                content = _checked(file, partial)
                break
            except _Refused as problem:
                raise _unavailable(file, str(problem), _so_far(file, partial)) from problem
            except _Interrupted as problem:
                reason = f"the download did not succeed in {attempt} attempts: {problem}"
                found = _so_far(file, partial)
            except _BadContent as problem:
                # Nothing of it can be trusted, not even as the beginning of a later attempt.
                _disk(file, os.truncate, partial, 0)
                reason = f"the file was downloaded {attempt} times, but {problem}"
                found = problem.found
            except _ABSENT:
                reason = found = "another process took the unfinished file away"
        else:
            raise _unavailable(file, reason, found)
        _disk(file, os.replace, partial, cached)
    return content


def _so_far(file: DataFile, partial: Path) -> str:
    """What an unfinished download amounts to."""
    if partial.stat().st_size == 0:
        return "none, since nothing came"
    return f"{_describe(file, _decompress(file, partial)[0], partial)}, and then it broke off"


@contextmanager
def _partial_file(file: DataFile, cached: Path) -> Iterator[Path]:
    """A temporary file that no other process writes to, holding what an interrupted download left behind.

    Taking over a left file is one rename, which only one process can win. A file left after an error or
    Ctrl-C is called NAME.part; one left by a killed process is known by its age.
    """
    _disk(file, cached.parent.mkdir, parents=True, exist_ok=True)
    handle, name = _disk(file, tempfile.mkstemp, ".part", cached.name + ".", cached.parent)
    os.close(handle)
    mine, left = Path(name), cached.with_name(cached.name + ".part")
    for candidate in (left, *cached.parent.glob(cached.name + ".*.part")):
        with suppress(OSError):  # another process was quicker: then we begin at the beginning
            age = time.time() - candidate.stat().st_mtime
            if candidate == left or age > ABANDONED_SECONDS:
                # Young before it is ours: under our name with its old age it would be taken from us in turn.
                os.utime(candidate)
                os.replace(candidate, mine)
                break
    try:
        yield mine
    finally:
        with suppress(OSError):  # nothing must cover the error that brought us here
            if mine.exists() and mine.stat().st_size:
                os.replace(mine, left)
            else:
                mine.unlink(missing_ok=True)


def _transfer(file: DataFile, partial: Path) -> None:
    """Append to `partial` what it lacks; start again where the server cannot continue."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(file.address, headers={"User-Agent": "attention-you-can-check"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = _OPENER.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code == 416:  # we have as much as there is, or more: let the check decide
            return
        final = problem.code < 500 and problem.code not in _TRANSIENT
        raise (_Refused if final else _Interrupted)(
            f"the server answered {problem.code} {problem.reason}"
        ) from problem
    except (OSError, http.client.HTTPException) as problem:
        raise _Interrupted(f"the server cannot be reached ({problem})") from problem

    with response:
        continued = response.status == 206 and (response.headers["Content-Range"] or "").startswith(
            f"bytes {have}-"
        )
        if not continued:
            have = 0
        length = response.headers["Content-Length"]
        total = have + int(length) if length and length.isdigit() else None
        bar = tqdm(desc=file.path, initial=have, total=total, unit="B", unit_scale=True)
        with bar, _disk(file, open, partial, "ab" if continued else "wb") as stream:
            while True:
                try:
                    chunk = response.read1(_CHUNK)  # what has come; read would wait, and then lose it
                except (OSError, http.client.HTTPException) as problem:
                    raise _Interrupted(
                        f"the transfer broke off after {have:,} bytes ({problem})"
                    ) from problem
                if not chunk:
                    break
                have += len(chunk)
                _disk(file, stream.write, chunk)
                bar.update(len(chunk))
                if have > file.size + _SLACK:
                    break
    if have > file.size + _SLACK:
        found = _describe(file, _decompress(file, partial)[0], partial)
        _disk(file, os.truncate, partial, 0)
        raise _unavailable(file, f"the server sends more than the expected {file.size:,} bytes", found)
    if total is not None and have < total:
        raise _Interrupted(f"the transfer broke off after {have:,} of {total:,} bytes")


def _is_trusted(address: str) -> bool:
    """Only https, whose server has proved its name; plain http only to this very machine."""
    parts = urllib.parse.urlsplit(address)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    return parts.scheme == "https" or loopback


def _check_address(address: str) -> None:
    if not _is_trusted(address):
        raise ValueError(f"data is downloaded over https only, but the address is {address}")


def _check_path(path: str) -> None:
    """Nothing outside of the data folders is ever read, written or removed."""
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or ":" in path or {"", ".", ".."} & set(parts):
        raise ValueError(f"a data file's path must lead down from its folder, as in 'a/b.gz', got {path!r}")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, stream, code, message, headers, address):
        # Who began with https must not be led to anything less, not even on this machine.
        downgraded = request.type == "https" and urllib.parse.urlsplit(address).scheme != "https"
        if downgraded or not _is_trusted(address):
            raise _Refused(f"data is downloaded over https only, but the server leads on to {address}")
        return super().redirect_request(request, stream, code, message, headers, address)


_OPENER = urllib.request.build_opener(_CheckedRedirects)
