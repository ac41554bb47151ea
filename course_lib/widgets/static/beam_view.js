/** beam_view: a beam search step by step, as a tree, with the hypotheses it found. */
import { beamLayout, fates, foundBy, lengthPenalty, ranked, trace } from "./beam_math.js";
import { fit, plain, quoted, short, visible } from "./labels.js";
import { liveWith } from "./live.js";
import { Matrices } from "./payload.js";
import { measure } from "./pen.js";
import { h, tabbed, View } from "./view.js";

const LISTED = 12;
const LINE = 26;

// The tree is scrolled by itself where it is long, and the numbers of its slots stay in sight. The padding is the
// focus ring's.
const STYLE = `
.pane { overflow-x: auto; padding: 6px 0; margin: -6px; }
.tree { display: grid; width: max-content; padding: 0 6px; }
.tree > * { grid-area: 1 / 1; }
.slots { position: sticky; left: 0; justify-self: start; width: 26px; background: var(--surface); color: var(--muted);
  border-right: 1px solid var(--line); font-size: 11px; line-height: 1; }
.slots span { position: absolute; width: 16px; text-align: center; transform: translateY(-50%); }
`;

/**
 * @typedef {object} BeamData
 * @property {string} title
 * @property {number[][]} parents (step, slot): the slot of the step before, or -1 for an empty slot
 * @property {string[][]} words   (step, slot)
 * @property {import("./payload.js").Packed} logs (1, 1, step, slot)
 * @property {number[][]} ended   (step, slot): 1 where the word ends the sentence
 * @property {boolean} cut        what is open at the last step counts as a hypothesis
 * @property {string} start
 * @property {number} alpha
 */

