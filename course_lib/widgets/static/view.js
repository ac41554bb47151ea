/** What every view shares: its frame, controls, live region, theme, canvases and export. */
import { CanvasPen, SvgPen } from "./pen.js";
import { FONT, pageTheme, watchTheme } from "./theme.js";

const STYLE = `
:host { display: block; max-width: 100%; margin: 0.5em 0; color-scheme: light dark; }
.view { font: 14px/1.5 ${FONT}; color: var(--text); background: var(--surface); border: 1px solid var(--line);
  border-radius: 10px; padding: 14px 16px 10px; box-sizing: border-box; forced-color-adjust: none; }
.bar { display: flex; flex-wrap: wrap; gap: 8px 14px; align-items: center; }
.title { font-weight: 600; font-size: 15px; margin: 0 auto 0 0; }
.controls { margin: 6px 0 0; }
.controls:empty { display: none; }
.stage { display: flex; flex-wrap: wrap; gap: 14px 26px; margin: 10px 0 6px; overflow-x: auto; padding: 6px; margin-inline: -3px; }
.panel { min-width: 0; }
.panel > p { margin: 0 0 4px; color: var(--muted); font-size: 13px; }
canvas { display: block; touch-action: pan-x pan-y; border-radius: 4px; }
.readout { min-height: 1.5em; margin: 4px 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.note { color: var(--muted); font-size: 12.5px; margin: 0 auto 0 0; }
.foot { border-top: 1px solid var(--line); padding-top: 8px; margin-top: 6px; }
label { display: inline-flex; gap: 6px; align-items: center; min-height: 28px; font-size: 13px; }
button, select, input, textarea { font: inherit; font-size: 13px; color: var(--text); background: var(--raised);
  border: 1px solid var(--edge); border-radius: 6px; min-height: 28px; min-width: 28px; padding: 2px 9px;
  box-sizing: border-box; }
button { cursor: pointer; }
button:hover:not(:disabled) { border-color: var(--accent); }
button.main, button[aria-pressed="true"] { background: var(--accent); color: var(--onAccent); border-color: var(--accent); }
input[type="checkbox"] { min-width: 24px; width: 24px; height: 24px; min-height: 24px; margin: 0;
  accent-color: var(--accent); }
input[type="range"] { padding: 0; min-height: 28px; accent-color: var(--accent); width: 130px; }
textarea { width: 100%; min-height: 8em; font-family: ui-monospace, monospace; }
button:disabled, button.main:disabled { color: var(--muted); background: transparent; cursor: default;
  border: 1px dashed var(--edge); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
output { font-variant-numeric: tabular-nums; min-width: 3em; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.frame { position: relative; }
@media (prefers-reduced-motion: no-preference) { button { transition: border-color 0.15s; } }
@media (forced-colors: active) { .view, button, select, input { border-color: CanvasText; } }
`;

/**
 * An element; text is always set as text, never parsed as HTML.
 * @param {string} tag @param {Record<string, any>} attributes @param {...(Node|string)} children
 */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}

