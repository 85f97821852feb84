// Sorts a table by the column whose head is pressed; a second press turns the order round.
for (const head of document.querySelectorAll("table.sortable th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    };
    const order = (a, b) => {
      const x = key(a), y = key(b);
      if (typeof x === "string") return x.localeCompare(y, undefined, { numeric: true });
      return Number.isNaN(x) - Number.isNaN(y) || x - y;
    };
    const rows = [...body.rows].sort(order);
    body.append(...(descending ? rows.reverse() : rows));
  });
}
// Paper shows what the screen folds away.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
