/** attention_map: one head's weights as a heat map, with layer and head to choose. */
import { addHeat, shownLabels } from "./heat.js";
import { long, plain, quoted, short, visible } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { tabbed, View } from "./view.js";

/**
 * @typedef {object} MapData
 * @property {string} title
 * @property {string[]} queries
 * @property {string[]} keys
 * @property {import("./payload.js").Packed} weights   (layer, head, query, key)
 * @property {import("./payload.js").Packed} [mask]    1 where a query may attend; layers and heads may be 1
 * @property {[number, number][]} [gold]               pairs of query and key
 * @property {number} top                              the largest weight
 * @property {number} [layer]
 * @property {number} [head]
 */

/** @param {HTMLElement} element @param {MapData} data */
export async function mount(element, data) {
  const { queries, keys } = data;
  const weights = new Matrices(data.weights);
  const masks = data.mask && new Matrices(data.mask);
  const [layers, heads] = weights.shape;
  const view = new View(element, { title: data.title, note: weights.precision });
  const at = { layer: data.layer ?? 0, head: data.head ?? 0 };
  const shown = { mask: true, gold: true, own: false };
  const gold = new Set((data.gold ?? []).map(([q, k]) => q * keys.length + k));

  function read({ layer, head }) {
    const [maskLayers, maskHeads] = masks ? masks.shape : [];
    const mask = masks?.at((maskLayers > 1 ? layer : 0) * maskHeads + (maskHeads > 1 ? head : 0));
    return Promise.all([weights.at(layer * heads + head), mask ?? null]);
  }
  let [values, allowed] = await read(at);

  const range = () => [0, shown.own ? values.reduce((a, b) => Math.max(a, b), 0) : data.top];
  const blocked = (q, k) => allowed !== null && !allowed[q * keys.length + k];
  const overlays = () => ({
    values, range: range(),
    hatched: allowed && shown.mask ? blocked : undefined,
    gold: shown.gold ? gold : undefined,
  });

  function tell(q, k) {
    const weight = values[q * keys.length + k];
    const extra = (blocked(q, k) ? ", masked" : "") + (gold.has(q * keys.length + k) ? ", gold" : "");
    view.say(`query ${quoted(queries[q])} attends to ${quoted(keys[k])}: ${short(weight)}${extra}`,
      data.weights.kind === "float32" ? `(${long(weight)})` : "");
  }

  function tellRow(q) {
    const row = Array.from(values.subarray(q * keys.length, (q + 1) * keys.length), (w, k) => [w, k]);
    const best = row.sort((a, b) => b[0] - a[0]).slice(0, 3);
    const said = best.map(([w, k]) => `${quoted(keys[k])} ${short(w)}`).join(", ");
    view.say(`query ${quoted(queries[q])} attends most to ${said}`);
  }

  const choose = (changes) => view.latest(read(Object.assign(at, changes)), (found) => {
    [values, allowed] = found;
    map.set(overlays());
    tell(map.state.row, map.state.column);
  });

  const numbered = (count) => Array.from({ length: count }, (_, i) => String(i));
  if (layers > 1) view.select("Layer", numbered(layers), (layer) => choose({ layer }), at.layer);
  if (heads > 1) view.select("Head", numbered(heads), (head) => choose({ head }), at.head);
  if (layers * heads > 1) view.toggle("Own colour scale", false, (own) => refresh({ own }));
  if (masks) view.toggle("Mask", true, (mask) => refresh({ mask }));
  if (gold.size) view.toggle("Gold", true, (on) => refresh({ gold: on }));
  function refresh(changes) {
    Object.assign(shown, changes);
    map.set(overlays());
  }

  const map = addHeat(view, {
    label: `Attention map, ${queries.length} queries down, ${keys.length} keys across. ` +
      "Arrow keys move between cells, Home and End go to the ends of a row, Enter tells a row's largest weights.",
    rows: shownLabels(queries), columns: shownLabels(keys), ...overlays(), moved: tell, chosen: (q) => tellRow(q),
  });
  view.say("Point at a cell, or press Tab and use the arrow keys. Rows are queries, columns are keys.");
  view.numbers = () => tabbed([["", ...keys.map(visible)], ...queries.map((q, i) =>
    [visible(q), ...Array.from(values.subarray(i * keys.length, (i + 1) * keys.length), plain)])]);
  return view;
}

export default { render: liveWith(mount) };
