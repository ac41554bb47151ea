import assert from "node:assert/strict";
import { test } from "node:test";
import { module, numbers } from "./numbers.mjs";

const { visible } = await module("labels");

test("every character is shown as Python shows it, alone and inside a word", () => {
  const { unassigned, alone, inside } = numbers.letters;
  const skip = new Set(unassigned.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i)));
  const changed = { alone: [], inside: [] };
  for (let point = 0; point <= 0x10ffff; point++) {
    if (skip.has(point)) continue;
    const letter = String.fromCodePoint(point);
    if (visible(letter) !== letter) changed.alone.push([point, visible(letter)]);
    if (visible(`a${letter}b`) !== `a${letter}b`) changed.inside.push([point, visible(`a${letter}b`)]);
  }
  assert.deepEqual(changed.alone, alone);
  assert.deepEqual(changed.inside, inside);
});

test("whole tokens are shown as Python shows them", () => {
  for (const [token, shown] of numbers.tokens) assert.equal(visible(token), shown, JSON.stringify(token));
});
