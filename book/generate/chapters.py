"""A stored chapter, made into a page of the book.

The notebook stays as it is; what is added here is what only a book can have: links between chapters, to the
glossary and to the claims, alternative texts for figures, the measured time, and scripts that pages share.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from book.generate import views
from book.generate.prose import in_prose, plain

CLAIM_TAG = re.compile(r"claim-(C\d\d)")
_SECTION = re.compile(r"^#{2,3} (?P<number>\d+\.\d+) ", re.MULTILINE)
_TITLE = re.compile(r"^# (?P<title>(?P<number>\d+) · .+)$", re.MULTILINE)
_FOLD = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
_TIME = re.compile(r"^(\*\*Time\.\*\* (?:.+\n?)+)", re.MULTILINE)
_LOOK = re.compile(r"\A\s*\*What to look at: (.+?)\*(?:\n\s*\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Chapter:
    """A stored notebook: NN_slug, and what stands in it."""

    slug: str
    notebook: nbformat.NotebookNode = field(repr=False)

    @property
    def number(self) -> int:
        return int(self.slug[:2])

    @property
    def title(self) -> str:
        title = _TITLE.search(self.text)
        if title is None or int(title["number"]) != self.number:
            raise ValueError(
                f"{self.slug}: the title should read '# {self.number} · …', as in other chapters."
            )
        return title["title"]

    @property
    def text(self) -> str:
        return "\n\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown")

    def claims(self) -> dict[str, list[nbformat.NotebookNode]]:
        """The cells that show each claim, in order."""
        found = {}
        for cell in self.notebook.cells:
            for claim in claims_of(cell):
                found.setdefault(claim, []).append(cell)
        return found

    def view(self, kind: str) -> str:
        """Return the first output that is a live view of this kind."""
        for _, output in outputs_of(self.notebook, "text/html"):
            if views.is_view(output) and views.split(output)[1].kind == kind:
                return output
        raise ValueError(f"{self.slug} shows no {kind}.")


def read_chapters(folder: Path) -> list[Chapter]:
    """Read all stored notebooks, in order."""
    return [
        Chapter(path.stem, nbformat.read(path, as_version=4)) for path in sorted(folder.glob("[0-9]*.ipynb"))
    ]


def claims_of(cell: nbformat.NotebookNode) -> list[str]:
    tags = cell.metadata.get("tags", [])
    return [match[1] for match in map(CLAIM_TAG.fullmatch, tags) if match]


def outputs_of(notebook: nbformat.NotebookNode, kind: str):
    """Give each output of this MIME type, with the number of its cell."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                yield number, output.data[kind]


def cell_label(claim: str, number: int) -> str:
    """The anchor of the cell that shows a claim; a claim may be shown by more than one."""
    return f"cell-{claim.lower()}" + (f"-{number}" if number > 1 else "")


def page(
    chapter: Chapter,
    chapter_numbers: set[int],
    terms: Mapping[str, str],
    run_time: str | None = None,
) -> tuple[nbformat.NotebookNode, list[views.Script]]:
    """Return the chapter as the book shows it, and the scripts of its views.

    chapter_numbers: those that there are, to link to.
    terms: how words of the text, in small letters, are listed in the glossary.
    run_time: a sentence on how long the chapter took when it was measured.
    """
    notebook = copy.deepcopy(chapter.notebook)
    scripts = give_views_their_scripts(notebook)
    describe_figures(chapter.slug, notebook)
    if run_time:
        tell_time(chapter.slug, notebook, run_time)
    link = linker(chapter, chapter_numbers, terms)
    cells, shown = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = add_labels(link(unfold(cell.source)), chapter.number)
        for claim in claims_of(cell):
            shown[claim] = shown.get(claim, 0) + 1
            # A label in a cell of its own becomes the anchor of the code cell that follows.
            label = nbformat.v4.new_markdown_cell(f"({cell_label(claim, shown[claim])})=")
            cells.append(label)
        cells.append(cell)
    notebook.cells = cells
    return notebook, scripts


