/** Tokens in a row that wraps like text, each in a box that can be shaded, outlined and pointed at. */
import { cell, fit, visible } from "./labels.js";
import { measure } from "./pen.js";
import { colouring, css, inkOn } from "./theme.js";

const SIZE = 15;
const WIDEST = 180;

/**
 * @typedef {{x: number, y: number, width: number, height: number, text: string}} Chip
 *
 * @param {string[]} tokens
 * @param {{width: number, under?: number, widthOf?: (text: string, size: number) => number}} asked
 *   `under`: room below each box for a number
 * @returns {{chips: Chip[], width: number, height: number}}
 */
export function chipLayout(tokens, { width, under = 0, widthOf = measure }) {
  const chips = [];
  let [x, y] = [2, 2];
  for (const token of tokens) {
    const text = fit(visible(token), Math.min(WIDEST, width - 24), (t) => widthOf(t, SIZE));
    const wide = Math.max(40, Math.ceil(widthOf(text, SIZE)) + 20);
    if (x > 2 && x + wide > width - 2) [x, y] = [2, y + 32 + under + 8];
    chips.push({ x, y, width: wide, height: 32, text });
    x += wide + 6;
  }
  return { chips, width, height: y + 32 + under + 4 };
}

/**
 * @param {any} pen @param {{chips: Chip[]}} at @param {import("./theme.js").Theme} theme
 * @param {object} how
 * @param {(index: number) => number|null} how.weight   shade, from 0 to `top`; null for none
 * @param {number} [how.top]
 * @param {(index: number) => boolean} [how.gold]
 * @param {(index: number) => boolean} [how.faint]
 * @param {number} [how.cursor]
 * @param {boolean} [how.digits] write the weight under each box
 */
export function paintChips(pen, at, theme, { weight, top = 1, gold, faint, cursor = -1, digits = false }) {
  const colour = colouring(theme.scale, 0, top);
  at.chips.forEach(({ x, y, width, height, text }, i) => {
    const value = weight(i);
    const rgb = value === null ? null : colour(value);
    const fill = rgb ? css(rgb) : theme.raised;
    pen.rect(x, y, width, height, { fill, stroke: theme.line, round: 7 });
    const ink = rgb ? inkOn(rgb) : faint?.(i) ? theme.muted : theme.text;
    if (gold?.(i)) {
      pen.rect(x + 2, y + 2, width - 4, height - 4, { stroke: theme.halo, line: 4, round: 6 });
      pen.rect(x + 2, y + 2, width - 4, height - 4, { stroke: theme.gold, line: 2, round: 6 });
    }
    if (i === cursor) pen.rect(x, y, width, height, { stroke: theme.text, line: 2.5, round: 7 });
    pen.text(x + width / 2, y + height / 2, text, { fill: ink, size: SIZE, align: "center", bold: i === cursor });
    if (digits && value !== null) {
      pen.text(x + width / 2, y + height + 10, cell(value), { fill: theme.muted, size: 11.5, align: "center" });
    }
  });
}

/** The chip under a point, or -1. */
export function chipAt(at, x, y) {
  return at.chips.findIndex((c) => x >= c.x - 3 && x < c.x + c.width + 3 && y >= c.y - 4 && y < c.y + c.height + 4);
}

/** Where a key leads from chip `index`: left and right by one, up and down to the nearest in the next line. */
export function chipStep(at, index, key) {
  const { chips } = at;
  if (key === "Home") return 0;
  if (key === "End") return chips.length - 1;
  if (key === "ArrowLeft") return Math.max(0, index - 1);
  if (key === "ArrowRight") return Math.min(chips.length - 1, index + 1);
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const from = chips[index];
  const down = key === "ArrowDown";
  const lines = chips.map((c) => c.y).filter((y) => (down ? y > from.y : y < from.y));
  if (!lines.length) return index;
  const line = down ? Math.min(...lines) : Math.max(...lines);
  const distance = (c) => (c.y === line ? Math.abs(c.x + c.width / 2 - from.x - from.width / 2) : Infinity);
  return chips.reduce((best, c, i) => (distance(c) < distance(chips[best]) ? i : best), chips.findIndex((c) => c.y === line));
}
