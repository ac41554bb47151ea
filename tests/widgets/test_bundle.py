"""The script of a view: made of the modules it needs, in order, and nothing else."""

import subprocess

import pytest

from course_lib import widgets
from course_lib.widgets import bundle
from course_lib.widgets.payload import deflated

VIEWS = [name for name in widgets.__all__ if name != "live"]


def test_modules_stand_after_those_they_import():
    order = bundle.order("attention_map")
    assert order[-1] == "attention_map"
    assert len(order) == len(set(order))
    assert order.index("theme") < order.index("pen") < order.index("heat")
    assert order.index("view") < order.index("live")


@pytest.mark.parametrize("view", VIEWS)
def test_the_script_stays_small(view):
    assert len(deflated(bundle.script(view).encode())) <= 25_000


@pytest.mark.browser
@pytest.mark.parametrize("view", VIEWS)
def test_the_module_exports_mount_and_render(view, node, tmp_path):
    path = tmp_path / "view.mjs"
    path.write_text(bundle.module(view), encoding="utf-8")
    code = f"import view, {{mount}} from {path.as_uri()!r}; console.log(typeof mount, typeof view.render)"
    done = subprocess.run([node, "--input-type=module", "-e", code], capture_output=True, text=True)
    assert done.stdout.split() == ["function", "function"], done.stderr


def test_what_cannot_be_bundled_is_refused(monkeypatch):
    monkeypatch.setattr(bundle, "source", lambda module: 'import draw from "https://example.org/draw.js";\n')
    with pytest.raises(ValueError, match="cannot bundle"):
        bundle._function("strange")
    monkeypatch.setattr(bundle, "source", lambda module: f'import {{ a }} from "./{module}.js";\n')
    with pytest.raises(ValueError, match="in a circle"):
        bundle.order("strange")