def give_views_their_scripts(notebook: nbformat.NotebookNode) -> list[views.Script]:
    """Take the scripts out of the views; each page names a file once."""
    scripts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            html = output.get("data", {}).get("text/html", "")
            if views.is_view(html):
                output.data["text/html"], script = views.in_page(html, "../")
                scripts[script.file] = script
    return list(scripts.values())


def describe_figures(slug: str, notebook: nbformat.NotebookNode) -> None:
    """Give each figure the sentence that stands below it as alternative text.

    Raises ValueError for a figure without such a sentence.
    """
    for number, cell in enumerate(notebook.cells):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            below = notebook.cells[number + 1].source if number + 1 < len(notebook.cells) else ""
            look = _LOOK.match(below)
            if look is None:
                raise ValueError(
                    f"{slug}, cell {number + 1}: the figure needs a sentence below it that begins "
                    "'*What to look at: ' and ends with its paragraph; it becomes the alternative text."
                )
            cell.metadata["mystnb"] = {"image": {"alt": f"Figure. {plain(look[1])}"}}


def tell_time(slug: str, notebook: nbformat.NotebookNode, run_time: str) -> None:
    """Add the measured time to what the chapter says of its time.

    Raises ValueError when it says nothing.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (said := _TIME.search(cell.source)):
            begin, end = cell.source[: said.end()].rstrip(), cell.source[said.end() :]
            cell.source = f"{begin} {run_time}\n{end}"
            return
    raise ValueError(f"{slug} should say how long it takes, in a paragraph that begins '**Time.** '.")


def unfold(text: str) -> str:
    """Set off what is folded by blank lines, so that it is read as Markdown and not as bare HTML."""
    return _FOLD.sub(
        lambda match: f"<details>\n<summary>{match[1]}</summary>\n\n{match[2].strip()}\n\n</details>\n", text
    )


def add_labels(text: str, number: int) -> str:
    """Make the title and the numbered sections something that can be linked to."""
    text = _SECTION.sub(lambda match: f"(section-{match['number'].replace('.', '-')})=\n{match[0]}", text)
    return _TITLE.sub(lambda match: f"(chapter-{number})=\n{match[0]}", text)


def linker(chapter: Chapter, numbers: set[int], terms: Mapping[str, str]) -> Callable[[str], str]:
    """A function that sets links in one piece of Markdown after the other, as the chapter is read."""
    sections = {match["number"] for match in _SECTION.finditer(chapter.text)}
    own_claims = chapter.claims()  # shown here, so they are on the page of claims
    words = (r"\s+".join(map(re.escape, form.split())) for form in sorted(terms, key=len, reverse=True))
    forms = "|".join(words)
    term = re.compile(rf"(?<![\w-])(?:{forms})(?![\w-])", re.IGNORECASE) if forms else None
    met = set()

    def chapters_and_claims(text: str) -> str:
        def chapter_link(match):
            number = int(match[1])
            known = number in numbers and number != chapter.number
            return f"[{match[0]}](#chapter-{number})" if known else match[0]

        def section_link(match):
            known = match[1] in sections
            return f"[{match[0]}](#section-{match[1].replace('.', '-')})" if known else match[0]

        def claim_link(match):
            return f"[{match[0]}](#{match[0].lower()})" if match[0] in own_claims else match[0]

        text = re.sub(r"\b[Cc]hapter\s+(\d+)\b(?!\.)", chapter_link, text)
        text = re.sub(r"\b[Ss]ection\s+(\d+\.\d+)\b", section_link, text)
        return re.sub(r"\bC\d\d\b", claim_link, text)

    def first_terms(text: str) -> str:
        def glossary_link(match):
            entry = terms[" ".join(match[0].lower().split())]
            if entry in met:
                return match[0]
            met.add(entry)
            return f"{{term}}`{match[0]}<{entry}>`"

        return term.sub(glossary_link, text) if term else text

    def link(text: str) -> str:
        # From there on, sections are those of the papers.
        papers = text.find("**What the papers say")
        ours, theirs = (text, "") if papers < 0 else (text[:papers], text[papers:])
        return in_prose(first_terms, in_prose(chapters_and_claims, ours)) + theirs

    return link
