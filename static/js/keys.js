// The keys of a page. An element with data-key="l" is pressed, or a field focused, when somebody types that key. Other
// keys are offered to the page's own scripts as "wk:key"; one that uses a key calls preventDefault(). No key does
// anything while a field has the focus, while letters are composed, or while a dialog is open.

const FIELD = "input:not([type=checkbox], [type=radio], [type=button]), select, textarea, [contenteditable]";
const PRESSES_ITSELF = "a, button, summary, input";

function isShown(element) {
  return element.getClientRects().length > 0 && !element.disabled;
}

function wished(key) {
  const name = key === " " ? "Space" : key;
  return [...document.querySelectorAll(`[data-key~="${CSS.escape(name)}"]`)].find(isShown);
}

function press(element) {
  element.focus();
  if (element.matches("a, button, [type=checkbox]")) element.click();
  else element.select?.();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (event.key === "Shift" || event.defaultPrevented || event.target.closest(FIELD)) return;
  if (document.querySelector("dialog[open]")) return;
  if ((event.key === "Enter" || event.key === " ") && event.target.closest(PRESSES_ITSELF)) return;
  const element = wished(event.key);
  if (element) {
    event.preventDefault();
    press(element);
    return;
  }
  const offer = new CustomEvent("wk:key", {
    detail: { key: event.key, shift: event.shiftKey },
    cancelable: true,
  });
  if (!document.dispatchEvent(offer)) event.preventDefault();
});
