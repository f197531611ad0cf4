// The page of a phone's owner: asks what is new while somebody looks, and begins by itself where only a code can.

const EVERY = 2000;

function look() {
  if (document.visibilityState !== "visible") return;
  const owner = document.querySelector("[data-look]");
  if (owner) globalThis.htmx.trigger(owner, "wk:look");
}

setInterval(look, EVERY);
document.addEventListener("visibilitychange", look);
document.addEventListener("wk:due", look);
document.querySelector("[data-begin]")?.requestSubmit();
