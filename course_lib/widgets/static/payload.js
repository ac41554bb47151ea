/**
 * Arrays as course_lib/widgets/payload.py packs them, unpacked one matrix at a time.
 *
 * @typedef {object} Packed
 * @property {number[]} shape   every axis; the last two are the rows and columns of one matrix
 * @property {"float32"|"root"|"byte"} kind
 * @property {number} [top]     the value of the highest level (kind "root")
 * @property {number} [levels]  the highest level (kind "root")
 * @property {Packed} [peaks]   (…, row, 2): the column and the exact value of each row's largest (kind "root")
 * @property {number[]} ends    where each matrix ends in `data`, in characters
 * @property {string} data      base64 of raw deflate, one stream a matrix
 */

/** @param {string} text base64 @returns {Uint8Array} */
export function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** @param {string} text base64 of raw deflate @returns {Promise<ArrayBuffer>} */
export function inflate(text) {
  const stream = new Blob([bytesOf(text)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer();
}

/**
 * The values behind the stored numbers. "root" keeps the square root of a value in equal steps, since
 * attention weights are mostly small and small differences among them can be seen.
 *
 * @param {Packed} packed @param {ArrayBuffer} buffer @returns {Float32Array}
 */
export function valuesOf(packed, buffer) {
  if (packed.kind === "float32") return new Float32Array(buffer);
  const levels = new Uint8Array(buffer);
  if (packed.kind === "byte") return Float32Array.from(levels);
  const table = Array.from({ length: packed.levels + 1 }, (_, q) => packed.top * (q / packed.levels) ** 2);
  const values = new Float32Array(levels.length);
  for (let i = 0; i < levels.length; i++) values[i] = table[levels[i]];
  return values;
}

/** Reads the matrices of one packed array; what was read is kept, up to 64 matrices. */
export class Matrices {
  /** @param {Packed} packed */
  constructor(packed) {
    this.packed = packed;
    this.shape = packed.shape;
    [this.rows, this.columns] = packed.shape.slice(-2);
    this.peaks = packed.peaks && new Matrices(packed.peaks);
    /** @type {Map<number, Float32Array>} */
    this.seen = new Map();
  }

  /** @param {number} index which matrix, counted along the leading axes @returns {Promise<Float32Array>} */
  async at(index) {
    const found = this.seen.get(index);
    if (found) return found;
    const { ends, data } = this.packed;
    const values = valuesOf(this.packed, await inflate(data.slice(index ? ends[index - 1] : 0, ends[index])));
    if (this.peaks) {
      const peaks = await this.peaks.at(index);
      for (let i = 0; i < values.length; i++) {
        // A neighbour rounded up must not pass the largest: what a query attends to most would be wrong.
        const row = Math.floor(i / this.columns);
        const column = peaks[2 * row];
        const peak = peaks[2 * row + 1];
        values[i] = i % this.columns === column ? peak : Math.min(values[i], peak);
      }
    }
    if (this.seen.size >= 64) this.seen.delete(this.seen.keys().next().value);
    this.seen.set(index, values);
    return values;
  }

  /** How far a shown value may be from the true one, in words for the reader. */
  get precision() {
    if (this.packed.kind !== "root") return "Values are exact to 7 digits.";
    const { top, levels } = this.packed;
    const step = top / levels;
    return `The largest value of each row is exact to 7 digits; the others are stored in ${levels + 1} steps, ` +
      `within ${step.toPrecision(2)} where large and finer where small.`;
  }
}
