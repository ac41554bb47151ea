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

const minus = (value) => String(value).replace("-", "−");
const NAMES = { gaussian: "Gaussian", boxcar: "boxcar", triangular: "triangular", epanechnikov: "Epanechnikov" };
const LEFT = 46; // left of it stand the numbers of the axis
const RIGHT = 14;
const TOP = 26;
const BUMP = 72; // height of the kernel, which is drawn under the curve

/** Round numbers between low and high, at most about `most` of them. @returns {number[]} */
export function ticks(low, high, most) {
  const least = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].find((times) => times * power >= least * 0.999) * power;
  const [first, last] = [Math.ceil(low / step - 1e-9), Math.floor(high / step + 1e-9)];
  return Array.from({ length: last - first + 1 }, (_, i) => plain((first + i) * step));
}

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
  const x = (value, { width }) => LEFT + ((value - left) / (right - left || 1)) * (width - LEFT - RIGHT);
  const base = ({ height }) => height - 40; // the kernel stands on it
  const y = (value, at) => {
    const bottom = base(at) - BUMP - 34;
    return bottom - ((value - low) / (high - low || 1)) * (bottom - TOP - 10);
  };

  const plot = view.surface({
    label: `${keys.length} training points and the curve. Left and right move the query.`,
    caption: "The larger a point, the more it counts for the query (dashed line)",
    layout: (width) => ({ width: width > 720 ? Math.floor(width * 0.57) : width, height: 390 }),
    paint(pen, at) {
      const { theme } = view;
      const small = (px, py, text, align = "left") => pen.text(px, py, text, { fill: theme.muted, size: 11, align });
      const row = result.weights[now.query];
      const top = row[largest(row)];
      const colour = colouring(theme.scale, 0, top || 1);
      const [here, ground, end] = [x(queries[now.query], at), base(at), at.width - RIGHT];

      small(4, 10, data.ylabel);
      for (const value of ticks(low, high, 4)) {
        pen.path([[LEFT, y(value, at)], [end, y(value, at)]], { stroke: theme.line });
        small(LEFT - 6, y(value, at), minus(value), "right");
      }
      pen.path([[at.width - 196, 10], [at.width - 172, 10]], { stroke: theme.accent, line: 2.5 });
      small(at.width - 166, 10, "estimate");
      if (truth) {
        pen.path([[at.width - 100, 10], [at.width - 76, 10]], { stroke: theme.muted, line: 1.5, dash: [6, 4] });
        small(at.width - 70, 10, "true curve");
      }

      // The kernel around the query, and how high it is at each point: the weights before they are divided by their sum.
      const height = (at) => Math.exp(SCORES[now.kernel]((at - queries[now.query]) / now.width)) * BUMP;
      const bump = Array.from({ length: end - LEFT + 1 }, (_, i) => [LEFT + i, ground - height(left + (i / (end - LEFT)) * (right - left))]);
      pen.path(bump, { stroke: theme.gold, line: 1.5 });
      keys.forEach((key) => {
        const tall = height(key);
        if (tall >= 0.5) pen.rect(x(key, at) - 1.5, ground - tall, 3, tall, { fill: theme.gold });
      });
      small(LEFT - 6, ground - BUMP, "1", "right");
      small(LEFT - 6, ground, "0", "right");
      small(LEFT, ground - BUMP - 20, `${NAMES[now.kernel]} kernel around the query`);
      // A rule as long as the width, on the side that has more room.
      const side = here < (LEFT + end) / 2 ? 1 : -1;
      const reach = Math.max(LEFT, Math.min(end, here + side * now.width * (end - LEFT) / (right - left || 1)));
      const rule = ground - BUMP - 4;
      pen.path([[here, rule], [reach, rule]], { stroke: theme.text, line: 2 });
      pen.path([[reach, rule - 4], [reach, rule + 4]], { stroke: theme.text, line: 2 });
      const inside = Math.abs(end - reach) < 44 || Math.abs(reach - LEFT) < 44;
      small(reach + (inside ? -side : side) * 6, rule + (inside ? 10 : 0), "width", (side > 0) === inside ? "right" : "left");

      pen.path([[LEFT, ground], [end, ground]], { stroke: theme.edge });
      for (const value of ticks(left, right, at.width > 420 ? 8 : 5)) {
        pen.path([[x(value, at), ground], [x(value, at), ground + 4]], { stroke: theme.edge });
        small(x(value, at), ground + 13, minus(value), "center");
      }
      small((LEFT + end) / 2, ground + 30, data.xlabel, "center");

      if (truth) pen.path(queries.map((q, i) => [x(q, at), y(truth[i], at)]), { stroke: theme.muted, line: 1.5, dash: [6, 4] });
      for (const run of stretches()) {
        const points = run.map((q) => [x(queries[q], at), y(result.estimates[q], at)]);
        if (points.length === 1) points.push([points[0][0] + 3, points[0][1]]);
        pen.path(points, { stroke: theme.accent, line: 2.5 });
      }
      for (const [from, to] of [[TOP - 6, y(low, at) + 4], [rule, ground]]) {
        pen.path([[here, from], [here, to]], { stroke: theme.text, dash: [3, 3] });
      }
      keys.forEach((key, k) => {
        const size = 3 + 5 * Math.sqrt(row[k] / (top || 1));
        const fill = css(colour(row[k]));
        pen.rect(x(key, at) - size, y(values[k], at) - size, 2 * size, 2 * size, { fill, stroke: theme.edge, round: size });
      });
      if (answered(now.query)) {
        pen.rect(here - 6, y(result.estimates[now.query], at) - 6, 12, 12, { fill: theme.accent, stroke: theme.surface, line: 2, round: 3 });
      }
    },
    point(px) {
      const wanted = left + ((px - LEFT) / (plot.layout.width - LEFT - RIGHT)) * (right - left);
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
    label: `The weights as an attention map: ${queries.length} queries down, ${keys.length} keys across. Arrow keys move between cells.`,
    caption: "The weights: queries down, keys across", rows: labels(queries), columns: labels(keys), ...shades(),
    digits: false, size: Math.max(2, Math.floor(300 / queries.length)), width: Math.max(300, view.width * 0.38),
    row: now.query, column: largest(result.weights[now.query]), moved: (q, k) => {
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
    if (map.state.row !== query) map.move(query, largest(result.weights[query]), false);
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
  view.say("Drag the query over the points, or press Tab and use the arrow keys. The slider sets the kernel's width.");
  view.numbers = () => tabbed([["query", "estimate", ...keys.map((key) => `weight of ${plain(key)}`)],
    ...queries.map((query, q) => [plain(query), plain(result.estimates[q]), ...result.weights[q].map(plain)])]);
  return view;
}

export default { render: liveWith(mount) };
