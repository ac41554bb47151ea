/** attention_bench: scaled dot-product attention as linked tables; every number can be changed. */
import { attend } from "./bench_math.js";
import { explain } from "./bench_words.js";
import { cell, long, plain, visible } from "./labels.js";
import { liveWith } from "./live.js";
import { colouring, css, inkOn } from "./theme.js";
import { h, tabbed, View } from "./view.js";

/**
 * @typedef {object} BenchData
 * @property {string} title
 * @property {number[][]} query  @property {number[][]} key  @property {number[][]} value
 * @property {boolean[][]} mask
 * @property {boolean} masked    whether the mask starts switched on
 * @property {string[]} queries  @property {string[]} keys
 */

const STAGES = [
  ["scores", "1  Scores", "Q Kᵀ"],
  ["scaled", "2  Scaled", "÷ √d"],
  ["masked", "3  Masked", "− ∞ where hidden"],
  ["weights", "4  Softmax", "each row sums to one"],
  ["output", "5  Output", "weights × V"],
];

const STYLE = `
.bench { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 18px 26px; }
.bench table { border-collapse: separate; border-spacing: 2px; font-variant-numeric: tabular-nums; font-size: 13px; }
.bench caption { text-align: left; font-weight: 600; padding-bottom: 2px; white-space: nowrap; }
.bench caption span { font-weight: 400; color: var(--muted); }
.bench th { font-weight: 500; color: var(--muted); padding: 0 5px; text-align: right; max-width: 7em; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; unicode-bidi: isolate; }
.bench thead th { text-align: center; }
.bench td { padding: 0; }
.bench input[type="number"] { width: 58px; padding: 2px 4px; text-align: right; text-overflow: ellipsis; appearance: textfield; }
.bench input:invalid { border-color: var(--bad); border-width: 2px; }
.bench td button { width: 100%; min-width: 52px; border-color: transparent; border-radius: 4px; text-align: right; }
.bench td button[aria-current="true"] { outline: 2px solid var(--text); outline-offset: 1px; }
.bench td button:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.bench .linked { box-shadow: 0 0 0 2px var(--gold); border-radius: 4px; }
.bench .later { visibility: hidden; }
.sum { border-left: 3px solid var(--accent); padding: 4px 0 4px 12px; margin: 10px 0 2px; min-height: 3.2em;
  white-space: pre-wrap; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
`;

