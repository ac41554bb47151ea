/** model_view: every layer and head as a small picture; one of them opens as a map. */
import { mount as mountMap } from "./attention_map.js";
import { step } from "./heat.js";
import { plain } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { ramp } from "./theme.js";
import { h, tabbed, View } from "./view.js";

/**
 * @typedef {import("./attention_map.js").MapData & {
 *   thumbnails: import("./payload.js").Packed, focus: number[][]}} ModelData
 *   thumbnails: (layer, head, rows, columns), the largest weight of each block;
 *   focus: for each layer and head, the mean of each query's largest weight
 */

/** @param {HTMLElement} element @param {ModelData} data */
export async function mount(element, data) {
  const [layers, heads, rows, columns] = data.thumbnails.shape;
  const view = new View(element, { title: data.title, note: "Small pictures show the largest weight of each block." });
  const small = new Matrices({ ...data.thumbnails, shape: [layers * heads, rows * columns] });
  const all = await small.at(0);
  let at = { layer: data.layer ?? 0, head: data.head ?? 0 };
  let sheet = null;

  /** All thumbnails as one image, a pixel a block. */
  function painted() {
    if (sheet?.theme === view.theme) return sheet.canvas;
    const canvas = h("canvas", { width: heads * columns, height: layers * rows });
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const colours = ramp(view.theme.scale);
    all.forEach((value, i) => {
      const [map, cell] = [Math.floor(i / (rows * columns)), i % (rows * columns)];
      const y = Math.floor(map / heads) * rows + Math.floor(cell / columns);
      const x = (map % heads) * columns + (cell % columns);
      const rgb = colours[Math.min(255, Math.round((value / data.top) * 255))];
      const at = (y * canvas.width + x) * 4;
      for (let k = 0; k < 3; k++) image.data[at + k] = rgb[k];
      image.data[at + 3] = 255;
    });
    context.putImageData(image, 0, 0);
    sheet = { theme: view.theme, canvas };
    return canvas;
  }

  function layout(width) {
    const size = Math.max(14, Math.min(96, Math.floor((width - 44) / heads) - 6));
    return { size, pitch: size + 6, width: 44 + heads * (size + 6), height: 26 + layers * (size + 6) };
  }

  function paint(pen, { size, pitch }) {
    const { theme } = view;
    const canvas = painted();
    pen.text(40, 10, "head", { fill: theme.muted, size: 12, align: "right" });
    for (let head = 0; head < heads; head++) {
      pen.text(44 + head * pitch + size / 2, 10, String(head), { fill: head === at.head ? theme.text : theme.muted, size: 12, align: "center", bold: head === at.head });
    }
    for (let layer = 0; layer < layers; layer++) {
      const y = 22 + layer * pitch;
      pen.text(36, y + size / 2, String(layer), { fill: layer === at.layer ? theme.text : theme.muted, size: 12, align: "right", bold: layer === at.layer });
      for (let head = 0; head < heads; head++) {
        const x = 44 + head * pitch;
        const part = h("canvas", { width: columns, height: rows });
        part.getContext("2d").drawImage(canvas, -head * columns, -layer * rows);
        pen.image(part, x, y, size, size);
        pen.rect(x - 0.5, y - 0.5, size + 1, size + 1, { stroke: theme.line });
      }
    }
    const [x, y] = [44 + at.head * pitch, 22 + at.layer * pitch];
    pen.rect(x - 2, y - 2, size + 4, size + 4, { stroke: theme.text, line: 2.5, round: 3 });
  }

  function move(layer, head) {
    at = { layer, head };
    surface.redraw();
    view.say(`layer ${layer}, head ${head}: a query's largest weight is ${data.focus[layer][head].toFixed(2)} on average. Enter opens the map.`);
  }

  const surface = view.surface({
    label: `${layers} layers down, ${heads} heads across. Arrow keys move between heads, Enter opens the map of one.`,
    caption: "Layers down, heads across; each picture has queries down and keys across",
    layout, paint,
    point(x, y, pressed) {
      const { pitch } = surface.layout;
      const [layer, head] = [Math.floor((y - 20) / pitch), Math.floor((x - 42) / pitch)];
      if (layer < 0 || head < 0 || layer >= layers || head >= heads) return;
      if (layer !== at.layer || head !== at.head) move(layer, head);
      if (pressed) open();
    },
    key(event) {
      const to = step(event, at.layer, at.head, layers, heads);
      if (to) move(...to);
      else if (event.key === "Enter" || event.key === " ") open();
      else return false;
      return true;
    },
    enter: () => move(at.layer, at.head),
  });

  const place = h("div", { class: "opened" });
  view.readout.after(place);
  let opened = null;
  let turn = 0;
  async function open() {
    const mine = ++turn;
    const { layer, head } = at;
    const host = h("div");
    place.replaceChildren(host);
    opened?.destroy();
    opened = null;
    const next = await mountMap(host, { ...data, ...at, title: "The map opened" });
    if (mine !== turn) return next.destroy();
    opened = next;
    view.say(`layer ${layer}, head ${head} opened below`);
  }
  const destroy = view.destroy;
  view.destroy = () => {
    opened?.destroy();
    destroy();
  };
  view.say("Point at a picture, or use the arrow keys; click or press Enter to open its map.");
  view.numbers = () => tabbed([["layer", "head", "mean largest weight"],
    ...data.focus.flatMap((row, layer) => row.map((value, head) => [layer, head, plain(value)]))]);
  return view;
}

export default { render: liveWith(mount) };
