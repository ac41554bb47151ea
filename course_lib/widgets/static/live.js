/** The anywidget half of a view: a line to type into, and the view of what Python made of it. */
import { h } from "./view.js";

const STYLE = "display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin:4px 0;font:14px system-ui,sans-serif";
const BOX = "font:inherit;min-height:32px;padding:2px 10px;border-radius:6px;border:1px solid #7b857f;";

/**
 * The `render` of a live view.
 * @param {(element: HTMLElement, data: any) => Promise<{destroy: () => void}>} mount
 */
export function liveWith(mount) {
  return async function render({ model, el }) {
    const told = h("span", { role: "status", "aria-live": "polite" });
    const run = () => {
      told.textContent = "running …";
      model.set("text", line.value);
      model.set("runs", model.get("runs") + 1);
      model.save_changes();
    };
    // Not a form: JupyterLab prevents what Enter does by itself, but the key still arrives here.
    const line = h("input", { type: "text", style: `${BOX}flex:1 1 20em;`, "aria-label": model.get("label"),
      keydown: (event) => {
        event.stopPropagation();
        if (event.key === "Enter") run();
      } });
    line.value = model.get("text");
    const form = h("div", { style: STYLE, role: "group", "data-lm-suppress-shortcuts": "true" },
      line, h("button", { type: "button", style: BOX, click: run }, "Run"), told);
    const host = h("div");
    el.append(form, host);
    let view = null;
    let last = Promise.resolve();
    // One after the other: two mounts at a time would both write into the same place.
    const show = () => (last = last.then(async () => {
      view?.destroy();
      view = null;
      view = await mount(host, model.get("data"));
    }).catch((error) => {
      told.textContent = `The view could not be drawn: ${error.message}`;
    }));
    await show();
    const say = () => (told.textContent = model.get("message"));
    model.on("change:data", show);
    model.on("change:message", say);
    return () => {
      model.off("change:data", show);
      model.off("change:message", say);
      return last.then(() => view?.destroy());
    };
  };
}