/** @param {HTMLElement} element @param {BeamData} data */
export async function mount(element, data) {
  const { parents, words, ended } = data;
  const [steps, slots] = [parents.length, parents[0].length];
  const flat = await new Matrices(data.logs).at(0);
  const tree = { parents, ended, cut: data.cut, logs: parents.map((_, s) => Array.from(flat.subarray(s * slots, (s + 1) * slots))) };
  const view = new View(element, { title: data.title, note: `Numbers are exact to 7 digits. The search itself used α = ${short(data.alpha)}.` });
  const now = { step: 0, alpha: data.alpha };
  const cursor = { step: 0, slot: 0 };
  let fate = [];
  let list = [];
  const all = foundBy(tree, steps - 1).length;

  const beginning = (step, slot) => trace(parents, step, slot).map((s, at) => words[at][s]);
  const textOf = ({ step, slot, whole }) => {
    const said = beginning(step, slot);
    return (whole ? said.slice(0, -1) : said).map(visible).join(" ") || visible("");
  };
  const isAt = ({ step, slot }, other) => step === other.step && slot === other.slot;
  const held = (step) => parents[step].flatMap((parent, slot) => (parent < 0 ? [] : [slot]));

  const previous = view.button("‹ Previous", () => go(now.step - 1));
  const next = view.button("Next ›", () => go(now.step + 1), { class: "main" });
  const told = (n) => `${n} of ${steps}`;
  const slider = view.slider("Step", { min: 1, max: steps, step: 1, value: 1, show: told }, (n) => go(n - 1));
  view.slider("Length penalty α", { min: 0, max: Math.max(2, Math.ceil(data.alpha)), step: 0.01, value: data.alpha,
    show: (alpha) => alpha.toFixed(2) }, (alpha) => {
    now.alpha = alpha;
    show();
    view.say(`α ${alpha.toFixed(2)}: ` + (list.length
      ? `the best of ${list.length} is ${quoted(textOf(list[0]))}, score ${short(list[0].score)}` : "no hypothesis to rank yet"));
  });

  const shown = [data.start, ...words.flat()].map(visible);
  const picture = view.surface({
    label: `The tree of ${steps} steps by ${slots} slots. Left and right go through the steps, up and down over the slots.`,
    caption: "Bold: what the slots hold now. Thin: led to a hypothesis, whose rank stands on its last word. Dashed: given up.",
    layout: (width) => beamLayout({ words: shown, steps, slots, width, widthOf: (t) => measure(t, 13, true) }),
    paint(pen, at) {
      const { theme } = view;
      const small = (x, y, text, style) => pen.text(x, y, text, { fill: theme.muted, size: 11, align: "center", ...style });
      small(0, 10, "slot", { align: "left" });
      small(at.x(0) + at.box / 2, 10, "step");
      for (let step = 0; step < steps; step++) {
        const here = step === now.step;
        small(at.x(step + 1) + at.box / 2, 10, String(step + 1), { bold: here, fill: here ? theme.text : theme.muted });
      }
      for (let slot = 0; slot < slots; slot++) small(8, at.y(slot) + at.tall / 2, String(slot + 1));

      const edge = (step, slot, style) => {
        const [x0, x1] = [at.x(step) + at.box, at.x(step + 1)];
        const [y0, y1] = [step ? parents[step][slot] : 0, slot].map((s) => at.y(s) + at.tall / 2);
        const bend = (x0 + x1) / 2;
        pen.path([[x0, y0], [bend, y0], [bend, y1], [x1, y1]], { curve: true, ...style });
      };
      // The way to the cursor is a broad band below everything else.
      trace(parents, cursor.step, cursor.slot).forEach((slot, step) => edge(step, slot, { stroke: theme.line, line: 11 }));
      const strokes = {
        dead: { stroke: theme.edge, line: 1, dash: [3, 4] },
        found: { stroke: theme.gold, line: 1.5 },
        live: { stroke: theme.accent, line: 3 },
      };
      for (const kind of Object.keys(strokes)) {
        fate.forEach((row, step) => row.forEach((own, slot) => own === kind && edge(step, slot, strokes[kind])));
      }

      const box = (column, slot, word, kind, log) => {
        const [x, y] = [at.x(column), at.y(slot)];
        const live = kind === "live";
        pen.rect(x, y, at.box, at.tall, { fill: kind === "dead" ? theme.surface : theme.raised, round: 6, ...strokes[kind], line: live ? 2 : 1 });
        const text = fit(visible(word), at.box - 12, (t) => measure(t, 13, live));
        const fill = kind === "dead" ? theme.muted : theme.text;
        pen.text(x + at.box / 2, y + (log === undefined ? at.tall / 2 : 13), text, { fill, align: "center", bold: live });
        if (log !== undefined) small(x + at.box / 2, y + 28, short(log));
      };
      box(0, 0, data.start, "live");
      fate.forEach((row, step) => row.forEach((own, slot) => {
        if (own === "empty") small(at.x(step + 1) + at.box / 2, at.y(slot) + at.tall / 2, "empty");
        else box(step + 1, slot, words[step][slot], own, tree.logs[step][slot]);
      }));
      const [x, y] = [at.x(cursor.step + 1), at.y(cursor.slot)];
      pen.rect(x - 2, y - 2, at.box + 4, at.tall + 4, { stroke: theme.halo, line: 4, round: 7 });
      pen.rect(x - 2, y - 2, at.box + 4, at.tall + 4, { stroke: theme.text, line: 2, round: 7 });
      list.forEach((one, i) => {
        const rank = `#${i + 1}`;
        const [left, top, width, height] = at.rank(one.step + 1, one.slot, measure(rank, 10, true));
        pen.rect(left, top, width, height, { fill: theme.gold, round: 3 });
        small(left + width / 2, top + height / 2, rank, { fill: theme.onAccent, size: 10, bold: true });
      });
    },
    point(x, y, pressed) {
      const at = picture.layout;
      const step = Math.floor((x - at.left) / at.pitch) - 1;
      const slot = Math.floor((y - at.top) / at.row);
      if (step < 0 || step >= steps) return;
      if (pressed && (y < at.top || step > now.step)) return go(step);
      if (step > now.step || !(parents[step][slot] >= 0)) return;
      if (pressed || !isAt(cursor, { step, slot })) move(step, slot);
    },
    key({ key }) {
      const to = { ArrowLeft: now.step - 1, ArrowRight: now.step + 1, Home: 0, End: steps - 1 }[key];
      if (to !== undefined) go(to);
      else if (key === "ArrowUp" || key === "ArrowDown") {
        const here = held(cursor.step);
        const place = here.indexOf(cursor.slot) + (key === "ArrowUp" ? -1 : 1);
        move(cursor.step, here[Math.max(0, Math.min(here.length - 1, place))]);
      } else if (key === "Enter") tell();
      else return false;
      return true;
    },
    enter: () => tell(),
  });
  picture.panel.style.flexBasis = "100%";
  const number = (text, y) => h("span", { style: `top: ${y}px` }, text);
  const { tall, y } = picture.layout;
  const numbers = h("div", { class: "slots", "aria-hidden": "true" }, number("slot", 10),
    ...tree.parents[0].map((_, slot) => number(String(slot + 1), y(slot) + tall / 2)));
  const pane = h("div", { class: "pane" }, h("div", { class: "tree" }, picture.canvas, numbers));
  picture.panel.append(h("style", {}, STYLE), pane);

  const ranks = view.surface({
    label: "The hypotheses found so far, the best first. Up and down move over them and show their way in the tree.",
    caption: "Hypotheses found so far: score = log-probability ÷ ((5 + length) / 6)^α",
    // As high as it will be at the last step, so that nothing below it moves.
    layout: (width) => ({ width, height: 24 + LINE * (Math.max(1, Math.min(LISTED, all)) + (all > LISTED ? 1 : 0)), wide: width > 460 }),
    paint(pen, { width, wide }) {
      const { theme } = view;
      const [score, sum, text] = wide ? [84, 250, 268] : [84, 84, 100];
      const write = (x, y, words, style) => pen.text(x, y, words, { fill: theme.muted, size: 12, ...style });
      write(score, 10, "score", { align: "right", size: 11 });
      if (wide) write(sum, 10, "log-probability ÷ penalty", { align: "right", size: 11 });
      write(text, 10, "words", { size: 11 });
      if (!list.length) write(4, 24 + LINE / 2, "none yet");
      list.slice(0, LISTED).forEach((one, i) => {
        const y = 24 + LINE * (i + 0.5);
        const style = { fill: theme.text, size: 13, bold: i === 0 };
        if (isAt(one, cursor)) pen.rect(1, y - LINE / 2 + 1, width - 2, LINE - 2, { stroke: theme.text, line: 1.5, round: 4 });
        write(8, y, `#${i + 1}`, style);
        write(score, y, short(one.score), { ...style, align: "right" });
        if (wide) write(sum, y, `${short(one.total)} ÷ ${short(lengthPenalty(one.length, now.alpha))}`, { align: "right" });
        const words = textOf(one) + (one.whole ? "" : " … (cut off)");
        write(text, y, fit(words, width - text - 8, (t) => measure(t, 13, i === 0)), style);
      });
      if (list.length > LISTED) write(8, 24 + LINE * (LISTED + 0.5), `… and ${list.length - LISTED} more`);
    },
    point(x, y, pressed) {
      const index = Math.floor((y - 24) / LINE);
      if (pressed && index >= 0 && index < Math.min(LISTED, list.length)) choose(index);
    },
    key({ key }) {
      const [at, last] = [list.findIndex((one) => isAt(one, cursor)), Math.min(LISTED, list.length) - 1];
      const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: last, Enter: at }[key];
      if (to === undefined) return false;
      choose(Math.max(0, Math.min(last, to)));
      return true;
    },
  });
  ranks.panel.style.flexBasis = "100%";

  function show() {
    fate = fates(tree, now.step);
    list = ranked(foundBy(tree, now.step), now.alpha);
    view.redraw();
  }
  function tell() {
    const { step, slot } = cursor;
    const before = step ? words[step - 1][parents[step][slot]] : data.start;
    const place = list.findIndex((one) => isAt(one, cursor));
    const became = place >= 0
      ? `; ${list[place].whole ? "ended" : "cut off"}, hypothesis ${place + 1} of ${list.length}, score ${short(list[place].score)}`
      : fate[step][slot] === "dead" ? "; given up" : "";
    view.say(`step ${step + 1}, slot ${slot + 1}: ${quoted(words[step][slot])} after ${quoted(before)}, ` +
      `log-probability ${short(tree.logs[step][slot])}${became}`, `${beginning(step, slot).map(visible).join(" ")}`);
  }
  function move(step, slot) {
    Object.assign(cursor, { step, slot });
    view.redraw();
    tell();
  }
  function choose(index) {
    const one = list[index];
    if (!one) return view.say("no hypothesis yet");
    Object.assign(cursor, { step: one.step, slot: one.slot });
    view.redraw();
    view.say(`hypothesis ${index + 1} of ${list.length}: ${quoted(textOf(one))}${one.whole ? "" : ", cut off"}, score ${short(one.score)}: ` +
      `log-probability ${short(one.total)}, divided by ${short(lengthPenalty(one.length, now.alpha))} for length ${one.length}`);
  }

  /** Shows one step; the cursor follows its way through the tree where it can. */
  function go(to) {
    const step = Math.max(0, Math.min(steps - 1, to));
    const here = held(step);
    const way = step < cursor.step ? trace(parents, cursor.step, cursor.slot)[step]
      : step === cursor.step ? cursor.slot
      : step === cursor.step + 1 ? here.find((slot) => parents[step][slot] === cursor.slot) : undefined;
    now.step = step;
    Object.assign(cursor, { step, slot: way ?? here[0] });
    slider.value = step + 1;
    slider.setAttribute("aria-valuetext", told(step + 1));
    slider.nextElementSibling.textContent = told(step + 1);
    previous.disabled = step === 0;
    next.disabled = step === steps - 1;
    show();
    // The newest column is brought into sight.
    const at = picture.layout;
    const right = at.x(step + 2) - pane.clientWidth + 12;
    if (right > pane.scrollLeft || at.x(step) - at.left < pane.scrollLeft) pane.scrollLeft = Math.max(0, right);
    tell();
  }
  cursor.slot = held(0)[0];
  go(0);
  view.numbers = () => tabbed([
    ["step", "slot", "after slot", "word", "log-probability"],
    ...parents.flatMap((row, step) => held(step).map((slot) =>
      [step + 1, slot + 1, step ? row[slot] + 1 : "", visible(words[step][slot]), plain(tree.logs[step][slot])])),
    ["hypothesis", "score", "log-probability", "length", "words"],
    ...list.map((one, i) => [i + 1, plain(one.score), plain(one.total), one.length, textOf(one)])]);
  return view;
}

export default { render: liveWith(mount) };
