// Typeset every formula of the page. What KaTeX does not know stays as it was written, and is told.
for (const place of document.querySelectorAll(".formula")) {
  const formula = place.textContent;
  try {
    katex.render(formula, place, { displayMode: place.tagName === "DIV", strict: "ignore" });
  } catch (error) {
    place.textContent = formula;
    place.classList.add("failed");
    console.error(`formula ${formula}: ${error.message}`);
  }
}
