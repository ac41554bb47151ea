"""live: a line to type into, and the view of what Python made of it."""

from collections.abc import Callable
from functools import cache
from typing import Any

from course_lib.widgets.bundle import module
from course_lib.widgets.output import View


def live(show: Callable[[str], View], text: str, *, label: str = "Text") -> Any:
    """Return a widget that runs `show` on what the reader types and shows the view it returns.

        def look(sentence):
            tokens = sentence.split()
            return attention_map(weights_of(model, tokens), tokens)

        live(look, "the animal did not cross the street")

    It is drawn by the same code as the view itself, but needs a running kernel to compute anew; a saved
    page keeps the view of the first text. What `show` raises is told beside the line, and the last view
    stays.

    Args:
        show: a function from text to one of the views of this package, always of the same kind.
        text: the text shown first.
        label: what the line asks for.

    Raises:
        ImportError: anywidget is not installed.
        TypeError: `show` returns something that is not a view.
    """
    view = show(text)
    if not isinstance(view, View):
        raise TypeError(
            f"show returned {type(view).__name__}. It must return a view, such as attention_map(...)."
        )
    return _widget_class(view.kind)(show=show, view=view, text=text, label=label)


@cache
def _widget_class(kind: str) -> type:
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError("live views need anywidget: pip install anywidget") from error

    class Live(anywidget.AnyWidget):
        _esm = module(kind)
        data = traitlets.Dict().tag(sync=True)
        text = traitlets.Unicode().tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)
        message = traitlets.Unicode().tag(sync=True)
        runs = traitlets.Int(0).tag(sync=True)  # the page adds one each time the reader asks for a run

        def __init__(self, show: Callable[[str], View], view: View, **traits: Any) -> None:
            super().__init__(data=view.data, **traits)
            self.show, self.view = show, view

        @traitlets.observe("runs")
        def _run(self, _: Any) -> None:
            # The last message is cleared first, so that the same one is told again.
            self.message = ""
            try:
                view = self.show(self.text)
                if not isinstance(view, View) or view.kind != kind:
                    raise TypeError(f"the function must return {kind}(...) each time")
            except Exception as error:
                # The reader's own function failed: the page says how, and the last view stays.
                self.message = f"{type(error).__name__}: {error}"
                return
            self.view, self.data = view, view.data
            self.message = "done"

        def _repr_mimebundle_(self, **options: Any) -> Any:
            bundle = super()._repr_mimebundle_(**options)
            content, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
            return {**content, "text/html": self.view._repr_html_()}, metadata

    return Live
