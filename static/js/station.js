// The scan station: refreshes at once what an event is about, sends a verification code when it is complete, and
// searches the queue. Everything else is ordinary forms and keys.

const SIX_DIGITS = /^\d{6}$/;

function live() {
  return document.getElementById("station-live");
}

function refresh(element) {
  element?.dispatchEvent(new CustomEvent("wk:due", { bubbles: true }));
}

function shownNow() {
  const { dataset } = live();
  return `${dataset.shows} ${dataset.ahead} ${dataset.mode} ${dataset.position}`;
}

let before = shownNow();
document.addEventListener("wk:change", ({ detail }) => {
  const { shows, ahead } = live().dataset;
  if ([shows, ahead].includes(String(detail.attempt))) refresh(live());
});

// The queue follows what is shown. Its answer comes later than the QR code, for which somebody waits.
function follow() {
  const now = shownNow();
  if (now === before) return;
  before = now;
  refresh(document.getElementById("station-queue"));
}
document.addEventListener("wk:drawn", follow);
document.addEventListener("htmx:afterSettle", follow);

document.addEventListener("input", ({ target }) => {
  if (target.matches(".code-field") && SIX_DIGITS.test(target.value.trim())) {
    target.form.querySelector("[value=code]").click();
  } else if (target.id === "queue-search") {
    search(target.value);
  }
});

function rows() {
  return [...document.querySelectorAll("#station-queue li[data-find]")];
}

function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows()) row.hidden = !words.every((word) => row.dataset.find.includes(word));
}

// Enter, also that of a barcode reader, shows the first match.
document.addEventListener("keydown", (event) => {
  if (event.target.id !== "queue-search" || event.isComposing) return;
  if (event.key === "Escape") leaveSearch(event.target);
  if (event.key !== "Enter") return;
  event.preventDefault();
  const text = event.target.value.trim().toLowerCase();
  const found = rows().filter((row) => !row.hidden);
  const row = found.find(({ dataset }) => dataset.find.includes(text)) ?? found[0];
  row?.querySelector("button").click();
  leaveSearch(event.target);
});

function leaveSearch(field) {
  field.value = "";
  search("");
  field.blur();
}

// An account that another person has is taken over only after a question.
document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest("#station-queue button[name=item]");
    if (!button) return;
    const { ask } = button.dataset;
    button.form.querySelector("input[name=do]").value = ask ? "take" : "show";
    if (!ask || confirm(ask)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  },
  true,
);
document.addEventListener("wk:drawn", () => {
  const field = document.getElementById("queue-search");
  if (field?.value) search(field.value);
});
