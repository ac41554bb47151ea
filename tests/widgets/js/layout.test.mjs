import assert from "node:assert/strict";
import { test } from "node:test";
import { module } from "./numbers.mjs";

const { heatLayout, step } = await module("heat");
const { chipLayout, chipStep } = await module("chips");
const labels = await module("labels");
const theme = await module("theme");

const widthOf = (text) => text.length * 7;
const tokens = (count) => Array.from({ length: count }, (_, i) => `token${i}`);

test("a map fits the width it is given", () => {
  for (const count of [1, 3, 12, 60, 128, 300]) {
    for (const width of [320, 680, 1200]) {
      const at = heatLayout({ rows: tokens(count), columns: tokens(count), width, widthOf });
      assert.ok(at.right <= Math.max(width, at.left + count), `${count} in ${width}: ${at.right}`);
      assert.ok(at.cellWidth > 0 && at.cellHeight > 0 && at.rowStep * at.cellHeight >= 13);
    }
  }
});

test("a label has room when the cursor makes it bold, and tilted labels keep a line's distance", () => {
  const bolder = (text, size, bold) => text.length * (bold ? 8 : 7);
  const few = heatLayout({ rows: tokens(9), columns: tokens(9), width: 680, widthOf: bolder });
  assert.ok(few.left >= bolder("token0", 13, true) + 8);
  const many = heatLayout({ rows: tokens(60), columns: tokens(60), width: 680, widthOf });
  assert.ok(many.tilted && many.columnStep * many.cellWidth * Math.SQRT1_2 >= 13);
});

test("cells are square where there is room, and one row of many keys stays tall enough to hit", () => {
  const square = heatLayout({ rows: tokens(9), columns: tokens(9), width: 680, widthOf });
  assert.equal(square.cellWidth, square.cellHeight);
  assert.ok(heatLayout({ rows: tokens(1), columns: tokens(400), width: 680, widthOf }).cellHeight >= 18);
});

test("keys lead from cell to cell and stop at the edges", () => {
  const go = (key, row, column, ctrlKey = false) => step({ key, ctrlKey }, row, column, 5, 7);
  assert.deepEqual(go("ArrowRight", 2, 6), [2, 6]);
  assert.deepEqual(go("ArrowDown", 2, 3), [3, 3]);
  assert.deepEqual(go("Home", 2, 3), [2, 0]);
  assert.deepEqual(go("End", 2, 3), [2, 6]);
  assert.deepEqual(go("End", 2, 3, true), [4, 6]);
  assert.deepEqual(go("PageUp", 2, 3), [0, 3]);
  assert.equal(go("x", 2, 3), null);
});

test("chips wrap inside the width, and up and down lead to the nearest", () => {
  const at = chipLayout(tokens(9), { width: 250, widthOf });
  assert.ok(at.chips.every((c) => c.x + c.width <= 250));
  assert.ok(new Set(at.chips.map((c) => c.y)).size > 1);
  const below = chipStep(at, 0, "ArrowDown");
  assert.ok(at.chips[below].y > at.chips[0].y && at.chips[below].x === at.chips[0].x);
  assert.equal(chipStep(at, below, "ArrowUp"), 0);
  assert.equal(chipStep(at, 8, "ArrowRight"), 8);
});

test("tokens are shown with nothing hidden", () => {
  const shown = { "": "∅", " ": "␣", " the": "␣the", "a\nb": "a↵b", "\u202ex": "⟨U+202E⟩x", "<b>": "<b>", "\u200b": "⟨U+200B⟩" };
  for (const [token, text] of Object.entries(shown)) assert.equal(labels.visible(token), text);
  assert.equal(labels.quoted("שלום"), "'\u2068שלום\u2069'");
  assert.equal(labels.fit("x".repeat(60), 70, widthOf), `${"x".repeat(9)}…`);
  assert.equal(labels.fit("👩‍🚀".repeat(9), 40, widthOf).endsWith("…"), true);
});

