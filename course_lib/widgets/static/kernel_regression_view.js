/** kernel_regression_view: a curve through points, and the weights that each query gives them. */
import { addHeat } from "./heat.js";
import { regress, SCORES } from "./kernel_math.js";
import { plain, short } from "./labels.js";
import { liveWith } from "./live.js";
import { colouring, css } from "./theme.js";
import { tabbed, View } from "./view.js";

/**
 * @typedef {object} RegressionData
 * @property {string} title
 * @property {number[]} keys     where the training points lie, ascending
 * @property {number[]} values   one for each key
 * @property {number[]} queries  where the curve is computed, ascending
 * @property {number[]} [truth]  the true value at each query
 * @property {keyof typeof SCORES} kernel
 * @property {number} width
 * @property {string} xlabel @property {string} ylabel
 */

const NAMES = { gaussian: "Gaussian", boxcar: "boxcar", triangular: "triangular", epanechnikov: "Epanechnikov" };
const BARS = 64; // height of the strip that shows the weights
const TOP = 26;

/** @param {HTMLElement} element @param {RegressionData} data */
export async function mount(element, data) {
  const { keys, values, queries, truth } = data;
  const view = new View(element, { title: data.title, note: "Computed in this page, in double precision." });
  const now = { kernel: data.kernel, width: data.width, query: Math.floor(queries.length / 2) };
  let result = regress(data, now.kernel, now.width);
  const answered = (q) => result.weights[q].some((weight) => weight > 0);
  const largest = (row) => row.reduce((best, weight, k) => (weight > row[best] ? k : best), 0);

  const [left, right] = [Math.min(keys[0], queries[0]), Math.max(keys.at(-1), queries.at(-1))];
  // Estimates are means of the values, so they need no more room.
  const [low, high] = [Math.min(...values, ...(truth ?? [])), Math.max(...values, ...(truth ?? []))];
  const bottom = ({ height }) => height - 36 - BARS;
  const x = (value, { width }) => 46 + ((value - left) / (right - left || 1)) * (width - 60);
  const y = (value, at) => bottom(at) - 10 - ((value - low) / (high - low || 1)) * (bottom(at) - TOP - 20);

  const plot = view.surface({
    label: `${keys.length} training points and the curve. Left and right move the query.`,
    caption: "Points are darker and larger the more the query (dashed) attends to them; bars are the weights",
    layout: (width) => ({ width: width > 640 ? Math.floor(width * 0.57) : width, height: 360 }),
    paint(pen, at) {
      const { theme } = view;
      const row = result.weights[now.query];
      const top = row[largest(row)];
      const colour = colouring(theme.scale, 0, top || 1);
      for (const value of [low, (low + high) / 2, high]) {
        pen.path([[46, y(value, at)], [at.width - 14, y(value, at)]], { stroke: theme.line });
        pen.text(40, y(value, at), short(value), { fill: theme.muted, size: 11, align: "right" });
      }
      if (truth) pen.path(queries.map((q, i) => [x(q, at), y(truth[i], at)]), { stroke: theme.muted, line: 1.5, dash: [6, 4] });
      for (const run of stretches()) {
        const points = run.map((q) => [x(queries[q], at), y(result.estimates[q], at)]);
        if (points.length === 1) points.push([points[0][0] + 3, points[0][1]]);
        pen.path(points, { stroke: theme.accent, line: 2.5 });
      }
      const here = x(queries[now.query], at);
      const base = at.height - 30;
      pen.path([[46, base], [at.width - 14, base]], { stroke: theme.edge });
      pen.path([[here, TOP - 6], [here, base]], { stroke: theme.text, dash: [3, 3] });
      keys.forEach((key, k) => {
        const size = 3 + 5 * Math.sqrt(row[k] / (top || 1));
        const fill = css(colour(row[k]));
        pen.rect(x(key, at) - size, y(values[k], at) - size, 2 * size, 2 * size, { fill, stroke: theme.edge, round: size });
        const tall = (row[k] / (top || 1)) * (BARS - 14);
        if (tall >= 0.5) pen.rect(x(key, at) - 2, base - tall, 4, tall, { fill: theme.gold });
      });
      if (answered(now.query)) {
        pen.rect(here - 6, y(result.estimates[now.query], at) - 6, 12, 12, { fill: theme.accent, stroke: theme.surface, line: 2, round: 3 });
        pen.text(40, base - BARS + 14, short(top), { fill: theme.muted, size: 11, align: "right" });
      }
      pen.text(40, base, "0", { fill: theme.muted, size: 11, align: "right" });
      const ends = [[left, "left"], [right, "right"]];
      for (const [value, align] of ends) pen.text(x(value, at), base + 14, short(value), { fill: theme.muted, size: 11, align });
      pen.text(at.width / 2, base + 14, data.xlabel, { fill: theme.muted, size: 11, align: "center" });
      pen.text(4, 10, `${data.ylabel}:`, { fill: theme.muted, size: 11 });
      pen.path([[at.width - 196, 10], [at.width - 172, 10]], { stroke: theme.accent, line: 2.5 });
      pen.text(at.width - 166, 10, "estimate", { fill: theme.muted, size: 11 });
      if (truth) {
        pen.path([[at.width - 100, 10], [at.width - 76, 10]], { stroke: theme.muted, line: 1.5, dash: [6, 4] });
        pen.text(at.width - 70, 10, "true curve", { fill: theme.muted, size: 11 });
      }
    },
    point(px) {
      const wanted = left + ((px - 46) / (plot.layout.width - 60)) * (right - left);
      const off = queries.map((q) => Math.abs(q - wanted));
      ask(off.indexOf(Math.min(...off)));
    },
    key({ key }) {
      const to = { ArrowLeft: now.query - 1, ArrowRight: now.query + 1, PageUp: now.query - 10, PageDown: now.query + 10,
        Home: 0, End: queries.length - 1, Enter: now.query }[key];
      if (to === undefined) return false;
      ask(Math.max(0, Math.min(queries.length - 1, to)));
      return true;
    },
    enter: () => ask(now.query),
  });
  // A finger drags the query sideways, and still scrolls the page up and down.
  plot.canvas.style.touchAction = "pan-y";

  const labels = (numbers) => numbers.map((value) => short(value));
  const map = addHeat(view, {
    label: `The same as an attention map: ${queries.length} queries down, ${keys.length} keys across. Arrow keys move between cells.`,
    caption: "The same as a map: queries down, keys across", rows: labels(queries), columns: labels(keys), ...shades(),
    digits: false, size: Math.max(2, Math.floor(280 / queries.length)), width: Math.max(240, view.width * 0.38),
    row: now.query, moved: (q, k) => {
      ask(q, false);
      view.say(`query ${short(queries[q])} attends to key ${short(keys[k])}: ${short(result.weights[q][k])}`);
    },
  });

  function shades() {
    const flat = Float32Array.from(result.weights.flat());
    return { values: flat, range: [0, flat.reduce((a, b) => Math.max(a, b), 0) || 1] };
  }

  /** The queries that have an estimate, in runs without a gap. */
  function stretches() {
    const runs = [];
    queries.forEach((_, q) => {
      if (!answered(q)) return;
      if (q > 0 && answered(q - 1)) runs.at(-1).push(q);
      else runs.push([q]);
    });
    return runs;
  }

  function ask(query, tell = true) {
    now.query = query;
    plot.redraw();
    if (map.state.row !== query) map.move(query, map.state.column, false);
    if (!tell) return;
    const row = result.weights[query];
    const best = largest(row);
    view.say(answered(query)
      ? `query ${short(queries[query])}: estimate ${short(result.estimates[query])}${truth ? `, true ${short(truth[query])}` : ""}; ` +
        `most weight, ${short(row[best])}, on key ${short(keys[best])}; ${row.filter((w) => w > 0.01).length} of ${keys.length} weights are above 0.01`
      : `query ${short(queries[query])}: no point in the window, so every weight is zero`);
  }

  function change(changes) {
    Object.assign(now, changes);
    result = regress(data, now.kernel, now.width);
    plot.redraw();
    map.set(shades());
    const rows = queries.map((_, q) => q).filter(answered);
    const square = truth && rows.reduce((sum, q) => sum + (result.estimates[q] - truth[q]) ** 2, 0) / rows.length;
    const without = queries.length - rows.length;
    view.say(`${NAMES[now.kernel]} kernel, width ${short(now.width)}` + (truth && rows.length ? `: error ${short(Math.sqrt(square))}` : "") +
      (without ? `; queries without a point in their window: ${without} of ${queries.length}` : ""));
  }

  const kernels = Object.keys(SCORES);
  view.select("Kernel", kernels.map((name) => NAMES[name]), (at) => change({ kernel: kernels[at] }), kernels.indexOf(now.kernel));
  // The slider runs over powers of ten, from next to nothing to far wider than the data.
  const log = Math.log10(right - left || 1);
  const [least, most] = [Math.min(log - 2.6, Math.log10(now.width)), Math.max(log + 0.6, Math.log10(now.width))];
  view.slider("Width", { min: Math.floor(least * 20) / 20, max: Math.ceil(most * 20) / 20, step: 0.05, value: Math.log10(now.width),
    show: (power) => short(10 ** power) }, (power) => change({ width: 10 ** power }));
  view.say("Drag the query over the points, or press Tab and use the arrow keys. The slider changes the kernel's width.");
  view.numbers = () => tabbed([["query", "estimate", ...keys.map((key) => `weight of ${plain(key)}`)],
    ...queries.map((query, q) => [plain(query), plain(result.estimates[q]), ...result.weights[q].map(plain)])]);
  return view;
}

export default { render: liveWith(mount) };
