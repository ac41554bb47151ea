/** Tokens and numbers as text that can be seen, read aloud, and never mistaken for markup. */

const SYMBOLS = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽", "\u3000": "⬚" };
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
// The rule of course_lib/widgets/picture.py, character for character. Hidden are controls, format characters,
// lone surrogates, line separators and noncharacters: they are invisible, or able to reorder their neighbours.
// A joiner that belongs to the spelling is not: inside an emoji, and between Arabic or Indic letters.
const SPELT = "(?<=[\\p{So}\\p{Sk}\\ufe0f])\\u200d(?=[\\p{So}\\u2194])|(?<=[\\u0600-\\u0dff])[\\u200c\\u200d](?=[\\u0600-\\u0dff])";
const HIDDEN = new RegExp(`(?![\\n\\t\\r]|${SPELT})[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Zl}\\p{Zp}\\p{Noncharacter_Code_Point}]`, "gu");

const symbols = (text) => Array.from(text, (c) => SYMBOLS[c] ?? "␣").join("");

/**
 * A token with nothing hidden: the empty one is ∅, line ends and blanks at its ends are symbols, and an
 * invisible character is its number.
 * @param {string} token @returns {string}
 */
export function visible(token) {
  if (token === "") return "∅";
  return token
    .replace(HIDDEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`)
    .replace(/[\n\t\r]/g, symbols)
    .replace(/^\p{Zs}+|\p{Zs}+$/gu, symbols);
}

/** A token inside a sentence: right-to-left text is kept from reordering what stands around it. */
export function quoted(token) {
  const text = visible(token);
  return RIGHT_TO_LEFT.test(text) ? `'\u2068${text}\u2069'` : `'${text}'`;
}

/**
 * The longest beginning of `text` that fits, with an ellipsis where something was left out.
 * @param {string} text @param {number} width @param {(text: string) => number} measure
 */
export function fit(text, width, measure) {
  if (measure(text) <= width) return text;
  const letters = Array.from(text);
  let low = 0;
  let high = letters.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (measure(letters.slice(0, middle).join("") + "…") <= width) low = middle;
    else high = middle - 1;
  }
  return letters.slice(0, low).join("") + "…";
}

/** A number as short as it can be read: 0.62, 0.043, 3.1e-6. @param {number} value */
export function short(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  let text;
  if (size === 0) text = "0";
  else if (size >= 1000) text = size.toPrecision(4);
  else if (size >= 0.0995) text = size.toFixed(2);
  else if (size >= 0.0001) text = String(Number(size.toPrecision(2)));
  else text = size.toExponential(1);
  return value < 0 ? `−${text}` : text;
}

/** A number for a small cell: two decimals, or three digits. @param {number} value */
export function cell(value) {
  if (!Number.isFinite(value)) return short(value);
  const text = Math.abs(value) < 9.995 ? value.toFixed(2) : String(Number(value.toPrecision(3)));
  return text.replace("-", "−").replace("−0.00", "0.00");
}

/** A number with the digits that single precision holds. @param {number} value */
export function long(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(7))).replace("-", "−") : short(value);
}

/** A number for a spreadsheet: as exact as `long`, in plain characters. @param {number} value */
export const plain = (value) => (Number.isFinite(value) ? Number(value.toPrecision(7)) : NaN);
