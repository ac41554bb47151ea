import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, module, numbers } from "./numbers.mjs";

const { attend, softmax } = await module("bench_math");
const { explain } = await module("bench_words");

test("the bench computes what torch computes in double precision", () => {
  for (const { given, ...expected } of numbers.bench) {
    const result = attend(given);
    for (const stage of ["scores", "scaled", "weights", "output"]) {
      assert.ok(difference(result[stage], expected[stage]) < 1e-13, stage);
    }
  }
});

test("a wrong stage would be noticed", () => {
  const { given, ...expected } = numbers.bench.at(-1);
  const result = attend({ ...given, temperature: given.temperature * 1.001 });
  assert.ok(difference(result.weights, expected.weights) > 1e-6);
});

test("masked scores are minus infinity, and a row with nothing left is zero", () => {
  const result = attend({ query: [[1], [2]], key: [[1], [2]], value: [[5], [7]],
    mask: [[false, false], [true, false]], scaled: true, masked: true, temperature: 1 });
  assert.deepEqual(result.masked[0], [-Infinity, -Infinity]);
  assert.deepEqual(result.weights, [[0, 0], [1, 0]]);
  assert.deepEqual(result.output, [[0], [5]]);
});

test("large scores stay finite", () => assert.deepEqual(softmax([1e4, -1e4]), [1, 0]));

test("the arithmetic of a cell is written with its numbers", () => {
  const bench = { query: [[1, 2]], key: [[3, -4]], value: [[5]], mask: [[true]], scaled: true, masked: false, temperature: 1 };
  const result = attend(bench);
  const words = (stage) => explain({ stage, row: 0, column: 0 }, bench, result, ["it"], ["cat"]).text;
  assert.equal(words("scores"), "query 'it' · key 'cat'\n= 1.00·3.00 + 2.00·(−4.00)\n= −5");
  assert.equal(words("scaled"), "score ÷ √d = (−5.00) ÷ √2 = (−5.00) ÷ 1.414214\n= −3.535534");
  assert.match(words("output"), /1\.00·5\.00\n= 5$/);
});
