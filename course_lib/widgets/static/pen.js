/**
 * One set of strokes, two inks: every picture is painted through a pen, on a canvas or into SVG.
 *
 * @typedef {object} TextStyle
 * @property {string} fill
 * @property {number} [size]
 * @property {"left"|"center"|"right"} [align]
 * @property {number} [turn]    radians
 * @property {boolean} [bold]
 */
import { FONT } from "./theme.js";

const fontOf = (size = 13, bold = false) => `${bold ? "600 " : ""}${size}px ${FONT}`;
let ruler;

/** The width of a text in pixels. */
export function measure(text, size = 13, bold = false) {
  ruler ??= document.createElement("canvas").getContext("2d");
  ruler.font = fontOf(size, bold);
  return ruler.measureText(text).width;
}

/** Keeps right-to-left text from reordering its surroundings. */
const isolated = (text) => `\u2068${text}\u2069`;

export class CanvasPen {
  /** @param {CanvasRenderingContext2D} context */
  constructor(context) {
    this.context = context;
  }

  shift(x, y) {
    this.context.translate(x, y);
  }

  rect(x, y, width, height, { fill, stroke, line = 1, dash = [], round = 0 }) {
    const c = this.context;
    c.beginPath();
    c.roundRect(x, y, width, height, round);
    if (fill) {
      c.fillStyle = fill;
      c.fill();
    }
    if (stroke) {
      c.strokeStyle = stroke;
      c.lineWidth = line;
      c.setLineDash(dash);
      c.stroke();
      c.setLineDash([]);
    }
  }

  /** @param {number[][]} points a broken line, or, with four points and `curve`, a Bézier curve */
  path(points, { stroke, line = 1, alpha = 1, curve = false, dash = [] }) {
    const c = this.context;
    c.beginPath();
    c.moveTo(...points[0]);
    if (curve) c.bezierCurveTo(...points[1], ...points[2], ...points[3]);
    else for (const point of points.slice(1)) c.lineTo(...point);
    c.strokeStyle = stroke;
    c.lineWidth = line;
    c.globalAlpha = alpha;
    c.setLineDash(dash);
    c.stroke();
    c.setLineDash([]);
    c.globalAlpha = 1;
  }

  /** @param {string} text @param {TextStyle} style */
  text(x, y, text, { fill, size = 13, align = "left", turn = 0, bold = false }) {
    const c = this.context;
    c.save();
    c.translate(x, y);
    c.rotate(turn);
    c.font = fontOf(size, bold);
    c.fillStyle = fill;
    c.direction = "ltr";
    c.textAlign = align;
    c.textBaseline = "middle";
    c.fillText(isolated(text), 0, 0);
    c.restore();
  }

  image(canvas, x, y, width, height) {
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(canvas, x, y, width, height);
  }
}

// XML has no way to write a control character, half a surrogate pair, or U+FFFE and U+FFFF.
const NOT_XML = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;
const xml = (text) => String(text).replace(NOT_XML, "\ufffd").replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const round = (value) => Math.round(value * 100) / 100;

export class SvgPen {
  constructor() {
    /** @type {string[]} */
    this.parts = [];
    this.at = [0, 0];
  }

  shift(x, y) {
    this.at = [this.at[0] + x, this.at[1] + y];
  }

  place(x, y) {
    return [round(x + this.at[0]), round(y + this.at[1])];
  }

  rect(x, y, width, height, { fill = "none", stroke = "none", line = 1, dash = [], round: corner = 0 }) {
    const [left, top] = this.place(x, y);
    this.parts.push(
      `<rect x="${left}" y="${top}" width="${round(width)}" height="${round(height)}" rx="${corner}"` +
        ` fill="${fill}" stroke="${stroke}" stroke-width="${line}" stroke-dasharray="${dash.join(" ")}"/>`,
    );
  }

  path(points, { stroke, line = 1, alpha = 1, curve = false, dash = [] }) {
    const [first, ...rest] = points.map(([x, y]) => this.place(x, y).join(" "));
    this.parts.push(
      `<path d="M${first}${curve ? "C" : "L"}${rest.join(" ")}" fill="none" stroke="${stroke}"` +
        ` stroke-width="${line}" opacity="${round(alpha)}" stroke-dasharray="${dash.join(" ")}"/>`,
    );
  }

  text(x, y, text, { fill, size = 13, align = "left", turn = 0, bold = false }) {
    const [left, top] = this.place(x, y);
    const anchor = { left: "start", center: "middle", right: "end" }[align];
    this.parts.push(
      `<text transform="translate(${left} ${top}) rotate(${round((turn * 180) / Math.PI)})" fill="${fill}"` +
        ` font-family="${xml(FONT)}" font-size="${size}" font-weight="${bold ? 600 : 400}"` +
        ` text-anchor="${anchor}" dominant-baseline="central">${xml(isolated(text))}</text>`,
    );
  }

  image(canvas, x, y, width, height) {
    const [left, top] = this.place(x, y);
    this.parts.push(
      `<image x="${left}" y="${top}" width="${round(width)}" height="${round(height)}"` +
        ` preserveAspectRatio="none" style="image-rendering:pixelated" href="${canvas.toDataURL()}"/>`,
    );
  }

  /** The finished document. */
  document(width, height, title) {
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${Math.ceil(width)}" height="${Math.ceil(height)}"` +
      ` role="img"><title>${xml(title)}</title>${this.parts.join("")}</svg>`
    );
  }
}
