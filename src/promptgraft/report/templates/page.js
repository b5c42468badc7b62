"use strict";

// Sort a table by the column whose heading is pressed: numbers by data-value, words by their text, missing values last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const numeric = "value" in body.rows[0].cells[column].dataset;
      const order = (a, b) => (numeric ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        return x === "" || y === "" ? (x === "") - (y === "") : order(x, y);
      });
      body.append(...rows);
    });
  });
}

// Pointing at an entry of a legend fades the other curves.
for (const figure of document.querySelectorAll("[data-highlight]")) {
  for (const entry of figure.querySelectorAll(".legend li")) {
    const mark = (on) => {
      figure.classList.toggle("fading", on);
      figure.querySelectorAll(`[data-series="${entry.dataset.series}"]`).forEach((part) => part.classList.toggle("lit", on));
    };
    entry.addEventListener("pointerenter", () => mark(true));
    entry.addEventListener("pointerleave", () => mark(false));
  }
}

// Print what is folded away too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
