// One event stream for all tabs of a browser: the tab that holds the lock has it and passes on what it hears.
// Where there are no locks (plain http on another host) each tab has its own, closed while the tab is hidden.

const AWAY_AFTER = 5000;
const ASK_EVERY = 3000;
const url = document.body.dataset.events;
const shared = Boolean(navigator.locks && window.BroadcastChannel);
const channel = shared ? new BroadcastChannel("wkportal") : null;

let source = null;
let leading = false;
let up = false;
let heardUp = performance.now(); // also the moment from which the stream is given time to come up
let pause = 2000;
let retry = 0;

function tell(kind, detail) {
  document.dispatchEvent(new CustomEvent(`wk:${kind}`, { detail }));
  if (leading) channel?.postMessage({ kind, detail });
}

function open() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource(url);
  source.addEventListener("change", (event) => {
    up = true;
    tell("change", JSON.parse(event.data));
  });
  source.addEventListener("relook", () => {
    up = true;
    pause = 2000;
    tell("relook");
  });
  source.onerror = () => {
    up = false;
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    retry = setTimeout(open, pause);
    pause = Math.min(pause * 2, 30000);
  };
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = null;
  up = false;
}

function watch() {
  if (source) {
    if (up) heardUp = performance.now();
  } else if (channel && !document.hidden) {
    channel.postMessage({ kind: "is it up" });
  }
  const away = !document.hidden && performance.now() - heardUp > AWAY_AFTER;
  document.getElementById("away").hidden = !away;
  if (away) document.dispatchEvent(new CustomEvent("wk:relook"));
}

if (shared) {
  channel.onmessage = ({ data }) => {
    if (data.kind === "is it up") {
      if (leading && up) channel.postMessage({ kind: "it is up" });
    } else if (data.kind === "it is up") {
      heardUp = performance.now();
    } else {
      heardUp = performance.now();
      document.dispatchEvent(new CustomEvent(`wk:${data.kind}`, { detail: data.detail }));
    }
  };
  channel.postMessage({ kind: "is it up" });
  navigator.locks.request("wkportal-events", () => {
    leading = true;
    open();
    return new Promise(() => {}); // held until this tab goes
  });
  document.dispatchEvent(new CustomEvent("wk:relook")); // what happened while this page was on its way
} else {
  if (!document.hidden) open();
  window.addEventListener("pagehide", close);
}

document.addEventListener("visibilitychange", () => {
  heardUp = performance.now();
  if (document.hidden) {
    if (!shared) close();
    return;
  }
  if (!shared) open();
  document.dispatchEvent(new CustomEvent("wk:relook"));
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted && !document.hidden) document.dispatchEvent(new CustomEvent("wk:relook"));
});
setInterval(watch, ASK_EVERY);
