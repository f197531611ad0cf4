// One event stream for all tabs of a browser, which has only six connections for all of them. A tab that is shown and
// holds the lock has it and passes on what it receives; a hidden tab has none and asks for none, unless the person
// wants notifications. Where there are no locks (plain http on another host) each tab that is shown has its own.

const LOCK = "wkportal-events";
const BEAT_EVERY = 2000;
const REST_AFTER = 10000; // a tab that was hidden for this long lets another one lead
const SILENT_AFTER = 5000; // a leader that says nothing for this long is asleep
const DEAD_AFTER = 40000; // the server says something every 15 s
const PAUSE = { least: 2000, most: 60000 };
const { events: url, notifications } = document.body.dataset;
const channel = navigator.locks && window.BroadcastChannel ? new BroadcastChannel("wkportal") : null;

// A hidden tab never takes the lock from another one: the browser slows down its timers, so it would seem to sleep too.
const stays = channel !== null && Boolean(notifications);

let state = "down"; // of the stream, wherever it is: down, up, full (too many of one person), refused (no right)
let source = null;
let heard = 0;
let last = ""; // the last ID received while this tab leads: where the next stream continues
let pause = PAUSE.least;
let retry = 0;
let leader = null; // while this tab leads: the function that ends it
let waiting = null; // while it waits for the lock: what ends the waiting
let beat = performance.now(); // when the leader was heard of last
let rest = 0;
let fresh = false; // whether this page was refreshed since it was loaded

function say(kind, detail) {
  document.dispatchEvent(new CustomEvent(`wk:${kind}`, { detail }));
}

function passOn(kind, detail) {
  say(kind, detail);
  if (leader) channel?.postMessage({ kind, detail });
}

function become(now) {
  state = now;
  passOn("stream", now);
}

// --- the stream itself ------------------------------------------------------------------------------------------

function open() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource(last ? `${url}?last=${encodeURIComponent(last)}` : url);
  heard = performance.now();
  for (const kind of ["relook", "change", "alarm", "away", "ping"]) {
    source.addEventListener(kind, ({ data, lastEventId }) => {
      heard = performance.now();
      last = lastEventId || last;
      pause = PAUSE.least;
      if (state !== "up") become("up");
      if (kind === "relook") fresh = true;
      if (kind !== "ping") passOn(kind, JSON.parse(data));
    });
  }
  source.onerror = () => {
    if (state === "up") become("down");
    if (source?.readyState === EventSource.CLOSED) ask(); // else it tries again by itself
  };
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = null;
  last = "";
}

// The server said no, and an EventSource does not say why.
async function ask() {
  const asked = source;
  let wait = pause * (0.75 + Math.random() / 2);
  pause = Math.min(pause * 2, PAUSE.most);
  let answer = null;
  try {
    answer = await fetch(url, { method: "HEAD", redirect: "manual", signal: AbortSignal.timeout?.(20000) });
  } catch {
    // Not reached at all.
  }
  if (source !== asked) return;
  if (answer?.status === 403) {
    become("refused");
    passOn("relook", {}); // who is signed out is led to signing in
    return;
  }
  const why = answer?.headers.get("X-Away");
  if (why) say("answered", why);
  const after = Number(answer?.headers.get("Retry-After") ?? 0) * 1000;
  become(after && !why ? "full" : "down");
  wait = Math.max(wait, after * (1 + Math.random()));
  retry = setTimeout(open, wait);
}

// --- which tab has it --------------------------------------------------------------------------------------------

function lead() {
  waiting = null;
  return new Promise((done) => {
    leader = done;
    open();
  });
}

function stop() {
  leader = null;
  close();
}

function stand(how = {}) {
  if (leader || (waiting && !how.steal)) return;
  waiting?.abort();
  const mine = (waiting = new AbortController());
  const options = how.steal ? how : { signal: mine.signal };
  navigator.locks
    .request(LOCK, options, lead)
    .catch(() => leader && stop()) // another tab took it, or we do not want it any more
    .finally(() => {
      if (waiting === mine) waiting = null;
    });
}

function giveUp() {
  rest = 0;
  waiting?.abort();
  waiting = null;
  if (!leader) return;
  const done = leader;
  stop();
  done();
}

function listen({ data }) {
  if (data.kind === "who") {
    if (leader) channel.postMessage({ kind: "stream", detail: state });
    return;
  }
  beat = performance.now();
  if (data.kind === "stream") {
    if (!leader) state = data.detail;
    say("stream", data.detail);
    if (fresh || data.detail !== "up") return;
    fresh = true;
    say("relook", {}); // what happened while this page was on its way
  } else {
    say(data.kind, data.detail);
  }
}

function watch() {
  const now = performance.now();
  if (source && state === "up" && now - heard > DEAD_AFTER) {
    become("down");
    open();
  }
  if (leader) passOn("stream", state);
  else if (channel && (stays || !document.hidden)) {
    const asleep = !document.hidden && now - beat > SILENT_AFTER;
    if (asleep) {
      beat = now;
      become("down");
    }
    stand(asleep ? { steal: true } : {});
  }
}

// --- shown and hidden ---------------------------------------------------------------------------------------------

function stream() {
  clearTimeout(rest);
  beat = performance.now();
  if (!channel) {
    if (!source) open();
  } else if (leader) {
    if (state === "refused") open();
  } else {
    channel.postMessage({ kind: "who" });
    stand();
  }
}

function shown() {
  stream();
  say("relook", {}); // what happened while the tab was hidden
}

function hidden() {
  if (stays) return;
  if (channel) rest = setTimeout(giveUp, REST_AFTER);
  else close();
}

if (channel) channel.onmessage = listen;
document.addEventListener("visibilitychange", () => (document.hidden ? hidden() : shown()));
window.addEventListener("pagehide", () => (channel ? giveUp() : close()));
window.addEventListener("pageshow", ({ persisted }) => persisted && !document.hidden && shown());
setInterval(watch, BEAT_EVERY);
if (stays || !document.hidden) stream();
