/** head_view: queries on the left, keys on the right, a line for each weight, a colour for each head. */
import { fit, quoted, short, plain, visible } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { measure } from "./pen.js";
import { h, tabbed, View } from "./view.js";

// More lines than this cannot be told apart, and slow the page down: the strongest are drawn.
const MOST_LINES = 1000;

/**
 * @typedef {object} HeadData
 * @property {string} title
 * @property {string[]} queries
 * @property {string[]} keys
 * @property {import("./payload.js").Packed} weights (layer, head, query, key)
 * @property {number} layer
 * @property {boolean[]} heads  which heads start switched on
 */

/**
 * The lines to draw, strongest last: about `most`, none below `least`.
 * @param {{values: Float32Array, head: number}[]} maps @param {number} keys
 * @returns {{head: number, query: number, key: number, weight: number}[]}
 */
export function strongestLines(maps, keys, least = 0.01, most = MOST_LINES) {
  // How many weights stand in each hundredth tells where to cut, without sorting them all.
  const counts = new Array(101).fill(0);
  for (const { values } of maps) for (const weight of values) if (weight >= least) counts[Math.min(100, Math.floor(weight * 100))]++;
  let step = 100;
  for (let total = counts[100]; step > 0 && total + counts[step - 1] <= most; total += counts[step]) step--;
  const cut = Math.max(least, step / 100);
  const lines = [];
  for (const { values, head } of maps) {
    for (let i = 0; i < values.length; i++) {
      const weight = values[i];
      if (weight >= cut) lines.push({ head, query: Math.floor(i / keys), key: i % keys, weight });
    }
  }
  return lines.sort((a, b) => a.weight - b.weight).slice(-most);
}

