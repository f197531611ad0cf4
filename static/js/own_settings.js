// A person's own settings: asks the browser for its permission when notifications are chosen, and plays the tone.

const notifications = document.querySelector("[name=notifications]");
const sound = document.querySelector("[name=sound]");
const advice = document.getElementById("permission");
const able = "Notification" in window && "serviceWorker" in navigator && navigator.locks !== undefined;

function show() {
  const state = able ? Notification.permission : "unsupported";
  advice.hidden = !notifications.checked || state === "granted";
  for (const part of advice.children) part.hidden = part.dataset.permission !== state;
}

async function ask() {
  if (able && notifications.checked && Notification.permission === "default") {
    await Notification.requestPermission();
  }
  show();
}

notifications.addEventListener("change", ask);
document.getElementById("allow").addEventListener("click", ask);
sound.addEventListener("change", () => {
  if (sound.checked) document.dispatchEvent(new CustomEvent("wk:ring"));
});
show();