/** @param {HTMLElement} element @param {BenchData} data */
export async function mount(element, data) {
  const view = new View(element, {
    title: data.title, note: "Computed in this page, in double precision. Tables show two decimals.",
  });
  const bench = {
    query: data.query.map((row) => [...row]), key: data.key.map((row) => [...row]),
    value: data.value.map((row) => [...row]), mask: data.mask, scaled: true, masked: data.masked, temperature: 1,
  };
  const queries = data.queries.map(visible);
  const keys = data.keys.map(visible);
  // A single new query may see every key: then the mask hides nothing, and there is nothing to switch.
  const hides = data.mask.some((row) => row.includes(false));
  let stage = STAGES.length - 1;
  let chosen = { stage: "weights", row: 0, column: 0 };
  let result = attend(bench);

  const back = view.button("‹ Stage", () => goTo(stage - 1));
  const told = h("output", {}, "");
  view.controls.append(told);
  const forth = view.button("Stage ›", () => goTo(stage + 1), { class: "main" });
  view.toggle("÷ √d", true, (on) => change({ scaled: on }));
  if (hides) view.toggle("Mask", data.masked, (on) => change({ masked: on }));
  // The slider runs over powers of two, so that one half and double are equally far from one.
  view.slider("Temperature", { min: -3, max: 3, step: 0.25, value: 0, show: (x) => cell(2 ** x) },
    (x) => change({ temperature: 2 ** x }));
  view.button("Start again", () => {
    for (const [name, box] of inputs) box.value = box.title = valueAt(data, name);
    for (const part of ["query", "key", "value"]) bench[part] = data[part].map((row) => [...row]);
    change({});
  });

  const inputs = new Map();
  const valueAt = (from, name) => {
    const [part, row, column] = name.split(" ");
    return from[part][row][column];
  };
  const cells = new Map();
  const given = h("div", { class: "bench" },
    table("query", "Q", "queries", queries, bench.query), table("key", "K", "keys", keys, bench.key),
    table("value", "V", "values", keys, bench.value));
  const computed = h("div", { class: "bench" }, ...STAGES.map(([name, title, note]) =>
    table(name, title, name === "masked" && !hides ? "nothing is hidden" : note, queries, result[name], name === "output" ? null : keys)));
  const sum = h("div", { class: "sum", role: "status", "aria-live": "polite" });
  view.stage.append(h("style", {}, STYLE), given, computed);
  view.stage.after(sum);
  view.readout.remove();
  view.readout = sum;

  /** One table: inputs for Q, K and V, buttons for what is computed. */
  function table(name, title, note, rows, values, columns = null) {
    const editable = ["query", "key", "value"].includes(name);
    const body = values.map((row, r) => h("tr", {}, h("th", { scope: "row", title: rows[r] }, rows[r]),
      ...row.map((value, c) => h("td", {}, editable ? input(name, r, c, value) : button(name, title, r, c)))));
    const head = h("tr", {}, h("td"), ...values[0].map((_, c) =>
      h("th", { scope: "col", title: columns?.[c] ?? "" }, columns?.[c] ?? String(c))));
    return h("table", { "data-stage": name }, h("caption", {}, `${title}  `, h("span", {}, note)),
      h("thead", {}, head), h("tbody", {}, ...body));
  }

  function input(name, r, c, value) {
    const box = h("input", { type: "number", step: "any", value, title: value, required: true,
      "aria-label": `${name} ${r}, number ${c}`, input: () => {
        if (!Number.isFinite(box.valueAsNumber)) return;
        bench[name][r][c] = box.valueAsNumber;
        box.title = box.value;
        change({});
      } });
    inputs.set(`${name} ${r} ${c}`, box);
    return box;
  }

  function button(name, title, r, c) {
    const box = h("button", { type: "button", tabindex: -1, click: () => choose(name, r, c),
      keydown: (event) => walk(event, name, r, c) });
    cells.set(`${name} ${r} ${c}`, box);
    return box;
  }

  /** Arrow keys walk over the cells of a table, and from its edge into the next stage. */
  function walk(event, name, r, c) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      Home: [0, -c], End: [0, result[name][0].length - 1 - c] }[event.key];
    if (!move) return;
    event.preventDefault();
    let [to, row, column] = [STAGES.findIndex(([n]) => n === name), r + move[0], c + move[1]];
    if (column < 0 && to > 0) column = result[STAGES[--to][0]][0].length - 1;
    else if (column >= result[name][0].length && to < stage) [to, column] = [to + 1, 0];
    const box = cells.get(`${STAGES[to][0]} ${row} ${column}`);
    if (!box) return;
    choose(STAGES[to][0], row, column);
    box.focus();
  }

  function choose(name, row, column) {
    chosen = { stage: name, row, column };
    show();
  }

  function goTo(next) {
    stage = Math.max(0, Math.min(STAGES.length - 1, next));
    const name = STAGES[stage][0];
    choose(name, Math.min(chosen.row, queries.length - 1), Math.min(chosen.column, result[name][0].length - 1));
  }

  function change(changes) {
    Object.assign(bench, changes);
    result = attend(bench);
    show();
  }

  /** Writes every number, colours it, and marks what the chosen cell was made of. */
  function show() {
    const { theme } = view;
    const span = (tables) => Math.max(1e-12, ...tables.flat(2).filter(Number.isFinite).map(Math.abs));
    const scores = span([result.scores, result.scaled]);
    const colours = {
      scores: colouring(theme.signed, -scores, scores), scaled: colouring(theme.signed, -scores, scores),
      masked: colouring(theme.signed, -scores, scores), weights: colouring(theme.scale, 0, 1),
      output: colouring(theme.signed, -span([bench.value]), span([bench.value])),
    };
    for (const [name, box] of cells) {
      const [part, r, c] = name.split(" ");
      const value = result[part][r][c];
      const rgb = Number.isFinite(value) ? colours[part](value) : null;
      box.textContent = cell(value);
      box.style.background = rgb ? css(rgb) : "transparent";
      box.style.color = rgb ? inkOn(rgb) : theme.muted;
      const here = part === chosen.stage && Number(r) === chosen.row && Number(c) === chosen.column;
      box.setAttribute("aria-current", here);
      box.setAttribute("aria-label", `${part}, query ${queries[r]}, ${part === "output" ? `number ${c}` : `key ${keys[c]}`}: ${cell(value)}`);
      box.tabIndex = here ? 0 : -1;
    }
    STAGES.forEach(([name], i) => {
      computed.querySelector(`[data-stage=${name}]`).classList.toggle("later", i > stage);
    });
    const { text, parts } = explain(chosen, bench, result, data.queries, data.keys);
    for (const [name, box] of [...inputs, ...cells]) box.classList.toggle("linked", parts.has(name));
    sum.textContent = text;
    told.textContent = `${STAGES[stage][1].trim()} (${stage + 1} of 5)`;
    back.disabled = stage === 0;
    forth.disabled = stage === STAGES.length - 1;
  }
  const redraw = view.redraw.bind(view);
  view.redraw = () => {
    redraw();
    show();
  };
  show();
  paintedTables(view, bench, () => result, queries, keys);
  view.numbers = () => [["query", bench.query], ["key", bench.key], ["value", bench.value],
    ...STAGES.map(([name]) => [name, result[name]])]
    .map(([name, rows]) => tabbed([[name], ...rows.map((row) => row.map((x) => (x === -Infinity ? "-inf" : plain(x))))])).join("\n\n");
  return view;
}