/** @param {HTMLElement} element @param {HeadData} data */
export async function mount(element, data) {
  const { queries, keys } = data;
  const weights = new Matrices(data.weights);
  const [layers, heads] = weights.shape;
  const view = new View(element, { title: data.title, note: `${heads > 1 ? "Lines have the colour of their head's switch. " : ""}${weights.precision}` });
  const on = [...data.heads];
  const sides = [queries, keys];
  let layer = data.layer;
  const readLayer = () => Promise.all(on.map(async (_, head) => ({ head, values: await weights.at(layer * heads + head) })));
  let maps = await readLayer();
  const choose = () => strongestLines(maps.filter(({ head }) => on[head]), keys.length);
  let lines = choose();
  let cursor = { side: 0, place: 0 };
  let alone = false; // only the lines of the token under the cursor

  if (layers > 1) view.select("Layer", Array.from({ length: layers }, (_, i) => String(i)), (index) => {
    layer = index;
    return view.latest(readLayer(), (found) => {
      maps = found;
      show();
      tell();
    });
  }, layer);
  // Colours come round again after twelve heads; the lines of the second dozen are dashed.
  const dash = (head) => (head < view.theme.heads.length ? [] : [6, 4]);
  const colour = (head) => view.theme.heads[head % view.theme.heads.length];
  const switches = Array.from({ length: heads }, (_, head) => {
    const dot = h("span", { "aria-hidden": "true" }, "● ");
    const button = h("button", { type: "button", "aria-pressed": on[head], click: () => turn(head, !on[head]) }, dot, `Head ${head}`);
    return { button, dot };
  });
  if (heads > 1) {
    view.controls.append(...switches.map(({ button }) => button));
    view.button("All", () => turn(null, true));
    view.button("None", () => turn(null, false));
  }

  function turn(head, state) {
    if (head === null) on.fill(state);
    else on[head] = state;
    show();
    const count = on.filter(Boolean).length;
    view.say(head === null ? `${count} of ${heads} heads shown` : `head ${head} ${state ? "shown" : "hidden"}, ${count} of ${heads} shown`);
  }

  function show() {
    lines = choose();
    paintSwitches();
    surface.redraw();
  }

  const touches = (line) => (cursor.side === 0 ? line.query : line.key) === cursor.place;

  function layout(width) {
    const longest = Math.max(queries.length, keys.length);
    const line = Math.max(8, Math.min(28, 900 / longest));
    const room = Math.min(150, width * 0.28);
    const widest = (tokens) => Math.min(room, Math.max(24, ...tokens.map((t) => measure(visible(t), 14, true))));
    const left = widest(queries) + 14; // the text, and the box around the one under the cursor
    const span = Math.max(90, Math.min(380, width - left - widest(keys) - 24));
    return { left, span, line, room, width: Math.min(width, left + span + widest(keys) + 20), height: line * longest + 30 };
  }
  const middle = (at, place) => 26 + (place + 0.5) * at.line;

  function paint(pen, at) {
    const { theme } = view;
    const right = at.left + at.span;
    pen.text(at.left - 8, 10, "queries", { fill: theme.muted, size: 12, align: "right" });
    pen.text(right + 8, 10, "keys", { fill: theme.muted, size: 12 });
    for (const line of lines) {
      const lit = touches(line);
      if (alone && !lit) continue;
      const [from, to] = [middle(at, line.query), middle(at, line.key)];
      const bend = at.span * 0.4;
      pen.path([[at.left, from], [at.left + bend, from], [right - bend, to], [right, to]], {
        stroke: colour(line.head), curve: true, line: alone ? 1 + 3 * line.weight : 0.75 + 2 * line.weight,
        alpha: Math.min(1, alone ? 0.15 + line.weight : line.weight), dash: dash(line.head),
      });
    }
    const strength = new Map();
    for (const line of lines) {
      if (!touches(line)) continue;
      const other = cursor.side === 0 ? line.key : line.query;
      strength.set(other, Math.max(strength.get(other) ?? 0, line.weight));
    }
    const size = at.line >= 13 ? 14 : 8;
    sides.forEach((tokens, side) => tokens.forEach((token, place) => {
      const here = side === cursor.side && place === cursor.place;
      const bold = here || (alone && side !== cursor.side && (strength.get(place) ?? 0) > 0.1);
      const text = fit(visible(token), at.room, (t) => measure(t, size, bold));
      const x = side ? right + 8 : at.left - 8;
      const y = middle(at, place);
      if (here) {
        const wide = measure(text, size, bold) + 10;
        pen.rect(side ? x - 5 : x - wide + 5, y - at.line / 2 + 1, wide, at.line - 2, { stroke: theme.text, line: 1.5, round: 5 });
      }
      pen.text(x, y, text, { fill: alone && !bold ? theme.muted : theme.text, size, bold, align: side ? "left" : "right" });
    }));
  }

  function tell() {
    const found = lines.filter(touches).reverse().slice(0, 3);
    const token = quoted(sides[cursor.side][cursor.place]);
    const many = on.filter(Boolean).length > 1;
    const said = found.map((line) =>
      `${quoted(cursor.side === 0 ? keys[line.key] : queries[line.query])}: ${short(line.weight)}${many ? ` (head ${line.head})` : ""}`);
    const verb = cursor.side === 0 ? `query ${token} attends to` : `key ${token} is attended to by`;
    view.say(said.length ? `${verb} ${said.join(", ")}` : `${verb} nothing that has a line`);
  }

  function move(side, place, only = true) {
    cursor = { side, place: Math.max(0, Math.min(sides[side].length - 1, place)) };
    alone = only;
    surface.redraw();
    tell();
  }

  function all(tells = true) {
    alone = false;
    surface.redraw();
    if (tells) view.say("All lines are shown.");
  }

  const surface = view.surface({
    label: `${queries.length} queries on the left, ${keys.length} keys on the right, joined by lines. ` +
      "Up and down move over the tokens, left and right change sides, Escape shows all lines.",
    layout, paint,
    point(x, y, pressed) {
      const at = surface.layout;
      const side = x < at.left ? 0 : x > at.left + at.span ? 1 : null;
      const place = Math.floor((y - 26) / at.line);
      if (side === null || place < 0 || place >= sides[side].length) return pressed && all();
      if (side !== cursor.side || place !== cursor.place || !alone) move(side, place);
    },
    key({ key }) {
      const { side, place } = cursor;
      const to = { ArrowUp: [side, place - 1], ArrowDown: [side, place + 1], ArrowLeft: [0, place], ArrowRight: [1, place],
        Home: [side, 0], End: [side, sides[side].length - 1], Enter: [side, place] }[key];
      if (to) move(...to);
      else if (key === "Escape") all();
      else return false;
      return true;
    },
    enter: () => move(cursor.side, cursor.place),
  });
  // A finger leaves when it is lifted: what it chose stays.
  surface.canvas.addEventListener("pointerleave", ({ pointerType }) => {
    if (pointerType === "mouse") all(false);
  });
  function paintSwitches() {
    switches.forEach(({ button, dot }, head) => {
      button.setAttribute("aria-pressed", on[head]);
      button.style.cssText = `background:var(--surface);color:var(--text);border:2px ${on[head] ? "solid" : "dotted"} ${on[head] ? colour(head) : "var(--edge)"}`;
      dot.style.color = on[head] ? colour(head) : "transparent";
    });
  }
  const redraw = view.redraw.bind(view);
  view.redraw = () => {
    paintSwitches();
    redraw();
  };
  paintSwitches();
  view.say(`Point at a token to see its lines alone. Weights below ${short(lines[0]?.weight > 0.02 ? lines[0].weight : 0.01)} have no line.`);
  view.numbers = () => tabbed([["head", "query", "key", "weight"],
    ...[...lines].reverse().map((l) => [l.head, visible(queries[l.query]), visible(keys[l.key]), plain(l.weight)])]);
  return view;
}

export default { render: liveWith(mount) };
