// A formula or table that is wider than its place is scrolled. While it is, and only then, it has a name and the
// Tab key stops at it, so that the arrow keys can scroll it. What is too wide changes while the page is open: fonts
// come late, a phone is turned, something is unfolded. (Code and outputs are the theme's part.)
const places = document.querySelectorAll("div.formula, .pst-scrollable-table-container");

function look(place) {
  const number = place.parentElement.querySelector(":scope > .eqno");
  const name = place.matches(".formula") ? (number?.getAttribute("aria-label") ?? "Formula") : "Table";
  const attributes = Object.entries({ tabindex: 0, role: "group", "aria-label": name });
  if (place.scrollWidth > place.clientWidth) for (const [key, value] of attributes) place.setAttribute(key, value);
  else for (const [key] of attributes) place.removeAttribute(key);
}

const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => look(target)));
for (const place of places) resized.observe(place);
document.fonts.addEventListener("loadingdone", () => places.forEach(look));
