// The rows of the account list: one of them is current, and only it is reached by Tab; keys move to the others. While
// somebody points at the list or works in it, live updates change its rows but not their order.

const HERE = ".pick input, a, button";
const CHECK_FOLLOWED_AT = [1500, 4000, 9000];
const NEWS_EVERY = 20000;
let current = ""; // the id of the current row
let pointed = false;
let behind = false; // the list has another order or other rows by now
let checkedAt = null;

const list = () => document.getElementById("accounts-live");
const rows = () => [...document.querySelectorAll("#list tbody tr")];
const rowNow = () => document.getElementById(current) ?? rows()[0];

function rove() {
  const here = rowNow();
  for (const row of rows()) {
    for (const part of row.querySelectorAll(HERE)) part.tabIndex = row === here ? 0 : -1;
  }
}

function goTo(row) {
  if (!row) return;
  current = row.id;
  rove();
  row.querySelector(".name").focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

function move(step) {
  const all = rows();
  const at = all.findIndex((row) => row.contains(document.activeElement));
  goTo(at < 0 ? rowNow() : all[Math.min(all.length - 1, Math.max(0, at + step))]);
}

function act() {
  rowNow()?.querySelector(".c-do .btn")?.click();
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  l: act,
};

// --- live ----------------------------------------------------------------------------------------------------

const isHeld = () =>
  pointed || Boolean(document.activeElement?.closest("#list, #search")) ||
  Boolean(document.querySelector("#list tbody :checked"));

function refresh(id) {
  document.getElementById(id)?.dispatchEvent(new CustomEvent("wk:due", { bubbles: true }));
}

// Each row takes what the new list says of it; rows that left it say themselves what they are by now.
function takeRows(fresh) {
  const theirs = new Map([...fresh.querySelectorAll("#list tbody tr")].map((row) => [row.id, row]));
  const mine = rows();
  behind = mine.map(({ id }) => id).join() !== [...theirs.keys()].join();
  for (const row of mine) {
    const event = new CustomEvent("wk:row", { bubbles: true, detail: theirs.get(row.id) ?? null });
    row.dispatchEvent(event);
  }
}

function catchUp() {
  if (!behind || isHeld()) return;
  behind = false;
  refresh("accounts-live");
}

document.addEventListener("wk:swap", (event) => {
  const { element, fresh } = event.detail;
  if (element.id !== "accounts-live" || !isHeld() || !rows().length) return;
  event.preventDefault();
  takeRows(fresh);
});
document.addEventListener("pointerover", ({ target, pointerType }) => {
  const over = pointerType !== "touch" && Boolean(target.closest("#list"));
  if (over === pointed) return;
  pointed = over;
  catchUp();
});
document.documentElement.addEventListener("pointerleave", () => (pointed = false));
document.addEventListener("focusin", ({ target }) => {
  const row = target.closest("#list tbody tr");
  if (row && row.id !== current) {
    current = row.id;
    rove();
  } else if (!row) catchUp();
});
document.addEventListener("wk:key", (event) => {
  const act = KEYS[event.detail.key];
  if (!act || !list()) return;
  event.preventDefault();
  act();
});

// --- when it was checked ---------------------------------------------------------------------------------------

function redrawn() {
  rove();
  const checked = document.querySelector("#checked-at time")?.dateTime ?? null;
  // Another check was answered: it confirms the rows, or says that it missed some.
  if (checkedAt && checked && checked !== checkedAt) refresh("accounts-live");
  checkedAt = checked;
}

document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (!/\/check\/$/.test(detail.requestConfig?.path ?? "") || !detail.successful) return;
  for (const after of CHECK_FOLLOWED_AT) setTimeout(refresh, after, "presence");
});
setInterval(refresh, NEWS_EVERY, "presence");
document.addEventListener("wk:drawn", redrawn);
document.addEventListener("htmx:load", redrawn);
redrawn();

// For the account's page: neighbors.js.
addEventListener("pagehide", () => {
  const order = rows().map((row) => row.dataset.account);
  sessionStorage.setItem("wk-list", JSON.stringify(order));
});
