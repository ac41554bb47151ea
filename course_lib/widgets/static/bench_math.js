/**
 * Scaled dot-product attention in double precision, stage by stage:
 * softmax(mask(Q Kᵀ / √d) / temperature) V.
 *
 * @typedef {number[][]} Table
 * @typedef {object} Bench
 * @property {Table} query  (query, d)
 * @property {Table} key    (key, d)
 * @property {Table} value  (key, d_v)
 * @property {boolean[][]} mask true where a query may attend
 * @property {boolean} scaled
 * @property {boolean} masked
 * @property {number} temperature
 */

export const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** A row of weights; zeros when nothing may be attended to. @param {number[]} row @param {number} temperature */
export function softmax(row, temperature = 1) {
  const top = Math.max(...row);
  if (top === -Infinity) return row.map(() => 0);
  const powers = row.map((score) => Math.exp((score - top) / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** @param {Bench} bench @returns {{scores: Table, scaled: Table, masked: Table, weights: Table, output: Table}} */
export function attend({ query, key, value, mask, scaled, masked, temperature }) {
  const root = scaled ? Math.sqrt(key[0].length) : 1;
  const scores = query.map((q) => key.map((k) => dot(q, k)));
  const divided = scores.map((row) => row.map((score) => score / root));
  const left = divided.map((row, i) => row.map((score, j) => (masked && !mask[i][j] ? -Infinity : score)));
  const weights = left.map((row) => softmax(row, temperature));
  const output = weights.map((row) => value[0].map((_, c) => row.reduce((sum, w, j) => sum + w * value[j][c], 0)));
  return { scores, scaled: divided, masked: left, weights, output };
}
