"""A view over time: late answers, failures, and a place that is taken off the page and put back."""

import pytest

from course_lib.widgets import attention_map, compare, head_view, model_view, patch_view, predict_then_reveal
from course_lib.widgets.bundle import module

pytestmark = pytest.mark.browser

# From here on the first matrix that the page unpacks is held back until release() is called.
HOLD_THE_FIRST = """
() => {
  const unpack = Response.prototype.arrayBuffer;
  let first = true;
  Response.prototype.arrayBuffer = async function () {
    const held = first;
    first = false;
    const bytes = await unpack.call(this);
    if (held) await new Promise((release) => (globalThis.release = release));
    return bytes;
  };
}
"""
# Two frames: what was waiting for the matrix has run by then.
RELEASE = """
() => new Promise((done) => {
  release();
  requestAnimationFrame(() => requestAnimationFrame(done));
})
"""


def held(opened):
    opened.page.wait_for_function("() => globalThis.release")


@pytest.mark.parametrize("kind", ["attention_map", "compare", "head_view", "patch_view"])
def test_the_latest_choice_wins_over_a_slow_earlier_one(open_page, make_weights, kind):
    weights = make_weights(3, 1, 4, 4)
    view, selector = {
        "attention_map": lambda: (attention_map(weights), "Layer"),
        "compare": lambda: (compare(weights[:, 0] + 1, weights[:, 0]), "Slice"),
        "head_view": lambda: (head_view(weights), "Layer"),
        "patch_view": lambda: (patch_view([[0.0, 1.0], [1.0, 0.0]], weights, patch_size=1), "Layer"),
    }[kind]()
    opened = open_page(view)
    choose = opened.view().get_by_label(selector, exact=True).select_option
    places = [place for place in range(3) if str(place) != selected(opened, selector)]
    earlier, later = (str(place) for place in places)
    before = opened.numbers()
    opened.page.evaluate(HOLD_THE_FIRST)
    choose(index=int(earlier))
    held(opened)
    choose(index=int(later))
    opened.wait_until(lambda: opened.numbers() != before)
    newest = opened.numbers()
    opened.page.evaluate(RELEASE)
    assert opened.numbers() == newest
    opened.clean()


def selected(opened, selector):
    box = opened.view().get_by_label(selector, exact=True)
    return str(box.evaluate("(box) => box.selectedIndex"))


def test_the_head_opened_last_is_the_one_told(open_page, make_weights):
    opened = open_page(model_view(make_weights(1, 3, 4, 4)))
    opened.focus()
    opened.page.evaluate(HOLD_THE_FIRST)
    opened.press("Home", "Enter")
    held(opened)
    opened.press("ArrowRight", "Enter")
    opened.wait_until(lambda: opened.say() == "layer 0, head 1 opened below")
    opened.page.evaluate(RELEASE)
    assert opened.say() == "layer 0, head 1 opened below"
    assert opened.view().locator(".opened").get_by_label("Head").input_value() == "1"
    opened.clean()


# What anywidget does for a live view: a model that tells its changes, and an element to render into.
WIDGET = """
async ([source, data]) => {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: view } = await import(address);
  const [state, heard] = [{ data, text: "", label: "Text", message: "", runs: 0 }, {}];
  globalThis.model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; heard[`change:${name}`]?.(); },
    save_changes() {}, on: (name, call) => { heard[name] = call; }, off() {},
  };
  const place = document.createElement("div");
  place.dataset.attentionView = "live";
  document.querySelector("main").append(place);
  await view.render({ model, el: place });
}
"""


def test_two_new_models_in_a_row_do_not_interleave(open_page, make_weights):
    views = [
        predict_then_reveal(make_weights(4, 4, seed=number), list("abcd"), title=f"Number {number}").data
        for number in range(3)
    ]
    opened = open_page()
    opened.page.evaluate(WIDGET, [module("predict_then_reveal"), views[0]])
    opened.page.evaluate(HOLD_THE_FIRST)
    opened.page.evaluate("(data) => model.set('data', data)", views[1])
    held(opened)
    opened.page.evaluate("(data) => model.set('data', data)", views[2])
    opened.page.evaluate(RELEASE)
    opened.wait_until(lambda: opened.view().locator(".title").all_inner_texts() == ["Number 2"])
    # The view in sight is the one that listens: it still follows the page's theme.
    opened.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    opened.wait_until(lambda: opened.view().locator(".view").get_attribute("data-theme") == "dark")
    opened.clean()


