// What every page does by itself: one click is one request, copying, and words for what went wrong.

const { dataset } = document.body;
const trouble = document.getElementById("trouble");
let troubleTimer = 0;

function show(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
  clearTimeout(troubleTimer);
  if (text) troubleTimer = setTimeout(() => show(""), 12000);
}

function say(text) {
  const place = document.getElementById("announce");
  place.textContent = "";
  setTimeout(() => (place.textContent = text), 50);
}

// --- one click, one request --------------------------------------------------------------------------------

function setBusy(form, button) {
  form.dataset.sent = "1";
  if (!button?.dataset.busy) return;
  button.dataset.was = button.innerHTML;
  button.textContent = button.dataset.busy;
  button.setAttribute("aria-busy", "true");
  say(button.dataset.busy);
}

function setIdle(form) {
  delete form.dataset.sent;
  for (const button of form.querySelectorAll("[aria-busy]")) {
    button.innerHTML = button.dataset.was;
    button.removeAttribute("aria-busy");
  }
}

document.addEventListener(
  "submit",
  (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
      event.stopImmediatePropagation();
    } else {
      setBusy(form, event.submitter ?? form.querySelector("button"));
    }
  },
  true,
);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[data-sent]").forEach(setIdle);
});

// --- htmx: where an answer goes, and what is said when there is none ----------------------------------------------

// A fragment takes the place of what has its id now, whichever request brought it: a live update may have swapped the
// target away while the answer was on its way.
function aim(event) {
  const { detail } = event;
  const template = document.createElement("template");
  template.innerHTML = detail.serverResponse;
  const root = document.getElementById(template.content.firstElementChild?.id);
  detail.target = root ?? document.getElementById(detail.target.id) ?? detail.target;
  if (!detail.target.isConnected) detail.shouldSwap = false;
}

document.addEventListener("htmx:beforeRequest", ({ detail }) => {
  const { xhr, elt, target } = detail;
  const inPanel = elt.matches("#panel form");
  let aborted = false;
  target.addEventListener("htmx:beforeSwap", aim); // here, because what is swapped away sends its events nowhere
  xhr.addEventListener("abort", () => (aborted = true));
  xhr.addEventListener("loadend", () => {
    target.removeEventListener("htmx:beforeSwap", aim);
    if (aborted) return;
    const wrong = xhr.getResponseHeader("X-Away") ?? (xhr.status === 0 || xhr.status >= 502 ? "server" : "");
    document.dispatchEvent(new CustomEvent("wk:answered", { detail: wrong }));
    if (xhr.status === 404) show(dataset.troubleGone);
    else if (wrong) show(wrong === "database" ? dataset.troubleDatabase : dataset.troubleNetwork);
    else show(xhr.status >= 400 && xhr.status !== 422 ? dataset.troubleAnswer : "");
    if (!elt.matches("form")) return;
    setIdle(elt);
    if (xhr.status !== 422) document.dispatchEvent(new CustomEvent("wk:relook"));
    if (inPanel && document.activeElement === document.body) {
      document.getElementById("panel")?.focus({ preventScroll: true });
    }
  });
});
document.addEventListener("wk:trouble", ({ detail }) => show(dataset[`trouble${detail}`]));

// --- copying --------------------------------------------------------------------------------------------------

function copyByHand(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByHand(text);
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const done = await copy(button.dataset.copy);
  button.focus({ preventScroll: true });
  button.classList.toggle("copied", done);
  setTimeout(() => button.classList.remove("copied"), 1500);
  say(done ? dataset.copied : dataset.notCopied);
  if (!done) show(dataset.notCopied);
});
