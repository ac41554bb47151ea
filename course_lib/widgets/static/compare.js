/** compare: my result, the reference, and their difference, cell by cell. */
import { addHeat, shownLabels } from "./heat.js";
import { long, plain, quoted } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { tabbed, View } from "./view.js";

/**
 * @typedef {object} CompareData
 * @property {string} title
 * @property {import("./payload.js").Packed} mine        (slice, row, column)
 * @property {import("./payload.js").Packed} reference
 * @property {import("./payload.js").Packed} difference  taken in double precision: smaller than the digits of both
 * @property {string[]} rows
 * @property {string[]} columns
 * @property {string[]} slices     the name of each slice, such as "[0, 1]"
 * @property {number} slice        the slice shown first: the one that differs most
 * @property {number} atol
 * @property {string} verdict
 */

const widest = (values) => values.reduce((a, b) => (Number.isFinite(b) ? Math.max(a, Math.abs(b)) : a), 0) || 1;

/** @param {HTMLElement} element @param {CompareData} data */
export async function mount(element, data) {
  const [rows, columns] = [shownLabels(data.rows), shownLabels(data.columns)];
  const mine = new Matrices(data.mine);
  const reference = new Matrices(data.reference);
  const view = new View(element, { title: data.title, note: `Equal means: within ${data.atol}. Values are exact to 7 digits.` });
  const difference = new Matrices(data.difference);
  const read = (slice) => Promise.all([mine, reference, difference].map((matrices) => matrices.at(slice)));
  let parts = await read(data.slice);
  let maps = [];
  const wrong = (r, c) => {
    const value = parts[2][r * columns.length + c];
    return !(Math.abs(value) <= data.atol);
  };
  const ranges = () => {
    const shared = widest(Float32Array.of(widest(parts[0]), widest(parts[1])));
    const signed = [...parts[0], ...parts[1]].some((value) => value < 0);
    const difference = Math.max(data.atol, widest(parts[2].map((v) => (Math.abs(v) > data.atol ? v : 0))));
    const shown = signed ? [-shared, shared] : [0, shared];
    return [[shown, signed], [shown, signed], [[-difference, difference], true]];
  };
  const state = (i) => {
    const [range, signed] = ranges()[i];
    return { values: parts[i], range, signed, hatched: (r, c) => Number.isNaN(parts[i][r * columns.length + c]) };
  };

  function moved(r, c) {
    const [a, b, d] = parts.map((values) => values[r * columns.length + c]);
    for (const map of maps) map.move(r, c, false);
    view.say(`row ${quoted(data.rows[r])}, column ${quoted(data.columns[c])}: mine ${long(a)}, reference ${long(b)}, difference ${long(d)}` +
      (wrong(r, c) ? "" : ", equal"));
  }

  if (data.slices.length > 1) view.select("Slice", data.slices, (slice) => view.latest(read(slice), (found) => {
    parts = found;
    maps.forEach((map, i) => map.set(state(i)));
    moved(maps[0].state.row, maps[0].state.column);
  }), data.slice);

  maps = ["Mine", "Reference", "Mine − reference"].map((caption, i) => addHeat(view, {
    label: `${caption}: ${rows.length} rows, ${columns.length} columns. Arrow keys move in all three at once.`,
    caption, rows, columns, ...state(i), moved, size: 44, width: Math.max(150, (view.width - 60) / 3),
  }));
  const far = parts[2].reduce((at, v, i, all) => (!(Math.abs(v) <= Math.abs(all[at])) ? i : at), 0);
  for (const map of maps) map.move(Math.floor(far / columns.length), far % columns.length, false);
  view.say(data.verdict);
  view.numbers = () => ["Mine", "Reference", "Difference"].map((name, i) => tabbed([[name, ...columns],
    ...rows.map((r, k) => [r, ...Array.from(parts[i].subarray(k * columns.length, (k + 1) * columns.length), plain)])]))
    .join("\n\n");
  return view;
}

export default { render: liveWith(mount) };
