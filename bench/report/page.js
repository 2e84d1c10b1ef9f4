"use strict";
// A click on a column's head sorts its table; a second one turns the order round. Text that is no number sorts last.
const asNumber = (text) => {
  if (text === "never" || text === "∞ ×") return Infinity;
  const value = parseFloat(text.replaceAll("−", "-").replace("≥", "").trim());
  return Number.isNaN(value) ? null : value;
};
document.addEventListener("click", (event) => {
  const head = event.target.closest("th");
  if (!head) return;
  const column = head.cellIndex;
  const body = head.closest("table").tBodies[0];
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const numeric = head.classList.contains("n");
  const keyed = Array.from(body.rows, (row) => {
    const text = row.cells[column].textContent.trim();
    return [numeric ? asNumber(text) : text, row];
  });
  const sign = descending ? -1 : 1;
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (numeric) return a === b ? 0 : sign * (a < b ? -1 : 1);
    return sign * a.localeCompare(b, undefined, { numeric: true });
  });
  body.append(...keyed.map(([, row]) => row));
});
// A table that goes on at the right fades out there.
const fade = (box) => box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 1);
const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => fade(target)));
for (const box of document.querySelectorAll(".scroll")) {
  sizes.observe(box);
  box.addEventListener("scroll", () => fade(box), { passive: true });
}
