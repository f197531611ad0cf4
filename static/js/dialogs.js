// Opens the dialog that data-opens="ID" names. Where popovers are missing (Chromium before 114), shows them by a class.

const POPOVERS = "popover" in HTMLElement.prototype;

function hidePopovers(except) {
  for (const shown of document.querySelectorAll("[popover].open")) {
    if (shown === except) continue;
    shown.classList.remove("open");
    document.querySelector(`[popovertarget="${shown.id}"]`)?.setAttribute("aria-expanded", "false");
  }
}

function togglePopover(button) {
  const target = document.getElementById(button.getAttribute("popovertarget"));
  hidePopovers(target);
  button.setAttribute("aria-expanded", String(target.classList.toggle("open")));
}

document.addEventListener("click", ({ target }) => {
  const opener = target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  else if (target.matches("dialog[open]")) target.close(); // its backdrop was clicked
  if (POPOVERS) return;
  const button = target.closest("[popovertarget]");
  if (button) togglePopover(button);
  else hidePopovers(target.closest("[popover].open"));
});
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape") hidePopovers();
});
