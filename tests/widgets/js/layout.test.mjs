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
