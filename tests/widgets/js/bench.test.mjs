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
  assert.equal(words("scores"), "query 'it' · key 'cat'\n= 1·3 + 2·(−4)\n= −5");
  assert.equal(words("scaled"), "score ÷ √d = (−5) ÷ √2 = (−5) ÷ 1.414214\n= −3.535534");
  assert.match(words("output"), /1·5\n= 5$/);
});

/** What a learner gets who types the written arithmetic into a calculator. */
function calculated(text) {
  const sum = text.split("\n").find((line) => /[·÷]/.test(line) && /\d/.test(line)).replace(/^[^=≈:]*[=≈] /, "");
  const symbols = { "·": "*", "÷": "/", "−": "-", "∞": "Infinity", "[": "(", "]": ")", exp: "Math.exp", "√": "Math.sqrt" };
  const code = sum.split(" = ").at(-1).replace(/[·÷−∞[\]]|exp/g, (symbol) => symbols[symbol]);
  return Function(`return ${code}`)();
}

test("the written arithmetic gives the number under it", () => {
  for (const { given } of numbers.bench) {
    for (const size of [0.001, 1, 100]) {
      const scale = (table) => table.map((row) => row.map((x) => x * size));
      // Scores of a hundred and more give weights of nothing but 0 and 1: the query shrinks as the key grows.
      const bench = { ...given, query: given.query.map((row) => row.map((x) => x / size)), key: scale(given.key), value: scale(given.value) };
      const result = attend(bench);
      for (const stage of ["scores", "scaled", "weights", "output"]) {
        result[stage].forEach((row, r) => row.forEach((value, column) => {
          const { text } = explain({ stage, row: r, column }, bench, result, [...given.query].map(() => "it"), [...given.key].map(() => "cat"));
          if (/all its weights are 0|switched off/.test(text)) return;
          const terms = { scores: bench.query[r].map((x, i) => x * bench.key[column]?.[i]), output: result.weights[r].map((w, i) => w * bench.value[i][column]) }[stage];
          const large = terms ? terms.reduce((sum, term) => sum + Math.abs(term), 0) : Math.abs(value);
          assert.ok(Math.abs(calculated(text) - value) <= 2e-3 * large + 1e-12, `${text} is ${calculated(text)}`);
        }));
      }
    }
  }
});

test("a written sum says where its numbers are rounded", () => {
  const words = (x) => {
    const bench = { query: [[x]], key: [[2]], value: [[5]], mask: [[true]], scaled: true, masked: false, temperature: 1 };
    return explain({ stage: "scores", row: 0, column: 0 }, bench, attend(bench), ["it"], ["cat"]).text;
  };
  assert.match(words(1.234), /\n= 1\.234·2\n= 2\.468$/);
  assert.match(words(-0.00123456), /\n≈ \(−0\.001235\)·2\n= −0\.00246912$/);
});
