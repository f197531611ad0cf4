// Says when what is shown may be old, and why; and looks again until it is not.

const SAID_AFTER = { server: 2500, database: 0, stream: 5000, refused: 0 };
const ASK_EVERY = { waiting: 3000, resting: 5000, full: 10000, told: 15000 };
const bar = document.getElementById("outage");

let stream = "down"; // up, down, full, refused
let answer = ""; // what was wrong with the last answer: "", "server", "database"
let told = false; // the stream itself said that the database is away
let since = performance.now(); // when what is wrong now began
let wrong = "stream";
let said = "";
let asked = 0;

function why() {
  if (answer) return answer;
  if (told) return "database";
  if (stream === "refused") return "refused";
  return stream === "up" ? "" : "stream";
}

function say(text) {
  if (text === said) return;
  said = text;
  bar.hidden = !text;
  bar.dataset.why = text;
  document.body.classList.toggle("with-outage", Boolean(text));
  for (const part of bar.children) part.hidden = part.dataset.why !== text;
  document.getElementById("announce").textContent = text
    ? bar.querySelector(`[data-why=${text}]`).textContent
    : "";
}

function askEvery() {
  if (stream === "up" && told) return ASK_EVERY.told; // it tells when the database is back, too
  if (document.querySelector("[data-seconds-left]")) return ASK_EVERY.waiting;
  return stream === "full" ? ASK_EVERY.full : ASK_EVERY.resting;
}

function tick() {
  const now = performance.now();
  const is = why();
  if (is !== wrong) {
    // From one trouble to another is no new beginning.
    if (!is || !wrong) since = now;
    wrong = is;
  }
  say(is && now - since >= SAID_AFTER[is] ? is : "");
  if (!is || is === "refused" || document.hidden || now - since < 1000 || now - asked < askEvery()) return;
  asked = now + Math.random() * 1000; // not all tabs and all people at once
  document.dispatchEvent(new CustomEvent("wk:relook", { detail: {} }));
}

document.addEventListener("wk:stream", ({ detail }) => {
  stream = detail;
  tick();
});
document.addEventListener("wk:away", () => {
  told = true;
  tick();
});
document.addEventListener("wk:answered", ({ detail }) => {
  answer = detail;
  if (!detail) told = false;
  tick();
});
document.addEventListener("visibilitychange", () => {
  since = performance.now(); // nothing was heard while it was hidden, which is no trouble
});
setInterval(tick, 500);
