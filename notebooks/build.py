"""Turn each chapter's source, NN_slug.py, into NN_slug.ipynb: convert, execute, normalise.

    make notebooks            all chapters
    make notebooks ONLY=03    one

Only the .py is edited. The .ipynb is stored with its outputs, so that a preview, Colab and the book show
them without running anything. Two runs give the same bytes wherever numbers allow: nothing is stored that
tells when, where or how fast a run was. Progress bars are therefore not stored at all. How long each chapter
took is written to book/run_times.json, for its page in the book.
"""

import base64
import copy
import hashlib
import io
import json
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

FOLDER = Path(__file__).resolve().parent
RUN_TIMES = FOLDER.parent / "book" / "run_times.json"
LONGEST_CELL = 600  # seconds; a chapter should take 90
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# The end of a progress bar: [00:07<00:02, 12.30it/s], or [00:07, 12.30it/s] where the total is unknown.
PROGRESS_BAR = re.compile(r"\[(\d+:)?\d+:\d\d[<,].*\]")


class ChapterFailed(Exception):
    """A cell raised, ran too long or lost its kernel."""


def chapters(folder=FOLDER):
    """The sources of all chapters, in order."""
    return sorted(folder.glob("[0-9][0-9]_*.py"))


def convert(source):
    """Read a chapter's source as a notebook without outputs."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.nbformat_minor = 5
    notebook.metadata = nbformat.from_dict(METADATA)
    taken = set()
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        # From the content, so that a new cell leaves the ids of the others as they are.
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        number = 1
        while (identity := digest if number == 1 else f"{digest}-{number}") in taken:
            number += 1
        taken.add(identity)
        cell.id = identity
    return notebook


def execute(notebook, folder):
    """Run all cells in a fresh kernel, in that folder, under nobody's own IPython and matplotlib settings."""
    running = 0

    def note(cell, cell_index):
        nonlocal running
        running = cell_index

    with tempfile.TemporaryDirectory() as settings:
        (Path(settings) / "matplotlibrc").write_text("svg.hashsalt: attention-you-can-check\n")
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=LONGEST_CELL,
            extra_arguments=["--log-level=ERROR"],
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(folder)}},
            on_cell_start=note,
        )
        try:
            # SOURCE_DATE_EPOCH is matplotlib's switch for the date inside an SVG.
            client.execute(
                env=os.environ | {"IPYTHONDIR": settings, "MATPLOTLIBRC": settings, "SOURCE_DATE_EPOCH": "0"}
            )
        except CellExecutionError as error:
            arrows = [line for line in ANSI.sub("", error.traceback).splitlines() if line.startswith("--")]
            line = next((line for line in arrows if line.startswith("---->")), "")
            line = re.sub(r"^-+> *\d+ ", "", line)
            raise ChapterFailed(f"cell {running + 1}: {line}\n{error.ename}: {error.evalue}") from error
        except CellTimeoutError as error:
            raise ChapterFailed(f"cell {running + 1} took longer than {LONGEST_CELL} seconds") from error
        except DeadKernelError as error:
            raise ChapterFailed(f"cell {running + 1}: the kernel died (was memory short?)") from error


def normalise(notebook):
    """A copy without what differs from run to run, or means nothing outside of a live kernel."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merge_streams(filter(None, map(normalise_output, cell.outputs)))
    return notebook


def normalise_output(output):
    """The output as it is stored, or None where nothing of it is."""
    if output.output_type == "stream":
        lines = [last_state(line) for line in output.text.split("\n")]
        output.text = normalise_text("\n".join(line for line in lines if line is not None))
        return output if output.text.strip() else None
    data = output.get("data", {})
    if data.pop(WIDGET, None) is not None and set(data) <= {"text/plain"}:
        return None  # a live widget without its kernel is an empty box
    for kind, content in data.items():
        if kind == "image/png":
            data[kind] = base64.b64encode(small_png(base64.b64decode(content))).decode()
        elif isinstance(content, str):
            data[kind] = normalise_text(content)
    return output


def last_state(line):
    """What a terminal shows of a line after its carriage returns, or None where that is a progress bar."""
    if "\r" not in line:
        return line
    shown = [state for state in line.split("\r") if state.strip()]
    return shown[-1] if shown and not PROGRESS_BAR.search(shown[-1]) else None


def normalise_text(text):
    """Text without memory addresses, and without the names that a machine gives to its folders."""
    text = re.sub(r"\bat 0x[0-9a-fA-F]+", "at 0x…", text)
    text = re.sub(r"(?:/[^/\s]+)*/ipykernel_\d+/\d+\.py", "<cell>", text)
    return text.replace(f"{FOLDER.parent}/", "")


def merge_streams(outputs):
    """Join pieces of the same stream: where a kernel cuts them is chance."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def small_png(png):
    """The same picture in 256 colours: a third of the size, and no word on what drew it, and when."""
    picture = Image.open(io.BytesIO(png))
    if picture.mode == "P":  # it has been here before
        return png
    picture = picture.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def build(source):
    """Make the notebook of one chapter. If a cell fails, the notebook that was there stays."""
    notebook = convert(source)
    execute(notebook, source.parent)
    notebook = normalise(notebook)
    nbformat.validate(notebook)
    target = source.with_suffix(".ipynb")
    draft = target.with_suffix(".ipynb.new")
    draft.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    draft.replace(target)
    return target


def note_run_time(chapter, seconds, path=None):
    """Keep how long a chapter took, and on what, for its page in the book."""
    path = RUN_TIMES if path is None else path
    times = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    times[chapter] = {"seconds": round(seconds), "cores": os.cpu_count(), "processor": processor()}
    lines = ",\n".join(f'  "{name}": {json.dumps(times[name])}' for name in sorted(times))
    draft = path.with_name(path.name + ".new")
    draft.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    draft.replace(path)


def processor():
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main(only=""):
    wanted = [source for source in chapters() if source.name.startswith(only)]
    if not wanted:
        names = ", ".join(source.stem for source in chapters()) or "none yet"
        sys.exit(f"There is no chapter {only}; there are: {names}.")
    failed = False
    for source in wanted:
        start = time.perf_counter()
        try:
            target = build(source)
        except (ChapterFailed, OSError) as error:
            failed = True
            print(
                f"{source.stem}, {error}\n{source.stem}.ipynb is left as it was.", file=sys.stderr, flush=True
            )
        else:
            seconds, size = time.perf_counter() - start, target.stat().st_size / 1000
            note_run_time(source.stem, seconds)
            print(f"{source.stem}  {seconds:.0f} s  {size:.0f} kB", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main(*sys.argv[1:])