/** The frame of one view inside the shadow root of `element`. */
export class View {
  /** @param {HTMLElement} element @param {{title: string, note?: string}} data */
  constructor(element, { title, note = "" }) {
    this.element = element;
    // JupyterLab would otherwise take Enter, arrows and letters for its own commands.
    element.dataset.lmSuppressShortcuts = "true";
    this.title = title;
    this.theme = pageTheme();
    this.surfaces = [];
    this.turn = 0;
    /** @type {() => string} tab-separated numbers for the clipboard; each view sets its own */
    this.numbers = () => "";
    this.controls = h("div", { class: "bar controls" });
    this.stage = h("div", { class: "stage" });
    this.readout = h("p", { class: "readout", role: "status", "aria-live": "polite" });
    this.note = h("p", { class: "note" }, note);
    this.copied = h("div");
    this.frame = h(
      "div", { class: "view", role: "group", "aria-label": title },
      h("div", { class: "bar" }, h("p", { class: "title" }, title)),
      this.controls, this.stage, this.readout,
      h("div", { class: "bar foot" }, this.note,
        h("button", { type: "button", click: () => this.save("png") }, "Save PNG"),
        h("button", { type: "button", click: () => this.save("svg") }, "Save SVG"),
        h("button", { type: "button", click: () => this.copy() }, "Copy numbers")),
      this.copied,
    );
    // The picture and table of the output are the host's own children: a shadow root takes their place,
    // and its slot keeps the table for screen readers.
    this.table = h("div", { class: "hidden" }, h("slot", { name: "table" }));
    const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
    root.replaceChildren(h("style", {}, STYLE), h("div", { class: "frame" }, this.frame, this.table));
    this.paintTheme();
    const follow = () => {
      this.theme = pageTheme();
      this.paintTheme();
      this.redraw();
    };
    let unwatch = watchTheme(follow);
    let width = 0;
    // Called on every change of size, and so when the view leaves the page or comes back. Away, it watches
    // nothing: the page's own nodes would otherwise hold it, and all its data, for ever.
    const resizing = new ResizeObserver(() => {
      if (!element.isConnected) {
        unwatch?.();
        unwatch = null;
        return;
      }
      unwatch ??= watchTheme(follow);
      if (pageTheme() !== this.theme) follow();
      if (element.clientWidth === width || !element.clientWidth) return;
      width = element.clientWidth;
      this.redraw();
    });
    resizing.observe(element);
    this.destroy = () => {
      unwatch?.();
      resizing.disconnect();
    };
  }

  /**
   * Waits for a reading and uses it, unless another was asked for meanwhile: a slow answer to an earlier
   * choice must not take the place of a later one.
   * @template T @param {Promise<T>} reading @param {(found: T) => void} use
   */
  async latest(reading, use) {
    const turn = ++this.turn;
    const found = await reading;
    if (turn === this.turn) use(found);
  }

  /** The width that a canvas may take. */
  get width() {
    return Math.max(220, (this.element.clientWidth || 680) - 40);
  }

  paintTheme() {
    for (const [name, value] of Object.entries(this.theme)) {
      if (typeof value === "string") this.frame.style.setProperty(`--${name}`, value);
    }
    this.frame.dataset.theme = this.theme.dark ? "dark" : "light";
    this.element.style.colorScheme = this.frame.dataset.theme;
  }

  redraw() {
    for (const surface of this.surfaces) surface.redraw();
  }

  /** Says a sentence in the readout, which screen readers announce; `aside` is only for the eye. */
  say(text, aside = "") {
    this.readout.replaceChildren(text);
    if (aside) this.readout.append(" ", h("span", { class: "note", "aria-hidden": "true" }, aside));
  }

  /** @returns {HTMLSelectElement} */
  select(name, options, changed, chosen = 0) {
    const box = h("select", { "aria-label": name, change: () => changed(box.selectedIndex) }, ...options.map((o) => h("option", {}, o)));
    box.selectedIndex = chosen;
    this.controls.append(h("label", {}, name, box));
    return box;
  }

  /** @returns {HTMLInputElement} */
  toggle(name, on, changed) {
    const box = h("input", { type: "checkbox", "aria-label": name, checked: on, change: () => changed(box.checked) });
    this.controls.append(h("label", {}, box, name));
    return box;
  }

  /** A slider with its value in sight; `show` writes the value. @returns {HTMLInputElement} */
  slider(name, { min, max, step, value, show = String }, changed) {
    const told = h("output", {}, show(value));
    const box = h("input", { type: "range", "aria-label": name, min, max, step, value, "aria-valuetext": show(value), input: () => {
      told.textContent = show(box.valueAsNumber);
      box.setAttribute("aria-valuetext", show(box.valueAsNumber));
      changed(box.valueAsNumber);
    } });
    this.controls.append(h("label", {}, name, box, told));
    return box;
  }

  /** @returns {HTMLButtonElement} */
  button(name, pressed, attributes = {}) {
    const box = h("button", { type: "button", click: pressed, ...attributes }, name);
    this.controls.append(box);
    return box;
  }

