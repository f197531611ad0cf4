// Django admin: names for what its own scripts make without one, for people who hear the page.

function nameSearchFields() {
  for (const field of document.querySelectorAll(".select2-search__field")) {
    const label = field.closest(".form-row")?.querySelector("label");
    if (label) field.setAttribute("aria-label", label.textContent.trim());
  }
}

globalThis.django?.jQuery?.(nameSearchFields); // after Django's script, which makes them in the same way
addEventListener("load", () => {
  nameSearchFields();
  for (const tip of document.querySelectorAll(".help-tooltip[aria-label]")) tip.setAttribute("role", "img");
});
