"""How quickly views are painted and how large their outputs are.

    python tests/benchmarks/views.py            # prints JSON
    python tests/benchmarks/views.py --check    # also fails when a limit is passed

Painted means: from the moment the browser starts to read the page until the frame that follows the first
painting of the view. Chromium is headless; the page is a file.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from course_lib.widgets import attention_map, head_view, model_view
from course_lib.widgets.output import View, _packed_script

# The browser is found and started as the tests do it.
sys.path.append(str(Path(__file__).parents[1]))

PAINTED = """
() => new Promise((done) => {
  const look = () => document.querySelector("[data-state=ready]")
    ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))
    : setTimeout(look, 1);
  look();
})
"""

# Seconds until painted and bytes of the whole output.
LIMITS = {128: (0.3, 3_200_000), 512: (1.5, 10_000_000), 12: (0.3, 25_000)}


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cases() -> list[tuple[str, int, View, float]]:
    """Name, tokens, view and the seconds Python took to make its output; scores are normal noise."""
    numbers = np.random.default_rng(0)
    made = []
    for layers, heads, length in [(1, 1, 12), (12, 12, 128), (12, 12, 512)]:
        weights = softmax(2 * numbers.standard_normal((layers, heads, length, length), dtype=np.float32))
        tokens = [f"token{place}" for place in range(length)]
        views = (attention_map, model_view, head_view) if length == 128 else (attention_map,)
        for function in (*views, *((model_view,) if length == 512 else ())):
            start = time.perf_counter()
            view = function(weights, tokens)
            view._repr_html_()
            made.append(
                (f"{function.__name__} {layers}x{heads}x{length}", length, view, time.perf_counter() - start)
            )
    return made


def measure(runs: int) -> list[dict]:
    from browser import CHROMIUM_OPTIONS, find_chromium
    from playwright.sync_api import sync_playwright

    results = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_OPTIONS)
        for name, length, view, seconds in cases():
            path = view.to_page(Path(folder) / "view.html")
            times = []
            for _ in range(runs):
                page = browser.new_page(viewport={"width": 900, "height": 800})
                page.goto(path.as_uri(), wait_until="commit")
                times.append(page.evaluate(PAINTED) / 1000)
                page.close()
            output, script = len(view._repr_html_().encode()), len(_packed_script(view.kind)[0])
            limit_seconds, limit_bytes = LIMITS[length]
            counted = output - script if length == 12 else output
            results.append(
                {
                    "view": name,
                    "painted_s": round(sorted(times)[len(times) // 2], 3),
                    "limit_s": limit_seconds,
                    "output_bytes": output,
                    "script_bytes": script,
                    "limit_bytes": limit_bytes,
                    "levels": view.data["weights"].get("levels", "float32"),
                    "python_s": round(seconds, 2),
                    "within": bool(
                        sorted(times)[len(times) // 2] <= limit_seconds and counted <= limit_bytes
                    ),
                }
            )
        version = browser.version
        browser.close()
    return [{"chromium": version, "machine": platform.machine(), "runs": runs}, *results]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when a limit is passed")
    parser.add_argument("--runs", type=int, default=5, help="pages opened for each view; the median counts")
    arguments = parser.parse_args()
    measured = measure(arguments.runs)
    print(json.dumps(measured, indent=2))
    if arguments.check and not all(result["within"] for result in measured[1:]):
        sys.exit("a view is slower or larger than its limit")
