/** positions_view: a positional code as a picture, and how alike positions are by their distance. */
import { addHeat } from "./heat.js";
import { plain, short } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { similarityByDistance, sinusoidal } from "./positions_math.js";
import { tabbed, View } from "./view.js";

/**
 * @typedef {object} PositionsData
 * @property {string} title
 * @property {import("./payload.js").Packed} [code] (position, dimension); without it sinusoids are computed here
 * @property {number} length @property {number} width @property {number} base
 */

/** @param {HTMLElement} element @param {PositionsData} data */
export async function mount(element, data) {
  const given = data.code && new Matrices(data.code);
  const now = { width: data.width, base: data.base };
  const view = new View(element, { title: data.title, note: given ? given.precision : "Computed in this page, in double precision." });
  let code;
  let alike;
  let place = 0;

  async function compute() {
    if (given) {
      const flat = await given.at(0);
      code = Array.from({ length: data.length }, (_, p) => flat.subarray(p * now.width, (p + 1) * now.width));
    } else code = sinusoidal(data.length, now.width, now.base);
    alike = similarityByDistance(code);
  }
  await compute();
  const numbered = (count) => Array.from({ length: count }, (_, i) => String(i));
  const flat = () => Float32Array.from(code.flatMap((row) => Array.from(row)));
  const peak = given ? flat().reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1 : 1;

  const map = addHeat(view, {
    label: `Positional code, ${data.length} positions down, dimensions across. Arrow keys move between cells.`,
    caption: "The code: positions down, dimensions across", rows: numbered(data.length), columns: numbered(now.width),
    values: flat(), range: [-peak, peak], signed: true, digits: false, size: 16, width: Math.max(280, view.width * 0.52),
    moved: (p, d) => view.say(`position ${p}, dimension ${d}: ${short(code[p][d])}`),
  });

  const chart = view.surface({
    label: "Similarity by distance. Left and right move over the distances.",
    caption: "How alike two positions are, by their distance (mean cosine)",
    layout: (width) => ({ width: Math.min(width, 330), height: 230 }),
    paint(pen, { width, height }) {
      const { theme } = view;
      const low = Math.min(0, ...alike);
      const x = (distance) => 38 + (distance / Math.max(1, alike.length - 1)) * (width - 50);
      const y = (value) => 12 + ((1 - value) / (1 - low || 1)) * (height - 50);
      for (const value of [1, 0.5, 0, ...(low < -0.25 ? [-0.5] : [])]) {
        pen.path([[38, y(value)], [width - 12, y(value)]], { stroke: theme.line });
        pen.text(32, y(value), short(value), { fill: theme.muted, size: 11, align: "right" });
      }
      pen.path(alike.length > 1 ? alike.map((value, d) => [x(d), y(value)]) : [[x(0), y(1)], [x(0) + 1, y(1)]], { stroke: theme.accent, line: 2 });
      pen.path([[x(place), 8], [x(place), height - 34]], { stroke: theme.edge, dash: [3, 3] });
      pen.rect(x(place) - 4, y(alike[place]) - 4, 8, 8, { fill: theme.accent, stroke: theme.surface, line: 2, round: 4 });
      for (const d of [0, Math.floor((alike.length - 1) / 2), alike.length - 1]) {
        pen.text(x(d), height - 24, String(d), { fill: theme.muted, size: 11, align: "center" });
      }
      pen.text(width / 2, height - 8, "distance", { fill: theme.muted, size: 11, align: "center" });
    },
    point(px) {
      const { width } = chart.layout;
      go(Math.round(((px - 38) / (width - 50)) * (alike.length - 1)));
    },
    key({ key }) {
      const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: alike.length - 1, Enter: place }[key];
      if (to === undefined) return false;
      go(to);
      return true;
    },
    enter: () => go(place),
  });

  function go(to) {
    place = Math.max(0, Math.min(alike.length - 1, to));
    chart.redraw();
    view.say(`positions ${place} apart: similarity ${short(alike[place])}`);
  }

  async function change(changes) {
    Object.assign(now, changes);
    await compute();
    map.set({ columns: numbered(now.width), values: flat(), column: Math.min(map.state.column, now.width - 1) });
    chart.redraw();
    view.say(`base ${short(now.base)}, width ${now.width}: similarity falls to ${short(alike[Math.min(1, alike.length - 1)])} at distance 1`);
  }
  if (!given) {
    view.slider("Base", { min: 0.5, max: 6, step: 0.05, value: Math.log10(now.base), show: (x) => String(Math.round(10 ** x)) },
      (x) => change({ base: Math.round(10 ** x) }));
    view.slider("Width", { min: 2, max: Math.max(64, data.width), step: 2, value: now.width }, (width) => change({ width }));
  }
  view.say(given ? "Point at the code or the curve." : "Point at the code or the curve; the sliders change base and width.");
  view.numbers = () => [tabbed(code.map((row) => Array.from(row, plain))),
    tabbed([["distance", "similarity"], ...alike.map((value, d) => [d, plain(value)])])].join("\n\n");
  return view;
}

export default { render: liveWith(mount) };
