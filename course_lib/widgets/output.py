"""A view as an output of a notebook: a script with its data, and a picture and a table without it."""

import hashlib
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.widgets.bundle import script
from course_lib.widgets.payload import deflated
from course_lib.widgets.picture import data_url, visible

# Runs once for each output. The view's script is unpacked once for each page: it is run as an inline script,
# which works wherever this one does (a page from a file, a notebook's output, an editor's web view).
# Every place with this output's mark that has no view yet gets one, so that the same output may stand
# on a page twice, and in any order; the attribute alone proves nothing, since a copied place has it too.
# A script that does not start is forgotten, so that the next output tries anew, and a view that fails gives
# way to the picture and the table again.
_START = """
(async (data, code) => {
  if (!globalThis.DecompressionStream) return;
  const views = (globalThis.attentionViews ??= {});
  views[%(key)s] ??= (async () => {
    const bytes = Uint8Array.from(atob(code), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const tag = document.createElement("script");
    tag.textContent = `(() => {${await new Response(stream).text()}attentionViews.newest = $%(view)s;})();`;
    delete views.newest;
    document.head.append(tag);
    tag.remove();
    if (!views.newest) throw new Error("the page did not let the view's script run");
    return views.newest;
  })();
  const { mount } = await views[%(key)s].catch((error) => {
    delete views[%(key)s];
    throw error;
  });
  for (const place of document.querySelectorAll('[data-attention-view="%(mark)s"]')) {
    if (place.shadowRoot && place.dataset.state !== "failed") continue;
    const root = place.shadowRoot ?? place.attachShadow({ mode: "open" });
    const fallback = () => root.replaceChildren(...["", "table"].map((name) =>
      Object.assign(document.createElement("slot"), { name })));
    fallback();
    place.dataset.state = "opening";
    try {
      await mount(place, data);
      place.dataset.state = "ready";
    } catch (error) {
      fallback();
      place.dataset.state = "failed";
      console.error(error);
    }
  }
})(%(data)s, "%(code)s");
"""


@dataclass(frozen=True)
class View:
    """One view, shown by a notebook when it is the last value of a cell.

    `kind` names the module in static/, `data` is what its `mount` is given, `alt` describes the picture,
    `picture` draws it as PNG, and `table` is a short table: a row of headings, then rows of text.
    """

    kind: str
    data: dict[str, Any]
    alt: str
    picture: Callable[[], bytes] = field(repr=False)
    table: Sequence[Sequence[str]] = field(repr=False)

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.alt}>"

    def _repr_html_(self) -> str:
        data = _for_script(self.data)
        code, key = _packed_script(self.kind)
        mark = hashlib.sha256((key + data).encode()).hexdigest()[:12]
        start = _START % {"key": f'"{key}"', "view": self.kind, "mark": mark, "data": data, "code": code}
        return (
            f'<div data-attention-view="{mark}" class="attention-view">'
            f'<img alt="{html.escape(self.alt)}" src="{data_url(self.picture())}">{_table(self.table)}</div>'
            f"<script>{start}</script>"
        )

    def to_page(self, path: str | Path) -> Path:
        """Write the view as a page of its own and return the path."""
        path = Path(path)
        title = html.escape(visible(self.data.get("title", self.kind)))
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width"><main>{self._repr_html_()}</main></html>'
        )
        part = path.with_name(path.name + ".part")
        part.write_text(page, encoding="utf-8")
        part.replace(path)
        return path


@cache
def _packed_script(kind: str) -> tuple[str, str]:
    text = script(kind)
    return deflated(text.encode()), hashlib.sha256(text.encode()).hexdigest()[:12]


def _for_script(data: dict[str, Any]) -> str:
    """Return data as JavaScript that cannot end the script it stands in, whatever the tokens are."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    cells = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    lines = "".join(
        "<tr>"
        + f'<th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in body
    )
    # pandas' own class: where it is missing, dark pages of Jupyter Book put a light ground behind the output.
    return (
        f'<table slot="table" class="dataframe"><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>'
    )
