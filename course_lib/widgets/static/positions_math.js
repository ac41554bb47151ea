/** Sinusoidal positions and how alike they are, in double precision. */

/**
 * sin(pos / base^(2i/d)) in the even places, cos of the same in the odd ones.
 * @param {number} length @param {number} width @param {number} base @returns {number[][]}
 */
export function sinusoidal(length, width, base) {
  return Array.from({ length }, (_, position) => Array.from({ length: width }, (_, place) => {
    const angle = position / base ** ((2 * Math.floor(place / 2)) / width);
    return place % 2 ? Math.cos(angle) : Math.sin(angle);
  }));
}

/**
 * The mean cosine of two positions that stand a distance apart, for every distance.
 * @param {ArrayLike<number>[]} code @returns {number[]}
 */
export function similarityByDistance(code) {
  const sizes = code.map((row) => Math.sqrt(Array.from(row).reduce((sum, x) => sum + x * x, 0)));
  return code.map((_, distance) => {
    let total = 0;
    for (let p = 0; p + distance < code.length; p++) {
      let dot = 0;
      for (let i = 0; i < code[p].length; i++) dot += code[p][i] * code[p + distance][i];
      total += dot / (sizes[p] * sizes[p + distance] || 1);
    }
    return total / (code.length - distance);
  });
}
