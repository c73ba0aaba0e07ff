"use strict";
(function () {
  var table = document.getElementById("table"), body = table.tBodies[0], rows = Array.from(body.rows);
  var heads = Array.from(table.tHead.rows[0].cells);
  function key(row, column) {
    var cell = row.cells[column];
    if (cell.dataset.v !== undefined) { return Number(cell.dataset.v); }
    return cell.textContent.trim() === "–" ? null : cell.textContent.trim().toLowerCase();
  }
  heads.forEach(function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.appendChild(button);
    button.addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && column === 0);
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort(function (a, b) {
        var x = key(a, column), y = key(b, column);
        if (x === null || y === null) { return (x === null) - (y === null); }
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
  var text = document.getElementById("filter"), moved = document.getElementById("moved"), found = document.getElementById("found");
  function filter() {
    var wanted = text.value.trim().toLowerCase(), n = 0;
    rows.forEach(function (row) {
      var fits = row.cells[0].textContent.toLowerCase().includes(wanted) && (!moved.checked || row.cells[2].textContent === "moved");
      row.hidden = !fits;
      n += fits ? 1 : 0;
    });
    found.textContent = n + " of " + rows.length;
  }
  text.addEventListener("input", filter);
  moved.addEventListener("change", filter);
  document.querySelector(".tools").hidden = false;
  filter();
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
  });
})();
