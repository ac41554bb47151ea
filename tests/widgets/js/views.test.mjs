import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, module, numbers } from "./numbers.mjs";

const { similarityByDistance, sinusoidal } = await module("positions_math");
const { regress } = await module("kernel_math");
const { ticks } = await module("kernel_regression_view");
const { nextToken } = await module("sampling_math");
const { strongestLines } = await module("head_view");
const { beamLayout, fates, foundBy, lengthPenalty, ranked, trace } = await module("beam_math");
const { scoreOf } = await module("predict_then_reveal");

test("positions and their similarity are Python's", () => {
  for (const { given, code, alike } of numbers.positions) {
    const mine = sinusoidal(...given);
    assert.ok(difference(mine, code) < 1e-12);
    assert.ok(difference(similarityByDistance(mine), alike) < 1e-12);
  }
});

test("another base would be noticed", () => {
  const { given: [length, width, base], code } = numbers.positions[2];
  assert.ok(difference(sinusoidal(length, width, base * 1.01), code) > 1e-3);
});

test("each kernel weighs and estimates as Python does", () => {
  for (const { given, kernel, width, weights, estimates } of numbers.kernels) {
    const result = regress(given, kernel, width);
    assert.ok(difference(result.weights, weights) < 1e-12, `${kernel} ${width}`);
    assert.ok(difference(result.estimates, estimates) < 1e-12, `${kernel} ${width}`);
  }
});

test("a window with nothing in it was among them, and another kernel or width would be noticed", () => {
  const empty = ({ weights }) => weights.some((row) => row.every((weight) => weight === 0));
  assert.ok(numbers.kernels.some(empty) && !numbers.kernels.every(empty));
  const names = ["gaussian", "boxcar", "triangular", "epanechnikov"];
  for (const { given, kernel, width, weights } of numbers.kernels) {
    assert.ok(difference(regress(given, kernel, width * 1.02).weights, weights) > 1e-4 || kernel === "boxcar");
    for (const other of names.filter((name) => name !== kernel)) {
      assert.ok(difference(regress(given, other, width).weights, weights) > 1e-2, `${kernel} ${other} ${width}`);
    }
  }
});

test("a Gaussian far narrower than the gaps is the nearest neighbour, not a division by zero", () => {
  const { weights } = regress({ keys: [0, 1], values: [5, 7], queries: [0.4, 0.6] }, "gaussian", 1e-6);
  assert.deepEqual(weights, [[1, 0], [0, 1]]);
});

test("an axis gets round numbers inside its range", () => {
  assert.deepEqual(ticks(4.8, 18.3, 4), [5, 10, 15]);
  assert.deepEqual(ticks(-0.3, 0.3, 8), [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]);
  assert.deepEqual(ticks(0, 24000, 5), [0, 5000, 10000, 15000, 20000]);
  assert.deepEqual(ticks(7, 7, 4), [7]);
  assert.deepEqual(ticks(7.5, 7.5, 4), []);
});

test("the next token's distribution is torch's", () => {
  for (const { logits, how, probabilities } of numbers.sampling) {
    assert.ok(difference(nextToken(logits, how).probabilities, probabilities) < 1e-13, JSON.stringify(how));
  }
});

test("temperature zero is greedy, and the first of equals wins", () => {
  const how = { temperature: 0, topK: 0, topP: 1 };
  assert.deepEqual(nextToken([1, 3, 3, 2], how).probabilities, [0, 1, 0, 0]);
});

test("a token of no probability is never kept", () => {
  const { probabilities, kept } = nextToken([0, -Infinity], { temperature: 1, topK: 0, topP: 1 });
  assert.deepEqual([probabilities, kept], [[1, 0], [true, false]]);
});

test("the strongest lines are drawn, weakest first", () => {
  const values = Float32Array.of(0.005, 0.2, 0.75, 0.045, 0.5, 0.5);
  const weights = (most) => strongestLines([{ head: 4, values }], 3, 0.01, most).map((line) => line.weight);
  assert.equal(difference(weights(99), [0.045, 0.2, 0.5, 0.5, 0.75]) < 1e-6, true);
  assert.equal(difference(weights(3), [0.5, 0.5, 0.75]) < 1e-6, true);
  const [line] = strongestLines([{ head: 4, values }], 3, 0.7, 9);
  assert.deepEqual([line.head, line.query, line.key], [4, 0, 2]);
});

test("a guess scores its share of the largest weight", () => {
  assert.equal(scoreOf([0.25, 0.5, 0.25], 1), 1);
  assert.equal(scoreOf([0.25, 0.5, 0.25], 2), 0.5);
  assert.equal(scoreOf([0, 0], 1), 0);
});

