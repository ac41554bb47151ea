/** The arithmetic of one cell of the bench, written out with its numbers. */
import { dot } from "./bench_math.js";
import { cell, long } from "./labels.js";

const bracket = (value) => (value < 0 ? `(${cell(value)})` : cell(value));
const product = (a, b) => a.map((x, i) => `${bracket(x)}·${bracket(b[i])}`).join(" + ");

/**
 * @param {{stage: string, row: number, column: number}} chosen
 * @param {import("./bench_math.js").Bench} bench
 * @param {Record<string, number[][]>} result
 * @param {string[]} queries @param {string[]} keys
 * @returns {{text: string, parts: Set<string>}} the words, and the cells they were computed from
 */
export function explain({ stage, row, column }, bench, result, queries, keys) {
  const value = result[stage][row][column];
  const width = bench.key[0].length;
  const along = (table, line, count) => Array.from({ length: count }, (_, c) => `${table} ${line} ${c}`);
  const [asks, looked] = [`query '${queries[row]}'`, `key '${keys[column]}'`];
  if (stage === "scores") {
    return {
      text: `${asks} · ${looked}\n= ${product(bench.query[row], bench.key[column])}\n= ${long(dot(bench.query[row], bench.key[column]))}`,
      parts: new Set([...along("query", row, width), ...along("key", column, width)]),
    };
  }
  if (stage === "scaled") {
    const score = result.scores[row][column];
    const text = bench.scaled
      ? `score ÷ √d = ${bracket(score)} ÷ √${width} = ${bracket(score)} ÷ ${long(Math.sqrt(width))}\n= ${long(value)}`
      : `√d is switched off: the score stays ${long(value)}`;
    return { text, parts: new Set([`scores ${row} ${column}`]) };
  }
  if (stage === "masked") {
    const hidden = value === -Infinity;
    const text = hidden
      ? `${asks} may not attend to ${looked}: −∞ takes the place of ${cell(result.scaled[row][column])}, and its weight will be 0`
      : `${asks} may attend to ${looked}: the score stays ${long(value)}`;
    return { text, parts: new Set([`scaled ${row} ${column}`]) };
  }
  if (stage === "weights") {
    const scores = result.masked[row];
    const t = bench.temperature;
    const parts = new Set(along("masked", row, scores.length));
    if (scores.every((s) => s === -Infinity)) {
      return { text: `${asks} may attend to nothing: all its weights are 0`, parts };
    }
    const power = (s) => (t === 1 ? `exp(${cell(s)})` : `exp(${bracket(s)} ÷ ${cell(t)})`);
    return {
      text: `softmax over the row of ${asks}:\n${power(scores[column])} ÷ [${scores.map(power).join(" + ")}]\n= ${long(value)}`,
      parts,
    };
  }
  const weights = result.weights[row];
  const values = bench.value.map((v) => v[column]);
  return {
    text: `output of ${asks}, number ${column}: weights × column ${column} of V\n= ${product(weights, values)}\n= ${long(value)}`,
    parts: new Set([...along("weights", row, weights.length), ...values.map((_, j) => `value ${j} ${column}`)]),
  };
}
