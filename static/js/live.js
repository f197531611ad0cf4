// Refreshes what the page shows when it changed. An event carries only IDs; the fragment comes from an ordinary
// view. One fetch at a time for each element: a second one waits for the first.

const ROWS_AT_ONCE = 5;
const TABS_EVERY = 1000;
const SAFETY = 30000;
const NUMBERS = "[data-ago], [data-lasting], [data-seconds-left]";
const under = new WeakMap(); // element -> its fetch: `done`, and whether it is wanted `again`
const shown = new WeakMap(); // element -> what it shows, without its numbers
const wanted = new Set();
const posting = new Set(); // ids of elements whose own form was sent just now: its answer shows what happens meanwhile
const POST_PATIENCE = 350;
// Milliseconds in which changes are gathered. A person waits for those of few accounts; in a burst, as in an incident,
// more than `few` accounts change within a second.
const GATHER = { few: 5, pause: 5, burst: 30, within: 1000 };
const LIST_EVERY = 3000;
const ORDER_EVERY = 10000;
const RELOAD_WITHIN = 10000;
const ALARM_WITHIN = 1000;
let collecting = 0;
const changedAt = new Map(); // account -> when it changed last, for those that changed within GATHER.within
let refreshedAt = performance.now();
let failed = false; // whether a refresh got no answer since everything was refreshed last

function withoutNumbers(element) {
  const copy = element.cloneNode(true);
  for (const part of copy.querySelectorAll(NUMBERS)) part.replaceWith("");
  for (const part of copy.querySelectorAll("progress")) part.removeAttribute("value");
  for (const part of copy.querySelectorAll("[name=csrfmiddlewaretoken]")) part.removeAttribute("value");
  return copy.outerHTML;
}

function remember(root) {
  const all = [...root.querySelectorAll("[data-live]")];
  if (root.matches?.("[data-live]")) all.push(root);
  for (const element of all) shown.set(element, withoutNumbers(element));
}

function parse(html, id) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.getElementById(id);
}

// The numbers alone are put in place one by one: what people selected, typed or opened stays as it is.
function takeNumbers(element, fresh) {
  const [old, now] = [element, fresh].map((root) => [...root.querySelectorAll(NUMBERS)]);
  if (old.length === now.length) old.forEach((part, n) => part.replaceWith(now[n]));
  document.dispatchEvent(new CustomEvent("wk:drawn"));
}

function swap(element, fresh) {
  const focused = document.activeElement;
  const inside = element.contains(focused) && focused.closest("#panel");
  const before = element.dataset.say;
  const text = withoutNumbers(fresh);
  if (shown.get(element) === text) return takeNumbers(element, fresh);
  const { id } = element;
  const offer = new CustomEvent("wk:swap", { detail: { element, fresh }, cancelable: true });
  if (!document.dispatchEvent(offer)) return; // the page's own script takes what is new
  window.htmx.swap(element, fresh.outerHTML, {
    swapStyle: "outerHTML",
    swapDelay: 0,
    settleDelay: 0,
    ignoreTitle: true,
  });
  const placed = document.getElementById(id);
  if (!placed) return;
  remember(placed);
  for (const { id } of element.querySelectorAll("details[id][open]")) {
    document.getElementById(id)?.setAttribute("open", "");
  }
  document.dispatchEvent(new CustomEvent("wk:drawn"));
  if (focused.isConnected && focused !== document.activeElement && placed.contains(focused)) {
    focused.focus({ preventScroll: true });
  } else if (inside && document.activeElement === document.body) {
    placed.querySelector("#panel")?.focus({ preventScroll: true });
  }
  announce(placed, before);
}

function announce(placed, before) {
  const { title, say } = placed.dataset;
  if (title) document.title = title;
  if (say && say !== before) document.getElementById("announce").textContent = say;
}

function refresh(element) {
  if (!element.isConnected) return undefined;
  let running = under.get(element);
  if (running) {
    running.again = true;
  } else {
    running = { again: false };
    under.set(element, running);
    running.done = fetchAndPlace(element, running);
  }
  return running.done;
}

async function fetchAndPlace(element, running) {
  const { id } = element;
  try {
    const answer = await fetch(element.dataset.live, {
      headers: { "HX-Request": "true" },
      signal: AbortSignal.timeout?.(20000),
    });
    const wrong = answer.headers.get("X-Away") ?? (answer.status >= 502 ? "server" : "");
    said(wrong);
    failed ||= Boolean(wrong);
    const elsewhere = answer.headers.get("HX-Redirect");
    if (elsewhere) location.assign(elsewhere);
    else if (answer.redirected) location.reload(); // signed out
    else if (answer.ok) place(id, element, await answer.text());
    else if (answer.status === 404) gone(element);
  } catch {
    said("server");
    failed = true;
  }
  under.delete(element);
  if (running.again) await refresh(document.getElementById(id) ?? element);
}

// What was wrong with an answer, "" for nothing; outage.js refreshes until nothing is.
function said(wrong) {
  document.dispatchEvent(new CustomEvent("wk:answered", { detail: wrong }));
}