def test_a_live_view_that_cannot_be_drawn_says_so_and_the_next_one_is_drawn(open_page, make_weights):
    data = attention_map(make_weights(4, 4), list("abcd")).data
    opened = open_page()
    opened.page.evaluate(WIDGET, [module("attention_map"), data])
    opened.page.evaluate("(data) => model.set('data', { ...data, weights: null })", data)
    opened.view().get_by_text("The view could not be drawn").wait_for()
    opened.page.evaluate("(data) => model.set('data', { ...data, title: 'Again' })", data)
    opened.view().locator(".title", has_text="Again").wait_for()
    opened.clean()


def broken(view):
    """The output of a view whose data the page cannot read."""
    return view._repr_html_().replace('"rows":[', '"rows":null,"x":[')


def test_a_view_that_fails_leaves_its_picture_and_table(open_page, make_weights):
    view = compare(make_weights(3, 4), make_weights(3, 4))
    output = broken(view)
    assert output != view._repr_html_()
    opened = open_page(output, ready=False)
    opened.page.wait_for_function("() => document.querySelector('[data-state=failed]')")
    assert opened.view().locator("img").is_visible()
    assert opened.view().locator("table").is_visible()
    assert len(opened.errors) == 1  # the failure is told, not swallowed


def test_a_script_that_could_not_start_is_tried_again(open_page, make_weights):
    views = [attention_map(make_weights(4, 4), title=title)._repr_html_() for title in ("First", "Second")]
    # The page lets no script into its head at first, as a policy of its host might.
    opened = open_page(
        "<script>const insert = document.head.append; document.head.append = () => {};</script>",
        views[0],
        ready=False,
    )
    opened.wait_until(lambda: opened.errors)
    assert opened.view().locator("img").is_visible()
    opened.page.evaluate("() => { document.head.append = insert; }")
    opened.run_output(views[1])
    opened.page.wait_for_function("() => document.querySelector('[data-state=ready]')")
    assert "Second" in opened.view(1).locator(".title").inner_text()


def test_a_copied_place_gets_a_view_of_its_own(open_page, make_weights):
    """A copy of an output has its attributes but no shadow root: running it again must bring it to life."""
    output = attention_map(make_weights(4, 4))._repr_html_()
    opened = open_page(output)
    opened.page.evaluate(
        """() => {
          const copy = document.querySelector("[data-attention-view]").cloneNode(true);
          document.querySelector("main").append(copy);
        }"""
    )
    assert opened.view(1).locator("canvas").count() == 0
    opened.run_output(output)
    opened.wait_until(lambda: opened.view(1).locator("canvas").count() == 1)
    opened.clean()


COUNT_WATCHERS = """
<script>
globalThis.watchers = 0;
const { observe, disconnect } = MutationObserver.prototype;
const on = new Set();
MutationObserver.prototype.observe = function (...given) {
  if (given[1].attributeFilter?.includes("data-theme")) on.add(this); // the browser's driver watches too
  watchers = on.size;
  return observe.apply(this, given);
};
MutationObserver.prototype.disconnect = function () {
  on.delete(this);
  watchers = on.size;
  return disconnect.call(this);
};
</script>
"""


def test_a_view_off_the_page_watches_nothing_and_catches_up_when_it_is_back(open_page, make_weights):
    opened = open_page(COUNT_WATCHERS, attention_map(make_weights(4, 4)))
    page = opened.page
    page.wait_for_function("() => watchers === 1")
    page.evaluate(
        """() => {
          globalThis.away = document.querySelector("[data-attention-view]");
          away.remove();
        }"""
    )
    page.wait_for_function("() => watchers === 0")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.evaluate("document.querySelector('main').append(away)")
    page.wait_for_function("() => watchers === 1")
    opened.wait_until(lambda: opened.view().locator(".view").get_attribute("data-theme") == "dark")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    opened.wait_until(lambda: opened.view().locator(".view").get_attribute("data-theme") == "light")
    opened.clean()
