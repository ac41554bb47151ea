/** Colours and type, once: the stylesheet and the canvas both read them from here. */

export const FONT = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif';

// The twelve colours of heads were searched for: as far apart as twelve can be, for people with each kind of
// defective colour vision too, and no fainter than 3 to 1 on the ground. Nothing is told by colour alone.
const LIGHT = {
  dark: false, surface: "#ffffff", raised: "#f3f5f2", line: "#d3d8d2", edge: "#7b857f", text: "#1c2320",
  muted: "#545e59", accent: "#0a6660", onAccent: "#ffffff", focus: "#0a6660", gold: "#b45309",
  halo: "#ffffff", bad: "#b3261e", hatch: "#8d9691",
  scale: ["#f8f9f5", "#d9ecd3", "#a5d8b9", "#5cb8ae", "#3a86a1", "#3e4f8a", "#35175d"],
  signed: ["#7f2a10", "#d07a45", "#f2d3b8", "#f8f8f6", "#c3d7ec", "#5b8cc4", "#1b3f7d"],
  heads: ["#0f2dff", "#ff1e1e", "#690f1e", "#3c96ff", "#b45a87", "#0f4b5a", "#873cb4", "#5a0087", "#a51e00",
    "#f05ac3", "#5a871e", "#969678"],
};

const DARK = {
  dark: true, surface: "#14181d", raised: "#1f252c", line: "#343c45", edge: "#7f8b96", text: "#e8ecef",
  muted: "#a7b1ba", accent: "#5cc8bd", onAccent: "#0d1417", focus: "#7fe0d6", gold: "#ffb454",
  halo: "#0b0e11", bad: "#ff9b8f", hatch: "#67727d",
  scale: ["#1b2029", "#3a2a63", "#3b4d8a", "#2b748e", "#24988a", "#6ccd5a", "#fde725"],
  signed: ["#ffb48a", "#c4622d", "#5a3320", "#20252b", "#22415f", "#4585c4", "#a9d2ff"],
  heads: ["#a51eff", "#e1ff0f", "#ff4b0f", "#1ea5b4", "#f0b44b", "#96ffff", "#c3b4ff", "#b44b78", "#6969b4",
    "#f05aff", "#2dd2a5", "#a58769"],
};

export const THEMES = [LIGHT, DARK];

/** @typedef {typeof LIGHT} Theme */

/** What the page around the view asks for: JupyterLab's switch, the book's, VS Code's, Colab's, the system's. */
export function pageIsDark() {
  const { documentElement: html, body } = document;
  const jupyter = body?.dataset.jpThemeLight;
  if (jupyter) return jupyter === "false";
  const book = html.dataset.theme ?? body?.dataset.theme ?? html.getAttribute("theme");
  if (book === "dark" || book === "light") return book === "dark";
  const editor = body?.dataset.vscodeThemeKind;
  if (editor) return editor.includes("dark") || editor === "vscode-high-contrast";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** @returns {Theme} */
export const pageTheme = () => (pageIsDark() ? DARK : LIGHT);

/**
 * Calls back whenever the page may have changed between light and dark.
 * @param {() => void} changed @returns {() => void} ends the watch
 */
export function watchTheme(changed) {
  const observer = new MutationObserver(changed);
  const attributeFilter = ["data-theme", "data-jp-theme-light", "data-vscode-theme-kind", "theme"];
  for (const node of [document.documentElement, document.body]) {
    if (node) observer.observe(node, { attributes: true, attributeFilter });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    system.removeEventListener("change", changed);
  };
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/**
 * 256 colours between the stops of a scale, as red, green, blue.
 * @param {string[]} stops @returns {number[][]}
 */
export function ramp(stops) {
  const colours = stops.map(channels);
  return Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (colours.length - 1);
    const left = Math.min(Math.floor(place), colours.length - 2);
    return colours[left].map((c, k) => Math.round(c + (colours[left + 1][k] - c) * (place - left)));
  });
}

/** The brightness the eye sees, 0 to 1 (WCAG's relative luminance). @param {number[]} rgb */
export function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever reads better on a colour: with a contrast of 4.58 or more. @param {number[]} rgb */
export const inkOn = (rgb) => (luminance(rgb) > 0.179 ? "#000000" : "#ffffff");

/**
 * A function from value to colour over a range.
 * @param {string[]} stops @param {number} low @param {number} high
 * @returns {(value: number) => number[]}
 */
export function colouring(stops, low, high) {
  const table = ramp(stops);
  const span = high - low || 1;
  return (value) => table[Math.max(0, Math.min(255, Math.round(((value - low) / span) * 255)))] ?? table[0];
}

/** @param {number[]} rgb */
export const css = ([r, g, b]) => `rgb(${r},${g},${b})`;
