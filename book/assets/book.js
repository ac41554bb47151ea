// From a file, a page may not read another: search then lists its results without pieces of their text.
if (location.protocol === "file:" && globalThis.DOCUMENTATION_OPTIONS) {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
