/** generation_view: generation step by step, with the distribution each token was drawn from. */
import { chipAt, chipLayout, chipStep, paintChips } from "./chips.js";
import { fit, plain, quoted, short, visible } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { measure } from "./pen.js";
import { nextToken } from "./sampling_math.js";
import { tabbed, View } from "./view.js";

const BARS = 12;

/**
 * @typedef {object} GenerationData
 * @property {string} title
 * @property {string} note
 * @property {{tokens: string[], candidates: string[], logits: import("./payload.js").Packed, chosen: string,
 *   attention: import("./payload.js").Packed | null}[]} steps   logits: (1, 1, candidate), the largest first
 * @property {number} temperature @property {number} topK @property {number} topP
 * @property {[number, number, number] | null} cache   layers, heads, numbers in one key
 */

/** @param {HTMLElement} element @param {GenerationData} data */
export async function mount(element, data) {
  const view = new View(element, { title: data.title, note: data.note });
  const { steps } = data;
  const how = { temperature: data.temperature, topK: data.topK, topP: data.topP };
  const logits = await Promise.all(steps.map((step) => new Matrices(step.logits).at(0)));
  const attention = await Promise.all(steps.map((step) => step.attention && new Matrices(step.attention).at(0)));
  let now = 0;
  let token = 0;
  let bar = 0;
  let drawn = nextToken(logits[0], how);

  const previous = view.button("‹ Previous", () => go(now - 1));
  const next = view.button("Next ›", () => go(now + 1), { class: "main" });
  const told = (n) => `${n} of ${steps.length}`;
  const slider = view.slider("Step", { min: 1, max: steps.length, step: 1, value: 1, show: told }, (n) => go(n - 1));
  view.slider("Temperature", { min: 0, max: 3, step: 0.05, value: how.temperature, show: (x) => (x ? x.toFixed(2) : "0, greedy") },
    (temperature) => change({ temperature }));
  const most = Math.min(64, Math.max(...steps.map((step) => step.candidates.length)));
  view.slider("Top-k", { min: 0, max: most, step: 1, value: Math.min(most, how.topK), show: (k) => (k ? String(k) : "all") },
    (topK) => change({ topK }));
  view.slider("Top-p", { min: 0.05, max: 1, step: 0.01, value: how.topP, show: (p) => p.toFixed(2) }, (topP) => change({ topP }));

  const row = (caption) => ({ caption, layout: (width) => chipLayout(steps[now].tokens, { width, under: attention[now] ? 16 : 0 }) });
  const sequence = view.surface({
    ...row(attention.some(Boolean) ? "The sequence so far, shaded by what the newest token attends to" : "The sequence so far"),
    label: "The sequence so far. Left and right move over its tokens.",
    paint(pen, at) {
      const seen = attention[now];
      paintChips(pen, at, view.theme, {
        weight: (i) => (seen ? seen[i] : null), top: seen ? seen.reduce((a, b) => Math.max(a, b), 0) : 1,
        cursor: token, digits: Boolean(seen),
      });
    },
    point(x, y, pressed) {
      const index = chipAt(sequence.layout, x, y);
      if (index >= 0 && (pressed || index !== token)) at(index);
    },
    key({ key }) {
      const to = chipStep(sequence.layout, token, key);
      if (to === null) return false;
      at(to);
      return true;
    },
    enter: () => at(token),
  });
  sequence.panel.style.flexBasis = "100%";

  const bars = view.surface({
    label: "Next-token probabilities, the likeliest first. Up and down move over them.",
    caption: "The next token: probability before (outline) and after (filled) temperature, top-k and top-p",
    layout: (width) => ({ width: Math.min(width, 460), height: Math.min(BARS, steps[now].candidates.length) * 24 + 6 }),
    paint(pen, { width }) {
      const { theme } = view;
      const plainly = nextToken(logits[now], { temperature: 1, topK: 0, topP: 1 }).probabilities;
      const top = Math.max(...plainly, ...drawn.probabilities);
      const room = width - 190;
      steps[now].candidates.slice(0, BARS).forEach((candidate, i) => {
        const y = 4 + i * 24;
        const chosen = candidate === steps[now].chosen;
        const fill = drawn.kept[i] ? theme.text : theme.muted;
        const text = fit(visible(candidate), 110, (t) => measure(t, 13, chosen));
        if (i === bar) pen.rect(1, y - 1, width - 2, 22, { stroke: theme.edge, round: 4 });
        pen.text(118, y + 10, text, { fill, align: "right", bold: chosen });
        pen.rect(126, y + 3, Math.max(1, (drawn.probabilities[i] / top) * room), 14, { fill: chosen ? theme.gold : theme.accent, round: 2 });
        pen.rect(126, y + 3, Math.max(1, (plainly[i] / top) * room), 14, { stroke: theme.edge, round: 2 });
        pen.text(width - 6, y + 10, drawn.kept[i] ? short(drawn.probabilities[i]) : "cut", { fill: theme.muted, size: 12, align: "right" });
      });
    },
    point(x, y) {
      const index = Math.floor((y - 4) / 24);
      if (index >= 0 && index < Math.min(BARS, steps[now].candidates.length) && index !== bar) over(index);
    },
    key({ key }) {
      const last = Math.min(BARS, steps[now].candidates.length) - 1;
      const to = { ArrowUp: bar - 1, ArrowDown: bar + 1, Home: 0, End: last, Enter: bar }[key];
      if (to === undefined) return false;
      over(Math.max(0, Math.min(last, to)));
      return true;
    },
    enter: () => over(bar),
  });

  if (data.cache) {
    const [layers, heads, width] = data.cache;
    const numbers = () => 2 * layers * heads * width * steps[now].tokens.length;
    view.surface({
      label: "The cache of keys and values grows by one column a token.",
      caption: "The cache: one column of keys and values a token",
      layout: (room) => ({ width: Math.min(room, 330), height: 30 + Math.min(layers, 12) * 14 }),
      paint(pen, at) {
        const { theme } = view;
        const total = steps.at(-1).tokens.length;
        const cell = Math.min(14, (at.width - 8) / total);
        for (let layer = 0; layer < Math.min(layers, 12); layer++) {
          for (let t = 0; t < total; t++) {
            const fill = t < steps[now].tokens.length - 1 ? theme.scale[3] : t < steps[now].tokens.length ? theme.gold : theme.raised;
            pen.rect(4 + t * cell, 2 + layer * 14, Math.max(1, cell - 2), 12, { fill, round: 2 });
          }
        }
        const text = `2 × ${layers} × ${heads} × ${width} × ${steps[now].tokens.length} = ${numbers().toLocaleString("en")} numbers`;
        pen.text(4, at.height - 10, text, { fill: theme.muted, size: 12 });
      },
    });
  }

  function at(index) {
    token = index;
    sequence.redraw();
    const { tokens } = steps[now];
    const weight = attention[now] ? `: ${short(attention[now][index])}` : "";
    view.say(attention[now] ? `the newest token ${quoted(tokens.at(-1))} attends to ${quoted(tokens[index])}${weight}` : `token ${index}: ${quoted(tokens[index])}`);
  }
  function over(index) {
    bar = index;
    bars.redraw();
    const chosen = steps[now].candidates[index] === steps[now].chosen ? ", the token that was chosen" : "";
    view.say(`next token ${quoted(steps[now].candidates[index])}: ${drawn.kept[index] ? short(drawn.probabilities[index]) : "cut off"}${chosen}`);
  }
  function change(changes) {
    Object.assign(how, changes);
    drawn = nextToken(logits[now], how);
    bars.redraw();
    view.say(`${drawn.kept.filter(Boolean).length} of ${drawn.kept.length} tokens can be drawn; the likeliest, ${quoted(steps[now].candidates[0])}, has ${short(drawn.probabilities[0])}`);
  }
  function go(to) {
    now = Math.max(0, Math.min(steps.length - 1, to));
    drawn = nextToken(logits[now], how);
    token = steps[now].tokens.length - 1;
    bar = 0;
    slider.value = now + 1;
    slider.setAttribute("aria-valuetext", told(now + 1));
    slider.nextElementSibling.textContent = told(now + 1);
    previous.disabled = now === 0;
    next.disabled = now === steps.length - 1;
    view.redraw();
    const index = steps[now].candidates.indexOf(steps[now].chosen);
    view.say(`step ${now + 1} of ${steps.length}: after ${quoted(steps[now].tokens.at(-1))} came ${quoted(steps[now].chosen)}` +
      (index >= 0 ? `, probability ${short(drawn.probabilities[index])}` : ""));
  }
  go(0);
  view.numbers = () => tabbed([["token", "logit", "probability"],
    ...steps[now].candidates.map((c, i) => [visible(c), plain(logits[now][i]), plain(drawn.probabilities[i])])]);
  return view;
}

export default { render: liveWith(mount) };
