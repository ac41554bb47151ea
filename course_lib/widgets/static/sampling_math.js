/** The distribution that a next token is drawn from: temperature, then top-k, then top-p. */

/**
 * @param {ArrayLike<number>} logits
 * @param {{temperature: number, topK: number, topP: number}} how  topK 0 means all; temperature 0 means greedy
 * @returns {{probabilities: number[], kept: boolean[]}} in the order of `logits`; what is not kept has 0
 */
export function nextToken(logits, { temperature, topK, topP }) {
  const scores = Array.from(logits);
  const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  const top = scores[order[0]];
  const powers = scores.map((score, i) =>
    temperature > 0 ? Math.exp((score - top) / temperature) : i === order[0] ? 1 : 0);
  const among = order.slice(0, topK || order.length);
  const sum = among.reduce((total, i) => total + powers[i], 0);
  const kept = scores.map(() => false);
  let before = 0;
  // A token is kept while those ahead of it have not reached top-p: the one that crosses it stays.
  for (const i of among) {
    if (before >= topP) break;
    kept[i] = powers[i] > 0;
    before += powers[i] / sum;
  }
  const left = powers.reduce((total, power, i) => total + (kept[i] ? power : 0), 0);
  return { probabilities: powers.map((power, i) => (kept[i] ? power / left : 0)), kept };
}
