import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, module, numbers } from "./numbers.mjs";

const { Matrices } = await module("payload");

test("what Python packed is read back, matrix by matrix, in any order", async () => {
  for (const { packed, values, within } of numbers.packed) {
    const matrices = new Matrices(packed);
    assert.deepEqual([matrices.rows, matrices.columns], [5, 7]);
    for (const index of values.map((_, i) => i).reverse()) {
      assert.ok(difference(Array.from(await matrices.at(index)), values[index]) <= within, `${packed.kind} ${index}`);
    }
  }
});

test("the precision is told", () => {
  const [exact, steps] = numbers.packed.map(({ packed }) => new Matrices(packed).precision);
  assert.match(exact, /exact to 7 digits/);
  assert.match(steps, /256 steps/);
});