function place(id, element, html) {
  const fresh = parse(html, id);
  if (fresh && element.isConnected) swap(element, fresh);
}

function gone(element) {
  const list = element.parentElement.closest("[data-live]");
  if (list) refresh(list);
  else document.dispatchEvent(new CustomEvent("wk:trouble", { detail: "Gone" }));
}

function refreshEverything() {
  if (document.hidden) return;
  refreshedAt = performance.now();
  failed = false;
  for (const element of document.querySelectorAll("[data-live]")) {
    if (!element.parentElement.closest("[data-live]")) refresh(element);
  }
}

// One after the other, in the order of the page: what stands first is what a person looks at.
async function refreshInOrder(elements) {
  for (const element of elements) await refresh(element);
}

function refreshWanted() {
  collecting = 0;
  const all = [...wanted].map((id) => [...document.querySelectorAll(`[data-live][data-account="${id}"]`)]);
  const found = all.flat();
  wanted.clear();
  const list = document.getElementById("accounts-live");
  const strange = all.some((some) => !some.length);
  // A list that is under way may hold older rows: it is asked for once more rather than drawn over newer ones.
  if (list && (found.length > ROWS_AT_ONCE || under.has(list))) refresh(list);
  else for (const some of all) refreshInOrder(some.filter(({ id }) => !posting.has(id)));
  if (list) refreshListLater(strange ? LIST_EVERY : ORDER_EVERY);
}

// Rows come and go: an account was added, is no longer in a group, or has another place in the order.
let listLater = 0;
function refreshListLater(after) {
  listLater ||= setTimeout(() => {
    listLater = 0;
    const list = document.getElementById("accounts-live");
    if (list && !document.hidden) refresh(list);
  }, after);
}

function ownForm({ detail }) {
  return detail.requestConfig?.verb?.toLowerCase() === "post" ? detail.elt.closest("[data-live]") : null;
}

let tabsAt = 0;
let tabsLater = 0;
function refreshTabs() {
  const tabs = document.getElementById("tabs");
  if (!tabs || tabsLater) return;
  tabsLater = setTimeout(() => {
    tabsLater = 0;
    tabsAt = performance.now();
    const now = document.getElementById("tabs");
    if (now) refresh(now);
  }, Math.max(100, tabsAt + TABS_EVERY - performance.now()));
}

document.addEventListener("wk:change", ({ detail }) => {
  if (document.hidden) return; // everything is refreshed when the tab is shown again
  wanted.add(detail.account);
  const now = performance.now();
  changedAt.set(detail.account, now);
  for (const [account, at] of changedAt) if (now - at > GATHER.within) changedAt.delete(account);
  collecting ||= setTimeout(refreshWanted, changedAt.size > GATHER.few ? GATHER.burst : GATHER.pause);
  refreshTabs();
});
document.addEventListener("wk:relook", ({ detail }) => {
  // After an outage all browsers get this at the same moment: each refreshes at a random one.
  if (detail?.within) setTimeout(refreshEverything, Math.random() * Math.min(detail.within, RELOAD_WITHIN));
  else refreshEverything();
});
// A stream that continues tells what was missed, but not what could not be fetched.
document.addEventListener("wk:stream", ({ detail }) => {
  if (detail === "up" && failed) refreshEverything();
});
document.addEventListener("wk:alarm", () => {
  const alarm = document.getElementById("alarm");
  if (alarm && !document.hidden) setTimeout(refresh, Math.random() * ALARM_WITHIN, alarm);
});
document.addEventListener(
  "wk:row",
  ({ target, detail: fresh }) => (fresh ? swap(target, fresh) : refresh(target)),
);
document.addEventListener("wk:due", ({ target }) => {
  const element = target.closest("[data-live]");
  if (element && !document.hidden) refresh(element);
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const element = ownForm(event);
  if (!element) return;
  const { id } = element;
  posting.add(id);
  // While WKTeam is slow: show that the request is in progress.
  setTimeout(() => posting.delete(id) && refresh(document.getElementById(id) ?? element), POST_PATIENCE);
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (!posting.size || event.detail.requestConfig?.verb?.toLowerCase() !== "post") return;
  for (const id of posting) {
    const element = document.getElementById(id);
    wanted.delete(Number(element?.dataset.account));
    if (element && !event.detail.successful) refresh(element);
  }
  posting.clear();
});
document.addEventListener("htmx:load", ({ detail }) => remember(detail.elt));
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  const placed = document.querySelector("[data-live][data-title]");
  if (placed && detail?.target) announce(placed, document.getElementById("announce").textContent);
});
setInterval(() => {
  const alarm = document.querySelector("#alarm:has(section)");
  if (alarm && !document.hidden) refresh(alarm);
}, SAFETY);
setInterval(() => {
  const since = performance.now() - refreshedAt;
  const open = document.querySelector("[data-seconds-left]");
  // A warning must not outlive its cause.
  if ((open && since > SAFETY) || document.querySelector(".advice[data-warning]")) refreshEverything();
}, 5000);
remember(document);
