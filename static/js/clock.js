// Keeps what is shown of time true: seconds left, ages, durations. Counts from the server's numbers with the
// browser's own stopwatch, so a wrong clock on the desk does not matter.

const words = JSON.parse(document.body.dataset.timeWords);
const checking = document.body.dataset.checking;
const CHECK_AGAIN = 3000;
const anchors = new WeakMap(); // element -> when its number was true
const asked = new Map(); // what is shown -> when it was refreshed because its time was up

function sinceDrawn(element) {
  if (!anchors.has(element)) anchors.set(element, performance.now());
  return (performance.now() - anchors.get(element)) / 1000;
}

function wordsFor(seconds) {
  const [, size, pattern] = words.units.find(([limit]) => limit === null || seconds < limit);
  return pattern.replace("{n}", Math.floor(seconds / size));
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function countDown(element) {
  const left = Number(element.dataset.secondsLeft) - sinceDrawn(element);
  const whole = Math.max(0, Math.floor(left));
  write(element, left > 0 ? `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}` : checking);
  element.classList.toggle("over", left <= 0);
  const bar = (element.closest(".scan, .tile") ?? element.closest(".say"))?.querySelector("progress");
  if (bar) bar.value = Math.max(0, left);
  if (left > 0) return;
  const subject = element.closest("[data-live]")?.dataset.live;
  if (performance.now() - (asked.get(subject) ?? -Infinity) < CHECK_AGAIN) return;
  asked.set(subject, performance.now());
  element.dispatchEvent(new CustomEvent("wk:due", { bubbles: true }));
}

function tick() {
  for (const element of document.querySelectorAll("[data-seconds-left]")) countDown(element);
  for (const element of document.querySelectorAll("[data-ago]")) {
    const seconds = Number(element.dataset.ago) + sinceDrawn(element);
    write(element, seconds < words.nowBelow ? words.now : words.ago.replace("{time}", wordsFor(seconds)));
  }
  for (const element of document.querySelectorAll("[data-lasting]")) {
    write(element, wordsFor(Number(element.dataset.lasting) + sinceDrawn(element)));
  }
}

tick();
document.addEventListener("wk:drawn", tick);
setInterval(tick, 250);