/** The same tables for the exported picture: the page's own are made of inputs and buttons. */
function paintedTables(view, bench, result, queries, keys) {
  const tables = () => [["Q", bench.query, queries], ["K", bench.key, keys], ["V", bench.value, keys],
    ...STAGES.map(([name, title]) => [title, result()[name], queries])];
  const place = (index) => [(index % 3) * 420, Math.floor(index / 3) * (Math.max(queries.length, keys.length) * 26 + 48)];
  const surface = {
    painted: true, redraw: () => {},
    get layout() {
      return { width: 1260, height: place(8)[1] + queries.length * 26 + 48 };
    },
    paint(pen) {
      tables().forEach(([title, rows, labels], index) => {
        const [x, y] = place(index);
        pen.text(x, y + 8, title, { fill: view.theme.text, bold: true });
        rows.forEach((row, r) => {
          pen.text(x + 60, y + 34 + r * 26, labels[r].slice(0, 9), { fill: view.theme.muted, size: 11, align: "right" });
          row.forEach((value, c) => {
            const left = x + 66 + c * 43;
            const weight = title.includes("Softmax");
            const rgb = colouring(weight ? view.theme.scale : view.theme.signed, weight ? 0 : -3, weight ? 1 : 3)(value);
            if (Number.isFinite(value)) pen.rect(left, y + 22 + r * 26, 41, 24, { fill: css(rgb), round: 3 });
            const fill = Number.isFinite(value) ? inkOn(rgb) : view.theme.muted;
            pen.text(left + 37, y + 34 + r * 26, cell(value), { fill, size: 11, align: "right" });
          });
        });
      });
    },
  };
  view.surfaces.push(surface);
}

export default { render: liveWith(mount) };
