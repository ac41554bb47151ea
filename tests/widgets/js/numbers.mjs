/** The numbers that tests/widgets/test_node.py computed in Python. */
import { readFileSync } from "node:fs";

export const numbers = JSON.parse(readFileSync(process.env.NUMBERS, "utf-8"));
export const module = (name) => import(new URL(`../../../course_lib/widgets/static/${name}.js`, import.meta.url));

/** The largest difference of two nested lists of numbers. */
export function difference(mine, theirs) {
  const [a, b] = [[mine].flat(9), [theirs].flat(9)];
  if (a.length !== b.length) return Infinity;
  return a.reduce((most, value, i) => Math.max(most, value === b[i] ? 0 : Math.abs(value - b[i])), 0);
}
