// From a file, a page may not read another: search then lists its results without pieces of their text.
// The search reads this setting as soon as it is loaded, so this script comes before it.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

addEventListener("DOMContentLoaded", () => {
  // The theme's arrows that unfold a part of the contents have no name.
  for (const arrow of document.querySelectorAll(".bd-sidebar-primary summary")) {
    arrow.setAttribute("aria-label", "Show or hide the pages of this part");
  }
});
