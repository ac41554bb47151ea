/** A heat map with token labels, a cursor, and outlines: the picture most views are made of. */
import { cell as cellText, fit, short, visible } from "./labels.js";
import { measure } from "./pen.js";
import { colouring, css, inkOn } from "./theme.js";

const TURN = -Math.PI / 4;
const LABEL = 13;

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/**
 * Where everything goes. Cells are square where both axes have room for it; labels are thinned out before
 * they can touch each other.
 *
 * @param {{rows: string[], columns: string[], width: number, legend?: boolean, size?: number,
 *   widthOf?: (text: string, size: number, bold: boolean) => number}} asked
 */
export function heatLayout({ rows, columns, width, legend = true, size = 38, widthOf = measure }) {
  const room = clamp(width * 0.3, 60, 150);
  const widest = (labels) => Math.max(8, ...labels.map((l) => Math.min(room, widthOf(l, LABEL, true))));
  const left = Math.ceil(widest(rows)) + 10;
  const longest = widest(columns);
  const wide = (width - left - 4) / columns.length;
  const tilted = longest + 6 > Math.min(wide, size);
  const right = tilted ? Math.ceil(longest * 0.72) : 4;
  const top = tilted ? Math.ceil(longest * 0.72) + 18 : 24;
  const across = clamp((width - left - right) / columns.length, 1, size);
  const down = clamp(640 / rows.length, 1, size);
  const side = Math.min(across, down);
  const whole = (value) => (value >= 4 ? Math.floor(value) : value);
  const cellWidth = whole(Math.min(across, Math.max(side, 18)));
  const cellHeight = whole(Math.min(down, Math.max(side, 18)));
  const bottom = top + cellHeight * rows.length;
  return {
    left, top, bottom, room, tilted, cellWidth, cellHeight,
    right: left + cellWidth * columns.length,
    rowStep: Math.ceil((LABEL + 2) / cellHeight),
    columnStep: Math.ceil((tilted ? (LABEL + 2) / Math.sin(-TURN) : 1) / cellWidth),
    width: Math.ceil(left + cellWidth * columns.length + Math.max(right, legend ? 150 - cellWidth * columns.length : 0)),
    height: Math.ceil(bottom + (legend ? 34 : 4)),
  };
}

