/** The arithmetic of one cell of the bench, written out with its numbers. */
import { dot } from "./bench_math.js";
import { cell, long, quoted, short } from "./labels.js";

// Whoever computes a written sum by hand must get the number under it: products need digits that count from
// the first one that is not zero, exponents need decimals, since there an error counts as it is.
const digits = (value) => Number(value.toPrecision(4));
const decimals = (value) => Number(value.toFixed(4));

const written = (value, rounded = digits) => (Number.isFinite(value) ? String(rounded(value)).replaceAll("-", "−") : short(value));
const bracket = (value, rounded = digits) => (value < 0 ? `(${written(value, rounded)})` : written(value, rounded));
const product = (a, b) => a.map((x, i) => `${bracket(x)}·${bracket(b[i])}`).join(" + ");
/** "=" where every number is written in full, "≈" where one was rounded. */
const equals = (values, rounded = digits) => (values.every((value) => rounded(value) === value) ? "=" : "≈");

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
  const asks = `query ${quoted(queries[row])}`;
  const looked = () => `key ${quoted(keys[column])}`;
  if (stage === "scores") {
    const [query, key] = [bench.query[row], bench.key[column]];
    const is = equals([...query, ...key]);
    return {
      text: `${asks} · ${looked()}\n${is} ${product(query, key)}\n= ${long(dot(query, key))}`,
      parts: new Set([...along("query", row, width), ...along("key", column, width)]),
    };
  }
  if (stage === "scaled") {
    const score = result.scores[row][column];
    const text = bench.scaled
      ? `score ÷ √d ${equals([score])} ${bracket(score)} ÷ √${width} = ${bracket(score)} ÷ ${long(Math.sqrt(width))}\n= ${long(value)}`
      : `√d is switched off: the score stays ${long(value)}`;
    return { text, parts: new Set([`scores ${row} ${column}`]) };
  }
  if (stage === "masked") {
    const hidden = value === -Infinity;
    const text = hidden
      ? `${asks} may not attend to ${looked()}: −∞ takes the place of ${cell(result.scaled[row][column])}, and its weight will be 0`
      : `${asks} may attend to ${looked()}: the score stays ${long(value)}`;
    return { text, parts: new Set([`scaled ${row} ${column}`]) };
  }
  if (stage === "weights") {
    const scores = result.masked[row];
    const t = bench.temperature;
    const parts = new Set(along("masked", row, scores.length));
    if (scores.every((s) => s === -Infinity)) {
      return { text: `${asks} may attend to nothing: all its weights are 0`, parts };
    }
    const power = (s) => (t === 1 ? `exp(${written(s, decimals)})` : `exp(${bracket(s, decimals)} ÷ ${written(t)})`);
    const is = equals([...scores.filter(Number.isFinite)], decimals);
    return {
      text: `softmax over the row of ${asks}\n${is} ${power(scores[column])} ÷ [${scores.map(power).join(" + ")}]\n= ${long(value)}`,
      parts,
    };
  }
  const weights = result.weights[row];
  const values = bench.value.map((v) => v[column]);
  return {
    text: `output of ${asks}, number ${column}: weights × column ${column} of V\n` +
      `${equals([...weights, ...values])} ${product(weights, values)}\n= ${long(value)}`,
    parts: new Set([...along("weights", row, weights.length), ...values.map((_, j) => `value ${j} ${column}`)]),
  };
}
