/** alignment_view: a translation word by word, the source shaded by where each word looked. */
import { chipAt, chipLayout, chipStep, paintChips } from "./chips.js";
import { addHeat, shownLabels } from "./heat.js";
import { plain, quoted, short, visible } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { tabbed, View } from "./view.js";

/**
 * @typedef {object} AlignmentData
 * @property {string} title
 * @property {string[]} source
 * @property {string[]} target
 * @property {import("./payload.js").Packed} weights (1, 1, target, source)
 * @property {[number, number][]} gold               pairs of target and source
 */

/** @param {HTMLElement} element @param {AlignmentData} data */
export async function mount(element, data) {
  const { source, target } = data;
  const weights = new Matrices(data.weights);
  const values = await weights.at(0);
  const gold = new Set(data.gold.map(([t, s]) => t * source.length + s));
  const view = new View(element, { title: data.title, note: weights.precision });
  const shown = { gold: true };
  let step = 0;
  let word = 0;
  const row = (t) => values.subarray(t * source.length, (t + 1) * source.length);
  const best = (t) => row(t).reduce((at, w, s, all) => (w > all[at] ? s : at), 0);
  const isGold = (t, s) => gold.has(t * source.length + s);

  const previous = view.button("‹ Previous word", () => go(step - 1));
  const next = view.button("Next word ›", () => go(step + 1), { class: "main" });
  const slider = view.slider("Word", { min: 1, max: target.length, step: 1, value: 1,
    show: (n) => `${n} of ${target.length}` }, (n) => go(n - 1));
  if (gold.size) view.toggle("Gold", true, (on) => {
    shown.gold = on;
    map.set({ gold: on ? gold : undefined });
    sourceRow.redraw();
  });

  function chips(label, caption, tokens, how, chosen, under) {
    let cursor = 0;
    const surface = view.surface({
      label, caption,
      layout: (width) => chipLayout(tokens, { width, under }),
      paint: (pen, at) => paintChips(pen, at, view.theme, how()),
      point(x, y, pressed) {
        const index = chipAt(surface.layout, x, y);
        if (index >= 0 && pressed) chosen(index);
      },
      key(event) {
        const to = chipStep(surface.layout, cursor, event.key);
        if (to === null) return false;
        cursor = to;
        chosen(to);
        return true;
      },
      enter: () => tell(),
    });
    surface.panel.style.flexBasis = "100%";
    return { ...surface, put: (index) => (cursor = index) };
  }

  const targetRow = chips(
    "The translation. Arrow keys step through its words.", "The translation, word by word", target,
    () => ({ weight: () => null, faint: (t) => t > step, cursor: step }), (t) => go(t), 0);
  const sourceRow = chips(
    "The source. Arrow keys move over its words and tell their weights.",
    "The source, shaded by how much this word looks at each", source,
    () => ({ weight: (s) => row(step)[s], gold: (s) => shown.gold && isGold(step, s), cursor: word, digits: true }),
    (s) => go(step, s), 16);
  const map = addHeat(view, {
    label: `All ${target.length} words of the translation down, ${source.length} words of the source across. ` +
      "Arrow keys move between cells.",
    caption: "Every step at once",
    rows: shownLabels(target), columns: shownLabels(source), values, range: [0, data.top], size: 30, digits: false,
    gold: gold.size ? gold : undefined, moved: (t, s) => go(t, s),
  });

  function tell() {
    const right = isGold(step, word) ? ", gold" : "";
    view.say(`step ${step + 1} of ${target.length}: ${quoted(target[step])} attends to ` +
      `${quoted(source[word])}: ${short(row(step)[word])}${right}`);
  }

  /** Shows one word of the translation, with the cursor on the source word it looks at most. */
  function go(to, at = null, quiet = false) {
    step = Math.max(0, Math.min(target.length - 1, to));
    word = at ?? best(step);
    slider.value = step + 1;
    slider.setAttribute("aria-valuetext", `${step + 1} of ${target.length}`);
    slider.nextElementSibling.textContent = `${step + 1} of ${target.length}`;
    previous.disabled = step === 0;
    next.disabled = step === target.length - 1;
    targetRow.put(step);
    sourceRow.put(word);
    targetRow.redraw();
    sourceRow.redraw();
    map.move(step, word, false);
    if (!quiet) tell();
  }
  go(0);
  view.numbers = () => tabbed([["", ...source.map(visible)],
    ...target.map((t, i) => [visible(t), ...Array.from(row(i), plain)])]);
  return view;
}

export default { render: liveWith(mount) };