  /**
   * A canvas that can be focused, pointed at and steered by keys.
   * @param {object} parts
   * @param {string} parts.label what a screen reader says on entering it
   * @param {string} [parts.caption]
   * @param {(width: number) => {width: number, height: number}} parts.layout
   * @param {(pen: any, layout: any) => void} parts.paint
   * @param {(x: number, y: number, pressed: boolean) => void} [parts.point]
   * @param {(event: KeyboardEvent) => boolean} [parts.key] true when the key was used
   * @param {() => void} [parts.enter] on focus by keyboard
   */
  surface({ label, caption, layout, paint, point, key, enter }) {
    const canvas = h("canvas", key
      ? { tabindex: 0, role: "application", "aria-label": label }
      : { role: "img", "aria-label": label });
    const panel = h("div", { class: "panel" });
    if (caption) panel.append(h("p", {}, caption));
    panel.append(canvas);
    this.stage.append(panel);
    const surface = { canvas, panel, caption, layout: null, paint: (pen) => paint(pen, surface.layout), redraw: () => {
      surface.layout = layout(this.width);
      const { width, height } = surface.layout;
      const density = window.devicePixelRatio || 1;
      canvas.width = Math.ceil(width * density);
      canvas.height = Math.ceil(height * density);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const context = canvas.getContext("2d");
      context.scale(density, density);
      surface.paint(new CanvasPen(context));
    } };
    if (point) {
      const at = (event, pressed) => {
        const box = canvas.getBoundingClientRect();
        point(event.clientX - box.left, event.clientY - box.top, pressed);
      };
      canvas.addEventListener("pointermove", (event) => at(event, false));
      canvas.addEventListener("pointerdown", (event) => at(event, true));
    }
    if (key) canvas.addEventListener("keydown", (event) => key(event) && event.preventDefault());
    if (enter) canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && enter());
    this.surfaces.push(surface);
    surface.redraw();
    return surface;
  }

  /** Paints every canvas where it stands on the page, with the title above. */
  paintAll(pen, background) {
    const shown = this.surfaces.filter((s) => s.painted || s.canvas.offsetParent);
    const place = (s) => (s.painted ? [0, s.top?.() ?? 0] : [s.panel.offsetLeft - this.stage.offsetLeft, s.panel.offsetTop - this.stage.offsetTop]);
    const size = [240, 60];
    for (const s of shown) {
      const [x, y] = place(s);
      size[0] = Math.max(size[0], x + s.layout.width + 24);
      size[1] = Math.max(size[1], y + s.layout.height + 66);
    }
    background(...size);
    pen.rect(0, 0, ...size, { fill: this.theme.surface });
    pen.text(12, 20, this.title, { fill: this.theme.text, size: 15, bold: true });
    for (const s of shown) {
      const [x, y] = place(s);
      pen.shift(12 + x, 58 + y);
      if (s.caption) pen.text(0, -12, s.caption, { fill: this.theme.muted, size: 12 });
      s.paint(pen);
      pen.shift(-12 - x, -58 - y);
    }
    return size;
  }

  /** The picture as an SVG document. */
  svg() {
    const pen = new SvgPen();
    return pen.document(...this.paintAll(pen, () => {}), this.title);
  }

  /** The picture as a PNG, twice as fine as the screen's points. @returns {Promise<Blob>} */
  png() {
    const canvas = h("canvas");
    const context = canvas.getContext("2d");
    this.paintAll(new CanvasPen(context), (width, height) => {
      canvas.width = width * 2;
      canvas.height = height * 2;
      context.scale(2, 2);
    });
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  async save(kind) {
    const blob = kind === "png" ? await this.png() : new Blob([this.svg()], { type: "image/svg+xml" });
    const address = URL.createObjectURL(blob);
    h("a", { href: address, download: `${this.title.replace(/[^\p{L}\p{N}]+/gu, "-")}.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    this.say(`Saved as ${kind.toUpperCase()}.`);
  }

  async copy() {
    const text = this.numbers();
    try {
      await navigator.clipboard.writeText(text);
      this.say("Copied: the numbers, separated by tabs.");
    } catch {
      // No permission, or a page from a file: show the numbers, selected, for the reader to copy.
      const area = h("textarea", { "aria-label": "The numbers, separated by tabs", readonly: true });
      area.value = text;
      this.copied.replaceChildren(area);
      area.select();
      this.say("Selected below: press Ctrl+C or Cmd+C to copy.");
    }
  }
}

/** Rows of a table as tab-separated text. @param {(string|number)[][]} rows */
export const tabbed = (rows) => rows.map((row) => row.join("\t")).join("\n");
