/** The tree of a beam search: what became of each entry, what was found, how it ranks, where it is drawn. */

/**
 * @typedef {object} Tree
 * @property {number[][]} parents (step, slot): the slot of the step before, or -1 for an empty slot
 * @property {number[][]} ended   (step, slot): 1 where the word ends the sentence
 * @property {number[][]} logs    (step, slot): log-probability of all words so far
 * @property {boolean} cut        what is open at the last step counts as a hypothesis
 *
 * @typedef {{step: number, slot: number, total: number, length: number, whole: boolean}} Hypothesis
 */

/** What a log-probability is divided by; `length` counts the end mark. */
export const lengthPenalty = (length, alpha) => ((5 + length) / 6) ** alpha;

/** The slots on the way from the first step to an entry. @returns {number[]} one for each step */
export function trace(parents, step, slot) {
  const slots = [];
  for (let here = slot, at = step; at >= 0; here = parents[at][here], at--) slots.unshift(here);
  return slots;
}

/** What was found up to a step, in the order of the search. @param {Tree} tree @returns {Hypothesis[]} */
export function foundBy({ parents, ended, logs, cut }, now) {
  const found = [];
  const add = (step, slot, whole) => found.push({ step, slot, total: logs[step][slot], length: step + 1, whole });
  for (let step = 0; step <= now; step++) ended[step].forEach((end, slot) => end && add(step, slot, true));
  const last = parents.length - 1;
  if (cut && now === last) parents[last].forEach((p, slot) => p >= 0 && !ended[last][slot] && add(last, slot, false));
  return found;
}

/** Hypotheses with their scores, the best first; equal ones stay in the order of the search. */
export function ranked(found, alpha) {
  const scored = found.map((one) => ({ ...one, score: one.total / lengthPenalty(one.length, alpha) }));
  return scored.sort((a, b) => b.score - a.score);
}

/**
 * What has become of each entry by a step: "live" leads to what a slot holds now, "found" to a hypothesis,
 * "dead" to neither, and a slot may be "empty".
 * @param {Tree} tree @returns {string[][]} (step up to now, slot)
 */
export function fates({ parents, ended }, now) {
  const fate = parents.slice(0, now + 1).map((row, step) => row.map((parent, slot) =>
    parent < 0 ? "empty" : ended[step][slot] ? "found" : step === now ? "live" : "dead"));
  for (let step = now; step > 0; step--) {
    parents[step].forEach((parent, slot) => {
      const own = fate[step][slot];
      if (own === "live" || (own === "found" && fate[step - 1][parent] === "dead")) fate[step - 1][parent] = own;
    });
  }
  return fate;
}

const LEFT = 38; // the numbers of the slots stand left of it
const TOP = 30; // and those of the steps above it
const BOX = 38;
const GAP = 34; // between two columns, for the lines
const RANK = 9; // how far a rank stands out above its entry: no line goes there

/**
 * One column a step and one row a slot, as narrow as the words allow. What has no room is scrolled.
 * @param {{words: string[], steps: number, slots: number, width: number, widthOf: (text: string) => number}} asked
 *   words: all that are drawn, the start among them
 */
export function beamLayout({ words, steps, slots, width, widthOf }) {
  const widest = words.reduce((most, word) => Math.max(most, widthOf(word)), 0);
  const box = Math.ceil(Math.max(56, Math.min(116, widest + 16)));
  const room = (width - LEFT - 2) / (steps + 1);
  const pitch = Math.floor(Math.max(box + GAP, Math.min(box + 80, room)));
  return {
    box, tall: BOX, left: LEFT, top: TOP, pitch, row: BOX + 12,
    /** Column 0 is the start, and a step's column has its number, counted from one. */
    x: (column) => LEFT + column * pitch,
    y: (slot) => TOP + slot * (BOX + 12),
    /** Left, top, width and height of a rank as wide as its text, at the right end of its entry's upper edge. */
    rank: (column, slot, text) => [LEFT + column * pitch + box - text - 10, TOP + slot * (BOX + 12) - RANK, text + 8, RANK + 3],
    width: LEFT + (steps + 1) * pitch,
    height: TOP + slots * (BOX + 12) + 2,
  };
}
