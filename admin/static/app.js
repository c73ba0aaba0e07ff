// What the page does beyond plain HTML: questions before actions, live progress, local times, charts.
"use strict";

// ---- questions: <form data-confirm="…" data-confirm-more="/address of a part">; a button's own question comes first
const dialog = document.getElementById("confirm");
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (isNothingTicked(form)) {
    event.preventDefault();
    hint(form.dataset.hint);
    return;
  }
  if (!dialog || !form.dataset.confirm || form.dataset.confirmed) return;
  event.preventDefault();
  const more = document.getElementById("confirm-more");
  document.getElementById("confirm-title").textContent = (event.submitter && event.submitter.dataset.confirm) || form.dataset.confirm;
  more.textContent = "";
  if (form.dataset.confirmMore) {
    const query = new URLSearchParams(new FormData(form, event.submitter));
    query.delete("csrf");
    more.textContent = "…";
    fetch(`${form.dataset.confirmMore}?${query}`, { headers: { accept: "text/html", "hx-request": "true" } })
      .then((answer) => answer.text())
      .then((html) => { more.innerHTML = html; })
      .catch(() => { more.textContent = "The page does not answer."; });
  }
  dialog.returnValue = "no";
  dialog.showModal();
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    form.dataset.confirmed = "yes";
    form.requestSubmit(event.submitter);
  };
});

// ---- <form data-ticks="names of boxes" data-hint="…">: with none ticked, the hint in place of the question and the request
function isNothingTicked(form) {
  if (!form.dataset.ticks) return false;
  return !form.dataset.ticks.split(" ").some((name) => form.querySelector(`input[type=checkbox][name="${CSS.escape(name)}"]:checked`));
}
function hint(words) {
  const place = document.getElementById("messages");
  const line = document.createElement("p");
  line.className = "alert hint";
  line.textContent = words;
  place.replaceChildren(line);
  place.scrollIntoView({ block: "nearest" });
}

// ---- what was done is said once: it goes with the next content, with a later state of the page, and before the page is kept
const SAID_MS = 8000;
function unsay(selector) { document.querySelectorAll(`#messages ${selector}`).forEach((one) => one.remove()); }
document.body.addEventListener("htmx:afterSwap", (event) => {
  const id = event.detail.target && event.detail.target.id;
  if (id === "messages") return;
  if (id === "content") unsay("*");
  else if (performance.now() > SAID_MS) unsay(".said");
});
addEventListener("pagehide", () => unsay(".said, #messages .hint"));
document.addEventListener("change", (event) => { if (event.target.type === "checkbox") unsay(".hint"); });

// ---- live: every element with data-live-run, and what listens to live:changed
let stream = null;
const pending = new Set();
function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
function show(event) {
  for (const one of document.querySelectorAll(`[data-live-run="${CSS.escape(event.run_id)}"]`)) {
    const bar = one.querySelector("progress");
    const words = one.querySelector("[data-live-words]");
    if (bar) { bar.max = event.total || 1; bar.value = event.done; }
    if (words) {
      const left = event.left_s === null || event.left_s === undefined ? "" : `, ${duration(event.left_s)} left`;
      words.textContent = `${event.done} of ${event.total} ${event.unit}${left}`;
    }
  }
}
function changed(name) {
  // Several changes at once are one look.
  if (pending.has(name)) return;
  pending.add(name);
  setTimeout(() => {
    pending.delete(name);
    document.body.dispatchEvent(new Event(name));
  }, 250);
}
function follow() {
  if (stream || !document.querySelector("[data-live]")) return;
  stream = new EventSource("/admin/events");
  stream.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.type === "progress") show(event);
    if (event.type === "changed") { changed("live:changed"); changed(`live:${event.run_id}`); }
  };
  document.documentElement.dataset.following = "yes";
}
addEventListener("pagehide", () => { if (stream) { stream.close(); stream = null; } });
addEventListener("pageshow", follow);

// ---- what is half filled in, or asked about, is not fetched anew under the reader's hands, but when that is over
function isTouched(field) {
  if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
  if (field.tagName === "SELECT") {
    const given = [...field.options].filter((one) => one.defaultSelected);
    return given.length ? !field.selectedOptions[0].defaultSelected : field.selectedIndex > 0;
  }
  return field.value !== field.defaultValue;
}
function isInHand(part) {
  if (dialog && dialog.open) return true;
  return [...part.querySelectorAll("input:not([type=hidden]), select, textarea")].some(isTouched);
}
document.body.addEventListener("htmx:beforeRequest", (event) => {
  const cause = event.detail.requestConfig.triggeringEvent;
  const isLive = cause ? cause.type.startsWith("live:") : event.detail.elt.hasAttribute("data-live");  // no cause: a poll
  if (!isLive || !isInHand(event.detail.elt)) return;
  event.preventDefault();
  if (cause) setTimeout(() => changed(cause.type), 1000);
});

