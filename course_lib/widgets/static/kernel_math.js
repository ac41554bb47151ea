/** Nadaraya-Watson regression in double precision: kernels as scores, then the softmax of attention. */
import { dot, softmax } from "./bench_math.js";

/** The logarithm of each kernel at u = (query - key) / width, up to a constant, which cancels. */
export const SCORES = {
  gaussian: (u) => -u * u / 2,
  boxcar: (u) => (Math.abs(u) <= 1 ? 0 : -Infinity),
  triangular: (u) => Math.log(Math.max(0, 1 - Math.abs(u))),
  epanechnikov: (u) => Math.log(Math.max(0, 1 - u * u)),
};

/**
 * A query whose window is empty gets weights of zero, and so the estimate zero.
 * @param {{keys: number[], values: number[], queries: number[]}} data
 * @param {keyof typeof SCORES} kernel @param {number} width
 * @returns {{weights: number[][], estimates: number[]}}
 */
export function regress({ keys, values, queries }, kernel, width) {
  const weights = queries.map((q) => softmax(keys.map((k) => SCORES[kernel]((q - k) / width))));
  return { weights, estimates: weights.map((row) => dot(row, values)) };
}