test("a beam's hypotheses, their order and their scores are Python's", () => {
  for (const { tree, tokens, alpha, hypotheses } of numbers.beams) {
    const mine = ranked(foundBy(tree, tree.parents.length - 1), alpha).map(({ step, slot, total, score, whole }) =>
      [trace(tree.parents, step, slot).map((s, at) => tokens[at][s]), total, score, whole]);
    assert.equal(mine.length, hypotheses.length);
    mine.forEach(([words, total, score, whole], i) => {
      const [theirs, sum, divided, ended] = hypotheses[i];
      assert.deepEqual([words, whole], [theirs, ended]);
      assert.ok(difference([total, score], [sum, divided]) < 1e-12);
    });
  }
});

test("some searches were cut off and some were not, and another penalty would be noticed", () => {
  const open = ({ hypotheses }) => hypotheses.some((one) => !one[3]);
  assert.ok(numbers.beams.some(open) && !numbers.beams.every(open));
  assert.ok(Math.abs(lengthPenalty(7, 1) - 2) < 1e-15 && lengthPenalty(1, 3) === 1 && lengthPenalty(9, 0) === 1);
  const orders = (alpha) => numbers.beams.map(({ tree }) =>
    ranked(foundBy(tree, tree.parents.length - 1), alpha).map(({ step, slot }) => [step, slot]).join(";"));
  assert.notDeepEqual(orders(0), orders(3));
});

// Slot 2 of step 0 is given up at step 1; slot 1 of step 1 ends; the last step has one entry.
const TREE = {
  parents: [[0, 0, 0], [0, 1, -1], [0, -1, -1]],
  ended: [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
  logs: [[-1, -2, -3], [-1.5, -2.5, 0], [-2, 0, 0]], cut: true,
};

test("what became of each entry is told for the step in sight", () => {
  assert.deepEqual(fates(TREE, 0), [["live", "live", "live"]]);
  assert.deepEqual(fates(TREE, 1), [["live", "found", "dead"], ["live", "found", "empty"]]);
  assert.deepEqual(fates(TREE, 2), [["live", "found", "dead"], ["live", "found", "empty"], ["live", "empty", "empty"]]);
  assert.deepEqual(fates({ ...TREE, parents: [[0, 0, 0], [0, 0, -1], [0, -1, -1]] }, 1)[0], ["live", "dead", "dead"]);
});

test("a hypothesis is found at its step, and what is open counts at the last one only where the search was cut", () => {
  const places = (now, cut) => foundBy({ ...TREE, cut }, now).map(({ step, slot, whole }) => [step, slot, whole]);
  assert.deepEqual(places(0, true), []);
  assert.deepEqual(places(1, true), [[1, 1, true]]);
  assert.deepEqual(places(2, true), [[1, 1, true], [2, 0, false]]);
  assert.deepEqual(places(2, false), [[1, 1, true]]);
  assert.deepEqual(trace([[0, 0], [1, 0], [0, 0]], 2, 1), [1, 0, 1]);
});

test("equal scores stay in the order of the search", () => {
  const found = [3, 1, 2].map((slot) => ({ step: 0, slot, total: -1, length: 1, whole: true }));
  assert.deepEqual(ranked(found, 0.6).map(({ slot }) => slot), [3, 1, 2]);
});

test("the tree's entries do not touch, whatever the words and the width", () => {
  for (const longest of [1, 9, 60]) {
    for (const width of [220, 860]) {
      for (const [steps, slots] of [[1, 1], [7, 3], [100, 12]]) {
        const at = beamLayout({ words: ["x", "w".repeat(longest)], steps, slots, width, widthOf: (text) => 8 * text.length });
        assert.ok(at.box >= 56 && at.box <= 116);
        assert.ok(at.pitch >= at.box + 30 && at.row >= at.tall + 8);
        assert.ok(at.x(steps) + at.box + 26 <= at.width && at.y(slots - 1) + at.tall <= at.height);
        assert.ok(at.x(0) >= 30 && at.y(0) >= 24);
        // A rank stays within its entry's column, where no lines are, and off the entry above.
        const [left, top, rank, height] = at.rank(steps, slots - 1, 20);
        assert.ok(left >= at.x(steps) && left + rank <= at.x(steps) + at.box);
        assert.ok(top >= (slots > 1 ? at.y(slots - 2) + at.tall + 3 : 16) && top + height <= at.y(slots - 1) + 6);
        if (steps === 7 && longest === 1) assert.equal(at.width <= width, width === 860);
      }
    }
  }
});