// ---- times in the reader's own zone, and forms that were half filled in when a part was fetched anew
function localise(root) {
  for (const one of root.querySelectorAll("time[data-local]")) {
    const at = new Date(one.dateTime);
    one.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    one.title = `${one.dateTime} (UTC)`;
  }
}

// ---- charts: <div class="chart" data-chart='{"x": [seconds], "series": [{"label", "values"}], "unit"}'>
function draw(root) {
  if (typeof uPlot === "undefined") return;
  const style = getComputedStyle(document.documentElement);
  const colours = ["--accent", "--bad", "--good", "--warn", "--busy", "--soft"].map((name) => style.getPropertyValue(name));
  const ink = style.getPropertyValue("--soft");
  const line = style.getPropertyValue("--line");
  for (const place of root.querySelectorAll(".chart[data-chart]")) {
    if (place.firstElementChild) continue;
    const chart = JSON.parse(place.dataset.chart);
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
    const plot = new uPlot({
      width: place.clientWidth, height: chart.height || 220, cursor: { y: false },
      scales: { x: { time: chart.time !== false }, y: { range: chart.range ? () => chart.range : undefined } },
      axes: [axis, { ...axis, size: 60 }],
      series: [{}, ...chart.series.map((one, n) => ({
        label: one.label, stroke: one.colour ? style.getPropertyValue(one.colour) : colours[n % colours.length],
        width: one.points ? 0 : 1.6, dash: one.dash, spanGaps: true,
        points: one.points ? { show: true, size: 8 } : { show: chart.x.length < 40 },
        fill: one.fill ? `${colours[n % colours.length]}33` : undefined,
      }))],
    }, [chart.x, ...chart.series.map((one) => one.values)], place);
    new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: chart.height || 220 })).observe(place);
  }
}

// ---- all boxes of a list at once: <input type="checkbox" data-all="name of the boxes">
document.addEventListener("change", (event) => {
  const name = event.target.dataset && event.target.dataset.all;
  if (!name) return;
  for (const box of event.target.form.elements[name].length ? event.target.form.elements[name] : [event.target.form.elements[name]]) {
    box.checked = event.target.checked;
  }
});

// ---- what can be scrolled can be scrolled with the keyboard
function reachable(root) {
  for (const one of root.querySelectorAll(".scroll")) {
    if (one.scrollWidth > one.clientWidth) { one.tabIndex = 0; one.setAttribute("role", "group"); one.setAttribute("aria-label", "Table, scrollable"); }
  }
}

// ---- a table of days that is wider than the screen shows its newest days
function newest(root) {
  for (const one of root.querySelectorAll("table.heatmap")) one.parentElement.scrollLeft = one.parentElement.scrollWidth;
}

// ---- <table data-grid>: one stop for the tab key, arrows from link to link
function grid(root) {
  for (const table of root.querySelectorAll("table[data-grid]")) {
    const links = [...table.querySelectorAll("td a")];
    links.forEach((one, n) => { one.tabIndex = n ? -1 : 0; });
  }
}
document.addEventListener("keydown", (event) => {
  const cell = event.target.closest && event.target.closest("table[data-grid] td");
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!cell || !step) return;
  const rows = [...cell.closest("tbody").rows];
  let at = [rows.indexOf(cell.parentNode), cell.cellIndex];
  for (;;) {
    at = [at[0] + step[0], at[1] + step[1]];
    const next = rows[at[0]] && rows[at[0]].cells[at[1]];
    if (!next || next.tagName === "TH") return;
    const link = next.querySelector("a");
    if (!link) continue;
    event.preventDefault();
    event.target.tabIndex = -1;
    link.tabIndex = 0;
    link.focus();
    return;
  }
});

// ---- <svg data-lane>: marks that are links; one stop for the tab key, at the newest, and arrows from mark to mark
function lanes(root) {
  for (const lane of root.querySelectorAll("svg[data-lane]")) {
    const links = [...lane.querySelectorAll("a")];
    links.forEach((one, n) => { one.tabIndex = n === links.length - 1 ? 0 : -1; });
  }
}
document.addEventListener("keydown", (event) => {
  const lane = event.target.closest && event.target.closest("svg[data-lane]");
  if (!lane) return;
  const links = [...lane.querySelectorAll("a")];
  const at = links.indexOf(event.target.closest("a"));
  const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: links.length - 1 }[event.key];
  if (next === undefined || !links[next]) return;
  event.preventDefault();
  links[at].tabIndex = -1;
  links[next].tabIndex = 0;
  links[next].focus();
});

function ready(root) { localise(root); draw(root); reachable(root); newest(root); grid(root); lanes(root); follow(); }
ready(document);
document.body.addEventListener("htmx:afterSwap", (event) => ready(event.detail.elt || document));
document.querySelectorAll("details.menu").forEach((menu) => { menu.open = matchMedia("(min-width: 62rem)").matches; });
