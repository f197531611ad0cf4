// Notifications of the browser, and a tone: an account needs attention now, or a run of this person is done. The tabs
// of a browser share what is known: one of them asks at a time, and the next one finds nothing new.

const { notifications, notificationWorker, news, accountNews } = document.body.dataset;
const [shows, rings] = ["notifications", "sound"].map((kind) => notifications.split(" ").includes(kind));
const KNOWN = "wkportal-notifications";
const LOOKING = "wkportal-looking"; // held by the tab that a person looks at
const GATHER = 2000;
const AFTERWARDS = 6000; // a run ends after the last change of its accounts
const SAFETY = 60000;
const KNOWN_FOR = 600000; // what came while no tab was open for longer is seen on the page

let changedAt = 0; // by the clock that all tabs share
let later = 0;
let afterwards = 0;
let looking = null;

// --- what is new ------------------------------------------------------------------------------------------------

async function get(url) {
  const answer = await fetch(url, { signal: AbortSignal.timeout?.(20000) });
  if (!answer.ok || answer.redirected) throw new Error("no answer");
  return answer.json();
}

function known(now) {
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(KNOWN));
  } catch {
    // Not ours.
  }
  return kept?.askedAt <= now ? kept : null;
}

async function difference(before, after) {
  const runs = after.runs.filter(({ key }) => !before.runs.includes(key));
  // Below `whole_from` an account may have needed attention already.
  const ids = after.attention.filter((id) => id >= before.whole_from && !before.attention.includes(id));
  if (!ids.length) return runs;
  const query = new URLSearchParams(ids.map((id) => ["id", id]));
  return [...runs, ...(await get(`${accountNews}?${query}`)).notifications];
}

async function ask(since) {
  const askedAt = Date.now();
  const before = known(askedAt);
  if (before && before.askedAt > since) return; // another tab has asked meanwhile
  const after = await get(news);
  const fresh = before && before.person === after.person && askedAt - before.askedAt < KNOWN_FOR;
  const found = fresh ? await difference(before, after) : [];
  const runs = after.runs.map(({ key }) => key);
  localStorage.setItem(KNOWN, JSON.stringify({ ...after, runs, askedAt }));
  if (found.length) await tell(found);
}

function look(since) {
  // A failure is no loss: the same is asked again. outage.js says what is wrong.
  navigator.locks.request(KNOWN, () => ask(since)).catch(() => {});
}

function lookSoon() {
  changedAt = Date.now();
  clearTimeout(afterwards);
  afterwards = setTimeout(() => look(Date.now() - GATHER), AFTERWARDS);
  later ||= setTimeout(() => {
    later = 0;
    look(changedAt);
  }, GATHER);
}

// --- how it is said -----------------------------------------------------------------------------------------------

async function tell(found) {
  if (rings) document.dispatchEvent(new CustomEvent("wk:ring"));
  if (!shows || Notification.permission !== "granted") return;
  const { held } = await navigator.locks.query();
  if (held.some(({ name }) => name === LOOKING)) return;
  const worker = await registered();
  for (const { key, title, body, url } of found) {
    const how = { body, tag: `wkportal-${key}`, silent: true, renotify: true, data: { url } };
    if (worker) await worker.showNotification(title, how);
    else new Notification(title, how).onclick = () => location.assign(url);
  }
}

// None where the certificate is not trusted, although the person went on to the page: the page may show them itself.
async function registered() {
  try {
    return await active(await navigator.serviceWorker.register(notificationWorker));
  } catch {
    return null;
  }
}

function active(registration) {
  if (registration.active) return registration;
  const worker = registration.installing ?? registration.waiting;
  return new Promise((done, failed) => {
    worker.addEventListener("statechange", () => {
      if (worker.state === "activated") done(registration);
      else if (worker.state === "redundant") failed(new Error("the service worker was not installed"));
    });
  });
}

// --- who looks ----------------------------------------------------------------------------------------------------

function focused() {
  if (looking) return;
  const mine = (looking = { over: false, done: null });
  navigator.locks.request(
    LOOKING,
    { mode: "shared" },
    () => new Promise((done) => mine.over ? done() : (mine.done = done)),
  );
}

function blurred() {
  if (!looking) return;
  looking.over = true;
  looking.done?.();
  looking = null;
}

if (navigator.locks && "Notification" in window && "serviceWorker" in navigator) {
  window.addEventListener("focus", focused);
  window.addEventListener("blur", blurred);
  if (document.hasFocus()) focused();
  document.addEventListener("wk:change", lookSoon);
  document.addEventListener("wk:relook", lookSoon);
  setInterval(() => look(Date.now() - GATHER), SAFETY);
  lookSoon();
}
