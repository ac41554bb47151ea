"""The stored notebooks: each is its source, executed from top to bottom, and fit to be published.

That the chapters run today is nbval's part: pytest collects notebooks/ beside tests/.
"""

import io
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
from PIL import Image, PngImagePlugin

from notebooks import build

CHAPTERS = [
    "01_attention_pooling",
    "02_bahdanau_attention",
    "03_scaled_dot_product_attention",
    "04_multi_head_attention",
    "05_positional_encoding",
    "06_transformer",
    "07_gpt",
    "08_vision_transformer",
]
CLAIMS = {
    "01": {"claim-C02", "claim-C03"},
    "02": {"claim-C01", "claim-C04", "claim-C05", "claim-C06", "claim-C07"},
    "03": {"claim-C08", "claim-C09", "claim-C11", "claim-C12", "claim-C15"},
    "04": {"claim-C10", "claim-C13", "claim-C14"},
    "05": {"claim-C16", "claim-C17", "claim-C18", "claim-C19"},
    "06": {f"claim-C{number}" for number in range(20, 27)},
    "07": {f"claim-C{number}" for number in range(27, 32)},
    "08": {"claim-C32", "claim-C33"},
}
LARGEST = 400_000  # bytes
# A Markdown picture or link, an HTML picture, and where they lead.
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)[^)]*\)")
HTML_PICTURE = re.compile(r"<img\b[^>]*>")


def faults(source):
    """All that is wrong with a chapter and its stored notebook."""
    return [*faults_of_source(source), *faults_of_notebook(source)]


def faults_of_source(source):
    if not source.read_text(encoding="utf-8").startswith("# %%"):
        yield "the source must begin with its first cell and have no header"
    claimed = set()
    for number, cell in enumerate(build.convert(source).cells, 1):
        claims = {tag for tag in cell.metadata.get("tags", []) if tag.startswith("claim")}
        claimed |= claims
        if claims and not re.search(r"^\s*assert\b|\bassert_close\(", cell.source, re.MULTILINE):
            yield f"cell {number} claims and asserts nothing"
        if cell.cell_type == "markdown":
            yield from faults_of_links(number, cell.source, source.parent)
    expected = CLAIMS.get(source.name[:2], set())
    if claimed != expected:
        yield f"the claims are {sorted(claimed)} and should be {sorted(expected)}"


def faults_of_links(number, text, folder):
    for link in LINK.finditer(text):
        target = link["target"]
        if link["picture"] and not link["text"].strip():
            yield f"cell {number}: the picture {target} has no alternative text"
        if not target.startswith(("https://", "#")) and not (folder / target.split("#")[0]).exists():
            yield f"cell {number}: {target} is neither a file of the course nor https"
    for picture in HTML_PICTURE.findall(text):
        if not re.search(r'\balt="[^"]+"', picture):
            yield f"cell {number}: the picture {picture} has no alternative text"


def faults_of_notebook(source):
    path = source.with_suffix(".ipynb")
    if path.stat().st_size > LARGEST:
        yield f"the notebook has {path.stat().st_size} bytes, over {LARGEST}"
    notebook = nbformat.read(path, as_version=4)
    stored = [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]
    if stored != [(cell.cell_type, cell.source, cell.metadata) for cell in build.convert(source).cells]:
        yield "the notebook differs from its source; run make notebooks"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "not every cell was executed once, in order"
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        yield "an output holds an error"
    if "widgets" in notebook.metadata or any(build.WIDGET in output.get("data", {}) for output in outputs):
        yield "the notebook holds widget state"
    if re.search(r"/site-packages/|/ipykernel_|/home/|/root/|/Users/", str(outputs)):
        yield "an output names a folder of the machine that it was made on"
    if build.normalise(notebook) != notebook:
        yield "the notebook is not normalised"


def test_chapters_are_those_expected():
    assert [source.stem for source in build.chapters()] == CHAPTERS
    assert sorted(path.stem for path in build.FOLDER.glob("*.ipynb")) == CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_is_sound(chapter):
    assert faults(build.FOLDER / f"{chapter}.py") == []


# From here on the checks themselves are tested, on a chapter of five cells.

