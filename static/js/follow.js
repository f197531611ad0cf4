// Refreshes [data-follow] when anything that the reader may see has changed: pages that show many accounts at once and
// as groups, so that one row cannot be drawn alone. The first change is drawn at once, others at most once a second.

const EVERY = 1000;
const GATHER = 100;
let drawnAt = -EVERY;
let later = 0;

function draw() {
  later = 0;
  if (document.hidden) return; // everything is refreshed when the tab is shown again
  drawnAt = performance.now();
  for (const element of document.querySelectorAll("[data-follow]")) {
    element.dispatchEvent(new CustomEvent("wk:due", { bubbles: true }));
  }
}

document.addEventListener("wk:change", () => {
  later ||= setTimeout(draw, Math.max(GATHER, drawnAt + EVERY - performance.now()));
});
// [data-every]: seconds after which an element is drawn again without a change, such as charts.
for (const element of document.querySelectorAll("[data-every]")) {
  setInterval(() => {
    if (document.hidden) return;
    document.getElementById(element.id)?.dispatchEvent(new CustomEvent("wk:due", { bubbles: true }));
  }, Number(element.dataset.every) * 1000);
}
