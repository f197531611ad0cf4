// Keeps the counts of the navigation true: each [data-count] shows the count of its name, and nothing for none.

const EVERY = 1000;
// What changed is fetched first: a person looks at it, and both would take twice as long beside each other.
const AFTER = 300;
const url = document.body.dataset.waiting;
let askedAt = -EVERY;
let wantedAt = 0; // the first change that the counts do not show yet, 0 for none
let later = 0;

function show(counts) {
  for (const badge of document.querySelectorAll("[data-count]")) {
    const text = String(counts[badge.dataset.count] || "");
    if (badge.textContent !== text) badge.textContent = text;
  }
  document.dispatchEvent(new CustomEvent("wk:counts", { detail: counts }));
}

async function ask() {
  wantedAt = 0;
  if (document.hidden) return; // all is asked for when the tab is shown again
  askedAt = performance.now();
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout?.(20000) });
    if (answer.ok && !answer.redirected) show(await answer.json());
  } catch {
    // outage.js says when the server does not answer.
  }
}

function askSoon() {
  const now = performance.now();
  wantedAt ||= now;
  clearTimeout(later);
  later = setTimeout(ask, Math.max(askedAt + EVERY, Math.min(now + AFTER, wantedAt + EVERY)) - now);
}

document.addEventListener("wk:change", askSoon);
document.addEventListener("wk:relook", ({ detail }) => {
  if (detail?.within) setTimeout(askSoon, Math.random() * Math.min(detail.within, 10000));
  else askSoon();
});
