// Says when what is shown may be old, and why; refreshes the page until it is not.

const SAID_AFTER = { server: 2500, database: 0, stream: 5000, refused: 0 };
const ASK_EVERY = { waiting: 3000, resting: 5000, full: 10000, reported: 15000 };
const bar = document.getElementById("outage");

let stream = "down"; // up, down, full, refused
let answer = ""; // what was wrong with the last answer: "", "server", "database"
let databaseDown = false; // the stream itself said that the database is unreachable
let since = performance.now(); // when what is wrong now began
let wrong = "stream";
let said = "";
let asked = 0;

function why() {
  if (answer) return answer;
  if (databaseDown) return "database";
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
  if (stream === "up" && databaseDown) return ASK_EVERY.reported; // the stream also says when the database is back
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
  // A lost stream comes back by itself and tells what was missed: nothing is asked for before it is said to be lost.
  const patience = stream === "up" ? 1000 : SAID_AFTER.stream;
  if (!is || is === "refused" || document.hidden || now - since < patience || now - asked < askEvery()) {
    return;
  }
  asked = now + Math.random() * 1000; // not all tabs and all people at once
  document.dispatchEvent(new CustomEvent("wk:relook", { detail: {} }));
}

document.addEventListener("wk:stream", ({ detail }) => {
  stream = detail;
  tick();
});
document.addEventListener("wk:away", () => {
  databaseDown = true;
  tick();
});
document.addEventListener("wk:answered", ({ detail }) => {
  answer = detail;
  if (!detail) databaseDown = false;
  tick();
});
document.addEventListener("visibilitychange", () => {
  since = performance.now(); // nothing was heard while it was hidden, which is no trouble
});
setInterval(tick, 500);