SAMPLE = """\
    # %% [markdown]
    # # A sample, with a [link](https://example.org) and ![a dot](dot.png)

    # %%
    import sys
    import time
    import matplotlib.pyplot as plt
    from tqdm.auto import tqdm

    # %% tags=["nbval-check-output"]
    print(6 * 7)

    # %%
    for _ in tqdm(range(2)):
        pass
    for count in range(3):
        print(f"{count}/2 [00:0{count}<00:00, {time.time()} it/s]", end="\\r", file=sys.stderr)
    object()

    # %%
    plt.figure(figsize=(1, 1))
    plt.plot([1, 2]);
"""


def write_sample(folder):
    source = folder / "99_sample.py"
    source.write_text(textwrap.dedent(SAMPLE), encoding="utf-8")
    (folder / "dot.png").touch()
    return source


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sample, built twice: its source, and the bytes of both notebooks."""
    source = write_sample(tmp_path_factory.mktemp("notebooks ü"))
    return source, [build.build(source).read_bytes() for _ in range(2)]


@pytest.fixture
def sample(built, tmp_path):
    source = write_sample(tmp_path)
    source.with_suffix(".ipynb").write_bytes(built[1][0])
    return source


def test_sample_is_sound(sample):
    assert faults(sample) == []


def test_two_builds_give_the_same_bytes(built):
    first, second = built[1]
    assert first == second


def test_build_stores_no_progress_bar_and_no_address(built):
    text = built[1][0].decode()
    assert "it/s]\\n" not in text and '"stderr"' not in text and build.WIDGET not in text
    assert "<object at 0x…>" in text


def test_last_state_of_a_line():
    assert build.last_state("plain") == "plain"
    assert build.last_state("a\rb\rc") == "c"
    assert build.last_state("\r") is None
    assert build.last_state("\r 50%|█  | 1/2 [00:01<00:01, 1.00s/it]\r100%|██| 2/2 [1:00:02<00:00]") is None


def test_png_keeps_its_picture_and_loses_its_metadata():
    picture = Image.new("RGB", (7, 5), "white")
    picture.putpixel((3, 2), (200, 30, 90))
    about, file = PngImagePlugin.PngInfo(), io.BytesIO()
    about.add_text("Software", "someone's")
    picture.save(file, "PNG", pnginfo=about)
    assert b"someone's" in file.getvalue()
    small = build.small_png(file.getvalue())
    assert b"someone's" not in small
    assert Image.open(io.BytesIO(small)).convert("RGB").tobytes() == picture.tobytes()


def test_png_that_was_made_small_stays_as_it_is():
    """Also where the palette's 256 colours are not all used: a thousand colours on white."""
    picture, file = Image.new("RGB", (97, 89), "white"), io.BytesIO()
    for place in range(1200):
        picture.putpixel((place % 97, place // 97), (place % 251, place % 241, 255 - place % 13))
    picture.save(file, "PNG")
    small = build.small_png(file.getvalue())
    assert build.small_png(small) == small != file.getvalue()


SOURCE_DAMAGE = {
    "a header": ("# %% [markdown]", "# ---\n# ---\n# %% [markdown]", "no header"),
    "code that is not in the notebook": ("6 * 7", "6 * 8", "differs from its source"),
    "text that is not in the notebook": ("A sample", "An example", "differs from its source"),
    "a tag that is not in the notebook": (
        "# %%\nimport",
        '# %% tags=["a"]\nimport',
        "differs from its source",
    ),
    "an unknown claim": ("# %%\nimport", '# %% tags=["claim-C99"]\nimport', "the claims are ['claim-C99']"),
    "a claim without an assert": ("# %%\nimport", '# %% tags=["claim-C99"]\nimport', "asserts nothing"),
    "a picture without text": ("![a dot]", "![]", "no alternative text"),
    "an HTML picture without text": ("A sample", '<img src="dot.png">', "no alternative text"),
    "a link to nowhere": ("dot.png", "dash.png", "dash.png is neither"),
    "a link that is not https": ("https://", "http://", "is neither"),
}


@pytest.mark.parametrize("damage", SOURCE_DAMAGE)
def test_damaged_source_is_found(sample, damage):
    old, new, message = SOURCE_DAMAGE[damage]
    text = sample.read_text(encoding="utf-8")
    assert old in text
    sample.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert any(message in fault for fault in faults(sample))


def never_execute(notebook):
    notebook.cells[3].execution_count = None


def execute_out_of_order(notebook):
    notebook.cells[3].execution_count = 7


def hold_an_error(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[])]


def hold_a_widget(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", {build.WIDGET: {"model_id": "1"}})]


def hold_widget_state(notebook):
    notebook.metadata["widgets"] = {}


def hold_an_address(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="<object at 0x7f00>\n")]


def hold_a_folder(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="/home/someone/course\n")]


