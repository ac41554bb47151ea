/** patch_view: an image in patches, and what the class token or a patch looks at. */
import { step } from "./heat.js";
import { plain, short } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { colouring, css } from "./theme.js";
import { h, tabbed, View } from "./view.js";

/**
 * @typedef {object} PatchData
 * @property {string} title
 * @property {string} image       the picture as PNG, base64
 * @property {[number, number]} size  its rows and columns of pixels
 * @property {[number, number]} grid  its rows and columns of patches
 * @property {boolean} classToken whether token 0 is the class token
 * @property {import("./payload.js").Packed} weights  (layer, head, token, token)
 * @property {import("./payload.js").Packed} rollout  (1, token, token)
 * @property {string} [gold]      the mask as PNG, base64: white inside
 */

/** @param {string} png base64 @returns {Promise<HTMLImageElement>} */
async function picture(png) {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  return image;
}

/** @param {HTMLElement} element @param {PatchData} data */
export async function mount(element, data) {
  const [rows, columns] = data.grid;
  const first = data.classToken ? 1 : 0;
  const weights = new Matrices(data.weights);
  const rollout = await new Matrices(data.rollout).at(0);
  const [layers, heads, tokens] = weights.shape;
  const view = new View(element, { title: data.title, note: weights.precision });
  const image = await picture(data.image);
  const gold = data.gold && (await picture(data.gold));
  const at = { layer: layers - 1, head: 0 };
  let query = 0;
  let place = [0, 0];

  const name = (token) => {
    if (token < first) return "the class token";
    const patch = token - first;
    return `patch ${Math.floor(patch / columns)}, ${patch % columns}`;
  };
  const row = (matrix) => matrix.subarray(query * tokens, (query + 1) * tokens);
  async function read({ layer, head }) {
    if (head < heads) return weights.at(layer * heads + head);
    const all = await Promise.all(Array.from({ length: heads }, (_, each) => weights.at(layer * heads + each)));
    return all[0].map((_, i) => all.reduce((sum, matrix) => sum + matrix[i], 0) / heads);
  }
  let values = await read(at);

  const counted = (count) => Array.from({ length: count }, (_, i) => String(i));
  const choose = (changes) => view.latest(read(Object.assign(at, changes)), (found) => {
    values = found;
    view.redraw();
    tell();
  });
  if (layers > 1) view.select("Layer", counted(layers), (layer) => choose({ layer }), at.layer);
  if (heads > 1) view.select("Head", [...counted(heads), "mean"], (head) => choose({ head }), 0);
  if (first) view.button("Ask the class token", () => ask(0));

  const panels = [];
  const across = () => Math.max(150, Math.min(230, (view.width - 110) / (gold ? 4 : 3)));
  const layout = () => {
    const cell = Math.max(3, Math.floor(across() / columns));
    return { cell, width: cell * columns + 4, height: cell * rows + 4 };
  };
  function frame(pen, { cell }, [r, c], style) {
    pen.rect(2 + c * cell + 1, 2 + r * cell + 1, cell - 2, cell - 2, { stroke: view.theme.halo, line: 4 });
    pen.rect(2 + c * cell + 1, 2 + r * cell + 1, cell - 2, cell - 2, { stroke: view.theme.text, line: 2, ...style });
  }
  const patchPlace = (token) => [Math.floor((token - first) / columns), (token - first) % columns];

  /** A panel over the patches, with one cursor for all of them. */
  function panel(caption, label, paint) {
    const surface = view.surface({
      caption, label: `${label}, ${rows} by ${columns} patches. Arrow keys move over the patches, Enter asks from the one under the cursor${first ? ", C asks from the class token" : ""}.`,
      layout,
      paint(pen, where) {
        paint(pen, where);
        frame(pen, where, place, { dash: [3, 2] });
      },
      point(x, y, pressed) {
        const { cell } = surface.layout;
        const [r, c] = [Math.floor((y - 2) / cell), Math.floor((x - 2) / cell)];
        if (r < 0 || c < 0 || r >= rows || c >= columns) return;
        if (r !== place[0] || c !== place[1]) move(r, c);
        if (pressed) ask(first + r * columns + c);
      },
      key(event) {
        const to = step(event, ...place, rows, columns);
        if (to) move(...to);
        else if (event.key === "Enter" || event.key === " ") ask(first + place[0] * columns + place[1]);
        else if (first && event.key.toLowerCase() === "c" && !event.ctrlKey && !event.metaKey) ask(0);
        else return false;
        return true;
      },
      enter: tell,
    });
    panels.push(surface);
  }
  function bitmap(source, where) {
    const canvas = h("canvas", { width: where.cell * columns, height: where.cell * rows });
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = data.size[1] > canvas.width;
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    return canvas;
  }
  function shades(pen, where, matrix) {
    const seen = row(matrix).subarray(first);
    const colour = colouring(view.theme.scale, 0, seen.reduce((a, b) => Math.max(a, b), 0));
    seen.forEach((value, patch) => pen.rect(2 + (patch % columns) * where.cell, 2 + Math.floor(patch / columns) * where.cell,
      where.cell + 0.5, where.cell + 0.5, { fill: css(colour(value)) }));
  }
  panel("The image and the query", "The image", (pen, where) => {
    pen.image(bitmap(image, where), 2, 2, where.cell * columns, where.cell * rows);
    for (let c = 1; c < columns; c++) pen.path([[2 + c * where.cell, 2], [2 + c * where.cell, 2 + rows * where.cell]], { stroke: "#ffffff", alpha: 0.45 });
    for (let r = 1; r < rows; r++) pen.path([[2, 2 + r * where.cell], [2 + columns * where.cell, 2 + r * where.cell]], { stroke: "#ffffff", alpha: 0.45 });
    if (query >= first) frame(pen, where, patchPlace(query), { stroke: view.theme.gold, line: 3 });
  });
  panel("Attention of this head", "Raw attention", (pen, where) => shades(pen, where, values));
  panel("Rollout over all layers", "Rollout", (pen, where) => shades(pen, where, rollout));
  if (gold) {
    panel("Gold mask", "The gold mask", (pen, where) => pen.image(bitmap(gold, where), 2, 2, where.cell * columns, where.cell * rows));
  }

  function tell() {
    const key = first + place[0] * columns + place[1];
    const [raw, rolled] = [row(values)[key], row(rollout)[key]];
    view.say(`${name(query)} attends to ${name(key)}: ${short(raw)}, rollout ${short(rolled)} (an even share is ${short(1 / tokens)})`);
  }
  function move(r, c) {
    place = [r, c];
    view.redraw();
    tell();
  }
  function ask(token) {
    query = token;
    view.redraw();
    const seen = row(values).subarray(first);
    const best = seen.reduce((top, value, i, all) => (value > all[top] ? i : top), 0) + first;
    view.say(`${name(query)} asks: it attends most to ${name(best)}: ${short(row(values)[best])}`);
  }
  ask(0);
  view.numbers = () => ["attention", "rollout"].map((title, i) => {
    const seen = row([values, rollout][i]).subarray(first);
    return tabbed([[title, name(query)], ...Array.from({ length: rows }, (_, r) =>
      Array.from(seen.subarray(r * columns, (r + 1) * columns), plain))]);
  }).join("\n\n");
  return view;
}

export default { render: liveWith(mount) };
