// The selected rows: by the mouse, by keys, all of a page, or all that the filters match. They stay selected while the
// list is drawn again.

const chosen = new Set();
let everything = false; // all that match, also those of other pages
let last = null; // the value from which Shift+x selects
let picking = false; // on a narrow screen: each row shows its tick

const ticks = () => [...document.querySelectorAll("#list tbody .tick")];
const form = () => document.getElementById("selection");
const at = (id) => document.getElementById(id);

function show() {
  at("list")?.classList.toggle("picking", picking);
  at("pick")?.setAttribute("aria-pressed", String(picking));
  const all = ticks();
  for (const tick of all) tick.checked = everything || chosen.has(tick.value);
  const page = at("select-page");
  if (!page) return;
  const ticked = all.filter((tick) => tick.checked).length;
  page.checked = ticked > 0 && ticked === all.length;
  page.indeterminate = ticked > 0 && ticked < all.length;
  form().elements.all.value = everything ? "1" : "";
  const count = at("selected-count");
  const words = everything ? count.dataset.all : count.dataset.words;
  const text = words.replace("{n}", everything ? form().dataset.total : ticked);
  if (count.textContent !== text) count.textContent = text;
  at("select-all-matching")?.setAttribute("aria-pressed", String(everything));
}

function clear() {
  chosen.clear();
  everything = false;
  last = null;
  show();
}

function select(tick, on) {
  if (everything) ticks().forEach(({ value }) => chosen.add(value));
  everything = false;
  if (on) chosen.add(tick.value);
  else chosen.delete(tick.value);
}

function toggle(range) {
  const all = ticks();
  const row = document.activeElement?.closest("#list tbody tr") ?? document.querySelector("#list tbody tr");
  const tick = row?.querySelector(".tick");
  if (!tick) return;
  const from = range ? all.findIndex(({ value }) => value === last) : -1;
  const to = all.indexOf(tick);
  if (from < 0) select(tick, !tick.checked);
  else for (const each of all.slice(Math.min(from, to), Math.max(from, to) + 1)) select(each, true);
  last = tick.value;
  show();
}

document.addEventListener("change", ({ target }) => {
  if (target.id === "select-page") ticks().forEach((tick) => select(tick, target.checked));
  else if (target.id === "select-none") return clear();
  else if (target.matches("#list tbody .tick")) {
    select(target, target.checked);
    last = target.value;
  } else return;
  show();
});
document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button?.id === "select-all-matching") {
    everything = !everything;
    if (!everything) chosen.clear();
    show();
  } else if (button?.id === "pick" || button?.id === "select-done") {
    picking = button.id === "pick" && !picking;
    if (picking) show();
    else clear();
  }
});
document.addEventListener("wk:key", (event) => {
  const { key } = event.detail;
  const selects = key === "x" || key === "X";
  const clears = key === "Escape" && (everything || chosen.size > 0);
  if (!at("list") || !(selects || clears)) return;
  event.preventDefault();
  if (clears) clear();
  else toggle(key === "X");
});
document.addEventListener("wk:drawn", show);
document.addEventListener("htmx:load", ({ detail }) => {
  if (detail.elt.id === "accounts-live" && !at("list")?.querySelector(".tick")) clear();
  show();
});
show();