def grow(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="x" * LARGEST)]


@pytest.mark.parametrize(
    "damage, message",
    [
        (never_execute, "executed once"),
        (execute_out_of_order, "executed once"),
        (hold_an_error, "holds an error"),
        (hold_a_widget, "widget state"),
        (hold_widget_state, "widget state"),
        (hold_an_address, "not normalised"),
        (hold_a_folder, "names a folder"),
        (grow, "bytes, over"),
    ],
)
def test_damaged_notebook_is_found(sample, damage, message):
    path = sample.with_suffix(".ipynb")
    notebook = nbformat.read(path, as_version=4)
    damage(notebook)
    nbformat.write(notebook, path)
    assert any(message in fault for fault in faults(sample))


def test_failing_cell_is_named_and_the_old_notebook_stays(sample, monkeypatch, capsys):
    before = sample.with_suffix(".ipynb").read_bytes()
    sample.write_text('# %% [markdown]\n# Text\n\n# %%\n1\n\n# %%\nraise ValueError("too few heads")\n')
    monkeypatch.setattr(build, "chapters", lambda: [sample])
    with pytest.raises(SystemExit) as stopped:
        build.main()
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert message == (
        '99_sample, cell 3: raise ValueError("too few heads")\nValueError: too few heads\n'
        "99_sample.ipynb is left as it was.\n"
    )
    assert sample.with_suffix(".ipynb").read_bytes() == before
    assert [path.name for path in sample.parent.glob("*.new")] == []


def test_run_times_are_kept_for_the_book(tmp_path):
    path = tmp_path / "run_times.json"
    build.note_run_time("02_second", 61.6, path)
    build.note_run_time("01_first", 7.2, path)
    build.note_run_time("02_second", 58.4, path)
    times = json.loads(path.read_text(encoding="utf-8"))
    assert [(name, time["seconds"]) for name, time in times.items()] == [("01_first", 7), ("02_second", 58)]
    assert times["01_first"]["cores"] == os.cpu_count() and times["01_first"]["processor"]
    assert [path.name for path in tmp_path.iterdir()] == ["run_times.json"]


def test_unknown_chapter_is_said_to_be_unknown():
    with pytest.raises(SystemExit, match="There is no chapter 98; there are: "):
        build.main("98")


def test_nbval_catches_what_it_is_there_for(tmp_path):
    """A cell that raises, a checked output that changed and a call to the network fail; the rest passes."""
    cells = [
        ("a = 1\nprint(a)", [], "something else\n"),
        ("print(a + 1)", ["nbval-check-output"], "2\n"),
        ("print(a + 1)", ["nbval-check-output"], "3\n"),
        ("import socket\nsocket.create_connection(('192.0.2.1', 443), timeout=5)", [], ""),
        ("import urllib.request\nurllib.request.urlopen('https://example.org', timeout=5)", [], ""),
        (
            "with socket.create_server(('127.0.0.1', 0)) as s: socket.create_connection(s.getsockname())",
            [],
            "",
        ),
        ("1 / 0", [], ""),
    ]
    notebook = nbformat.v4.new_notebook(metadata=build.METADATA)
    for number, (code, tags, text) in enumerate(cells, 1):
        outputs = [nbformat.v4.new_output("stream", text=text)] if text else []
        notebook.cells.append(
            nbformat.v4.new_code_cell(code, execution_count=number, outputs=outputs, metadata={"tags": tags})
        )
    nbformat.write(notebook, tmp_path / "sample.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    result = subprocess.run(
        [*command, "-c", "pyproject.toml", tmp_path / "sample.ipynb"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    failed = re.findall(r"^FAILED \S*::(Cell \d)", result.stdout, re.MULTILINE)
    assert failed == ["Cell 2", "Cell 3", "Cell 4", "Cell 6"], result.stdout
    assert result.stdout.count("a chapter must run without the network") >= 2
    assert "4 failed, 3 passed" in result.stdout
