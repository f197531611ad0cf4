// The wall: refreshes when one of its logins changed, moves from tile to tile with the arrows, fills the screen.

function live() {
  return document.getElementById("wall-live");
}

document.addEventListener("wk:change", ({ detail }) => {
  if (!live().dataset.shows.split(" ").includes(String(detail.attempt))) return;
  live().dispatchEvent(new CustomEvent("wk:due", { bubbles: true }));
});

function columns() {
  const list = document.querySelector(".wall");
  return list ? getComputedStyle(list).gridTemplateColumns.split(" ").length : 1;
}

const steps = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: () => -columns(),
  ArrowDown: () => columns(),
};

// Phones ask which one when they see several: the others fade while one has the focus.
function move(by) {
  const tiles = [...document.querySelectorAll(".tile")];
  const now = tiles.indexOf(document.activeElement.closest(".tile"));
  const next = tiles[now < 0 ? 0 : Math.min(tiles.length - 1, Math.max(0, now + by))];
  next?.focus();
}

document.addEventListener("wk:key", (event) => {
  const { key } = event.detail;
  if (steps[key]) {
    event.preventDefault();
    move(steps[key]());
  } else if (key === "Enter") {
    document.activeElement.closest(".tile")?.querySelector("form button")?.click();
  }
});

// Another size without a new page, which would end the full screen.
document.addEventListener("click", (event) => {
  const link = event.target.closest(".seg a[href^='?grid']");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const { live: address } = live().dataset;
  history.replaceState(null, "", link.search);
  live().dataset.live = address.replace(/\?.*/, link.search);
  live().dispatchEvent(new CustomEvent("wk:due", { bubbles: true }));
});

document.addEventListener("click", ({ target }) => {
  if (!target.closest("[data-full-screen]")) return;
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
});
