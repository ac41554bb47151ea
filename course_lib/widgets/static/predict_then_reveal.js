/** predict_then_reveal: guess where a query looks, then see. */
import { chipAt, chipLayout, chipStep, paintChips } from "./chips.js";
import { plain, quoted, short, visible } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { tabbed, View } from "./view.js";

/**
 * @typedef {object} PredictData
 * @property {string} title
 * @property {string[]} queries @property {string[]} keys
 * @property {import("./payload.js").Packed} weights (1, 1, query, key)
 * @property {number[]} asked   the queries asked about, in order
 */

/**
 * What a guess is worth: its weight as a share of the largest in its row.
 * @param {ArrayLike<number>} row @param {number} guess
 */
export function scoreOf(row, guess) {
  const top = Math.max(...Array.from(row));
  return top > 0 ? row[guess] / top : 0;
}

/** @param {HTMLElement} element @param {PredictData} data */
export async function mount(element, data) {
  const { queries, keys, asked } = data;
  const values = await new Matrices(data.weights).at(0);
  const view = new View(element, { title: data.title, note: "A guess scores its weight as a share of the largest." });
  view.table.hidden = true; // it holds the answers
  const guesses = asked.map(() => null);
  const open = asked.map(() => false);
  let round = 0;
  let cursor = 0;
  const query = () => asked[round];
  const row = () => values.subarray(query() * keys.length, (query() + 1) * keys.length);

  const reveal = view.button("Reveal", () => show(), { class: "main", disabled: true });
  const previous = view.button("‹ Previous query", () => go(round - 1));
  const next = view.button("Next query ›", () => go(round + 1));

  const question = view.surface({
    label: "The queries; the one asked about is framed.", caption: "The query",
    layout: (width) => chipLayout(queries, { width }),
    paint: (pen, at) => paintChips(pen, at, view.theme, { weight: () => null, faint: (i) => i !== query(), cursor: query() }),
  });
  question.panel.style.flexBasis = "100%";
  const answer = view.surface({
    label: "The keys. Arrow keys move over them, Enter guesses the one under the cursor.",
    caption: "Where does it look? Choose one key",
    layout: (width) => chipLayout(keys, { width, under: 18 }),
    paint(pen, at) {
      paintChips(pen, at, view.theme, {
        weight: (i) => (open[round] ? row()[i] : null), top: Math.max(...row()), cursor, digits: open[round],
        gold: (i) => i === guesses[round],
      });
      if (guesses[round] !== null && !open[round]) {
        const { x, y, width } = at.chips[guesses[round]];
        pen.text(x + width / 2, y + 42, "my guess", { fill: view.theme.muted, size: 11.5, align: "center" });
      }
    },
    point(x, y, pressed) {
      const index = chipAt(answer.layout, x, y);
      if (index < 0) return;
      if (pressed) guess(index);
      else if (index !== cursor) move(index);
    },
    key({ key }) {
      const to = chipStep(answer.layout, cursor, key);
      if (to !== null) move(to);
      else if (key === "Enter" || key === " ") guess(cursor);
      else return false;
      return true;
    },
    enter: () => move(cursor),
  });
  answer.panel.style.flexBasis = "100%";

  function total() {
    const scores = asked.map((q, i) => (open[i] ? scoreOf(values.subarray(q * keys.length, (q + 1) * keys.length), guesses[i]) : null));
    const done = scores.filter((score) => score !== null);
    return `Score ${Math.round((100 * done.reduce((a, b) => a + b, 0)) / done.length)} of 100 after ${done.length} of ${asked.length}.`;
  }
  function move(index) {
    cursor = index;
    answer.redraw();
    view.say(`key ${quoted(keys[index])}` + (open[round] ? `: ${short(row()[index])}` : index === guesses[round] ? ", my guess" : ""));
  }
  function guess(index) {
    if (open[round]) return move(index);
    guesses[round] = cursor = index;
    reveal.disabled = false;
    answer.redraw();
    view.say(`guess: query ${quoted(queries[query()])} looks at ${quoted(keys[index])}. Press Reveal to see.`);
  }
  function show() {
    open[round] = true;
    reveal.disabled = true;
    view.table.hidden = !open.every(Boolean);
    answer.redraw();
    const best = row().reduce((at, weight, i, all) => (weight > all[at] ? i : at), 0);
    const mine = guesses[round];
    const verdict = row()[mine] === row()[best] ? "Right" : `Not most: ${quoted(keys[mine])} gets ${short(row()[mine])}`;
    view.say(`${verdict}. Query ${quoted(queries[query()])} attends most to ${quoted(keys[best])}: ${short(row()[best])}. ${total()}`);
  }
  function go(to) {
    round = Math.max(0, Math.min(asked.length - 1, to));
    cursor = guesses[round] ?? 0;
    previous.disabled = round === 0;
    next.disabled = round === asked.length - 1;
    reveal.disabled = open[round] || guesses[round] === null;
    view.redraw();
    view.say(`Query ${round + 1} of ${asked.length}: where does ${quoted(queries[query()])} look? Click a key, or move with the arrow keys and press Enter.`);
  }
  go(0);
  view.numbers = () => tabbed([["query", "guess", "weight of the guess"], ...asked.map((q, i) => [visible(queries[q]),
    guesses[i] === null ? "" : visible(keys[guesses[i]]), open[i] ? plain(values[q * keys.length + guesses[i]]) : ""])]);
  return view;
}

export default { render: liveWith(mount) };