test("numbers are short", () => {
  const shown = [[0.62, "0.62"], [0, "0"], [0.0432, "0.043"], [3.12e-6, "3.1e-6"], [-1.5, "−1.50"], [NaN, "NaN"], [-Infinity, "−∞"]];
  for (const [value, text] of shown) assert.equal(labels.short(value), text);
  assert.deepEqual([1.005, -0.001, 123.456].map(labels.cell), ["1.00", "0.00", "123"]);
});

test("the scales change steadily in brightness, so they survive greyscale", () => {
  for (const { scale, dark } of theme.THEMES) {
    const brightness = theme.ramp(scale).map(theme.luminance);
    if (!dark) brightness.reverse();
    // Rounding to whole colour channels may take back less than an eye can see.
    brightness.forEach((value, i) => assert.ok(i === 0 || value > brightness[i - 1] - 0.004, `${dark} ${i}`));
    assert.ok(brightness.at(-1) - brightness[0] > 0.6);
    for (let i = 0; i + 16 < 256; i += 16) assert.ok(brightness[i + 16] > brightness[i], `${dark} ${i}`);
  }
});

// Machado, Oliveira and Fernandes 2009, table 1, complete deficiencies; applied to linear light.
const SEEN = {
  "by most": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  "without red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  "without green cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  "without blue cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
const times = (matrix, vector) => matrix.map((row) => row.reduce((sum, x, i) => sum + x * vector[i], 0));
const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const linear = (rgb) => rgb.map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));

/** WCAG's contrast of two colours, 1 to 21. */
function contrast(...colours) {
  const [dim, bright] = colours.map((rgb) => theme.luminance(rgb) + 0.05).sort((a, b) => a - b);
  return bright / dim;
}

/** A colour in OKLab (Ottosson 2020), where equal distances look about equally far apart. */
function oklab(light) {
  const cones = times([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005]], light.map((c) => Math.max(0, Math.min(1, c))));
  return times([[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.808675766]], cones.map(Math.cbrt));
}

/** How far the two most alike of some colours are apart, as somebody sees them. */
function closest(colours, matrix) {
  const places = colours.map((hex) => oklab(times(matrix, linear(rgbOf(hex)))));
  return Math.min(...places.flatMap((a, i) => places.slice(i + 1).map((b) => Math.hypot(...a.map((x, k) => x - b[k])))));
}

test("twelve heads have twelve colours that can be told apart, with defective colour vision too", () => {
  for (const { heads, surface, dark } of theme.THEMES) {
    assert.equal(heads.length, 12);
    for (const hex of heads) assert.ok(contrast(rgbOf(surface), rgbOf(hex)) >= 3, `${hex} is too faint`);
    for (const [who, matrix] of Object.entries(SEEN)) {
      const least = who === "by most" ? 0.12 : 0.08;
      assert.ok(closest(heads, matrix) >= least, `${dark ? "dark" : "light"}, ${who}: ${closest(heads, matrix)}`);
    }
  }
});

test("colours that are alike would be noticed", () => {
  assert.ok(closest(["#00785a", "#0a6660"], SEEN["by most"]) < 0.12);
  // A red and a green that most people tell apart, and some do not.
  const trap = ["#a85a00", "#5f7a00"];
  assert.ok(closest(trap, SEEN["by most"]) >= 0.12 && closest(trap, SEEN["without green cones"]) < 0.08);
});

const CUBE = Array.from({ length: 16 ** 3 }, (_, i) => [i >> 8, (i >> 4) & 15, i & 15].map((c) => 17 * c));

test("a number can be read on every colour of a scale, and on any other", () => {
  const scales = theme.THEMES.flatMap(({ scale, signed }) => [scale, signed].flatMap(theme.ramp));
  for (const rgb of [...scales, ...CUBE]) {
    assert.ok(contrast(rgb, rgbOf(theme.inkOn(rgb))) >= 4.5, `${rgb}`);
  }
});

test("an ink that is not quite black would be noticed", () => {
  const reads = (rgb) => Math.max(...["#10151a", "#ffffff"].map((ink) => contrast(rgb, rgbOf(ink)))) >= 4.5;
  assert.ok(!CUBE.every(reads));
});