/** The matrix as an image of one pixel a cell. */
function bitmap(values, rows, columns, colour) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const { data } = image;
  for (let i = 0; i < values.length; i++) {
    const rgb = colour(values[i]);
    for (let k = 0; k < 3; k++) data[4 * i + k] = rgb[k];
    data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * @typedef {object} Heat
 * @property {string[]} rows
 * @property {string[]} columns
 * @property {Float32Array|number[]} values
 * @property {[number, number]} range     the values of the first and last colour
 * @property {boolean} [signed]
 * @property {(row: number, column: number) => boolean} [hatched]   cells struck out
 * @property {Set<number>} [gold]         cells outlined, as row * columns + column
 * @property {number} [row]               the row of the cursor
 * @property {number} [column]
 * @property {boolean} [digits]           write numbers into cells that have room
 * @property {number} [size]              the largest cell
 */

/**
 * Adds a heat map to a view.
 * @param {import("./view.js").View} view
 * @param {Heat & {label: string, caption?: string, moved: (row: number, column: number) => void,
 *   chosen?: (row: number, column: number) => void}} heat
 * @returns the heat map: `set(changes)` redraws it, `move(row, column)` moves its cursor
 */
export function addHeat(view, heat) {
  let drawn;
  const state = { row: 0, column: 0, digits: true, ...heat };

  function paint(pen, at) {
    const { rows, columns, values, range } = state;
    const { theme } = view;
    const stops = state.signed ? theme.signed : theme.scale;
    const colour = colouring(stops, ...range);
    const count = columns.length;
    const box = (row, column, high = 1) => [
      at.left + column * at.cellWidth, at.top + row * at.cellHeight, at.cellWidth, at.cellHeight * high,
    ];
    const shown = (index, step, current) => index === current || (index % step === 0 && Math.abs(index - current) >= step);

    rows.forEach((label, row) => {
      if (!shown(row, at.rowStep, state.row)) return;
      const here = row === state.row;
      const text = fit(label, at.room, (t) => measure(t, LABEL, here));
      const y = at.top + (row + 0.5) * at.cellHeight;
      pen.text(at.left - 8, y, text, { fill: here ? theme.text : theme.muted, align: "right", bold: here });
    });
    columns.forEach((label, column) => {
      if (!shown(column, at.columnStep, state.column)) return;
      const here = column === state.column;
      const text = fit(label, at.room, (t) => measure(t, LABEL, here));
      const x = at.left + (column + 0.5) * at.cellWidth;
      pen.text(x, at.top - 10, text, {
        fill: here ? theme.text : theme.muted, bold: here, align: at.tilted ? "left" : "center", turn: at.tilted ? TURN : 0,
      });
    });

    if (at.cellWidth < 8 || rows.length * count > 4096) {
      const key = [values, theme, ...range];
      if (!drawn || key.some((part, i) => part !== drawn.key[i])) {
        drawn = { key, canvas: bitmap(values, rows.length, count, colour) };
      }
      pen.image(drawn.canvas, at.left, at.top, at.cellWidth * count, at.cellHeight * rows.length);
    } else {
      const texts = Array.from(values, cellText);
      const longest = texts.reduce((a, b) => (b.length > a.length ? b : a));
      const write = state.digits && at.cellHeight >= 16 && measure(longest, 11) + 4 <= at.cellWidth;
      for (let i = 0; i < values.length; i++) {
        const rgb = colour(values[i]);
        const [x, y, w, hgt] = box(Math.floor(i / count), i % count);
        pen.rect(x + 0.5, y + 0.5, w - 1, hgt - 1, { fill: css(rgb) });
        if (write) pen.text(x + w / 2, y + hgt / 2, texts[i], { fill: inkOn(rgb), size: 11, align: "center" });
      }
    }
    if (state.hatched && at.cellWidth >= 3) {
      for (let i = 0; i < values.length; i++) {
        const [row, column] = [Math.floor(i / count), i % count];
        if (!state.hatched(row, column)) continue;
        const [x, y, w, hgt] = box(row, column);
        pen.path([[x + w * 0.2, y + hgt * 0.8], [x + w * 0.8, y + hgt * 0.2]], { stroke: theme.hatch, line: 1 });
      }
    }
    for (const cell of state.gold ?? []) {
      const [x, y, w, hgt] = box(Math.floor(cell / count), cell % count);
      const inset = Math.min(2, w / 4);
      const shape = [x + inset, y + inset, w - 2 * inset, hgt - 2 * inset];
      if (w > 8) pen.rect(...shape, { stroke: theme.halo, line: 4, round: 2 });
      pen.rect(...shape, { stroke: theme.gold, line: w > 8 ? 2 : 1, round: 2 });
    }
    // Row and column of the cursor are framed, its cell ringed twice so that it shows on every colour.
    if (state.row >= 0) {
      const band = { stroke: theme.edge, line: 1 };
      pen.rect(at.left - 0.5, at.top + state.row * at.cellHeight, at.cellWidth * count + 1, at.cellHeight, band);
      pen.rect(at.left + state.column * at.cellWidth, at.top - 0.5, at.cellWidth, at.bottom - at.top + 1, band);
      const [x, y, w, hgt] = box(state.row, state.column);
      pen.rect(x - 1, y - 1, w + 2, hgt + 2, { stroke: theme.halo, line: 4, round: 2 });
      pen.rect(x - 1, y - 1, w + 2, hgt + 2, { stroke: theme.text, line: 2, round: 2 });
    }
    if (state.legend !== false) paintLegend(pen, at, stops, range, theme);
  }

  const surface = view.surface({
    label: state.label,
    caption: state.caption,
    layout: (width) => heatLayout({
      rows: state.rows, columns: state.columns, legend: state.legend !== false, size: state.size,
      width: Math.min(width, state.width ?? Infinity),
    }),
    paint,
    point(x, y, pressed) {
      const at = surface.layout;
      const column = Math.floor((x - at.left) / at.cellWidth);
      const row = Math.floor((y - at.top) / at.cellHeight);
      if (row < 0 || column < 0 || row >= state.rows.length || column >= state.columns.length) return;
      if (pressed || row !== state.row || column !== state.column) move(row, column);
      if (pressed) state.chosen?.(row, column);
    },
    key(event) {
      const to = step(event, state.row, state.column, state.rows.length, state.columns.length);
      if (to) move(...to);
      else if (event.key === "Enter" || event.key === " ") (state.chosen ?? state.moved)(state.row, state.column);
      else return false;
      return true;
    },
    enter: () => state.moved(state.row, state.column),
  });

  function move(row, column, tell = true) {
    [state.row, state.column] = [row, column];
    surface.redraw();
    if (tell) state.moved(row, column);
  }

  return { state, surface, move, set(changes) {
    Object.assign(state, changes);
    surface.redraw();
  } };
}

/** The bar of colours under a map, with the values at its ends. */
export function paintLegend(pen, at, stops, [low, high], theme) {
  const y = at.bottom + 14;
  const colour = colouring(stops, 0, 59);
  const from = at.left + measure(short(low), 11) + 6;
  pen.text(at.left, y + 4, short(low), { fill: theme.muted, size: 11 });
  for (let i = 0; i < 60; i++) pen.rect(from + i, y, 1.5, 9, { fill: css(colour(i)) });
  pen.rect(from - 0.5, y - 0.5, 62, 10, { stroke: theme.line });
  pen.text(from + 68, y + 4, short(high), { fill: theme.muted, size: 11 });
}

/**
 * Where a key leads from a cell, or null.
 * @param {{key: string, ctrlKey?: boolean, metaKey?: boolean}} event
 * @returns {[number, number] | null}
 */
export function step({ key, ctrlKey, metaKey }, row, column, rows, columns) {
  const all = ctrlKey || metaKey;
  const to = {
    ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
    PageUp: [row - 10, column], PageDown: [row + 10, column],
    Home: [all ? 0 : row, 0], End: [all ? rows - 1 : row, columns - 1],
  }[key];
  return to ? [clamp(to[0], 0, rows - 1), clamp(to[1], 0, columns - 1)] : null;
}

/** Token labels as they are drawn. @param {string[]} tokens */
export const shownLabels = (tokens) => tokens.map(visible);
