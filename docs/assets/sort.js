// The gallery's headings sort its rows: by text or number in the row's data, once more the other way round.
for (const heading of document.querySelectorAll("#gallery th[data-sort]")) {
  heading.firstElementChild.addEventListener("click", () => {
    const key = heading.dataset.sort
    const down = heading.getAttribute("aria-sort") === "ascending"
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort")
    heading.setAttribute("aria-sort", down ? "descending" : "ascending")
    const body = heading.closest("table").tBodies[0]
    const order = (a, b) => a.dataset[key].localeCompare(b.dataset[key], "en", { numeric: key === "year" })
    const number = (a, b) => a.dataset[key] - b.dataset[key]
    const rows = [...body.rows].sort(key === "holds" ? number : order)
    body.append(...(down ? rows.reverse() : rows))
  })
}
