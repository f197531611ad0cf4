// The service worker of notifications: it shows nothing by itself and stands between no page and the server.
// Browsers on phones show notifications only through one.

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(lead(event.notification.data.url));
});

// To the tab that has the page already, or to a new one: not in place of another page, where somebody may have typed.
async function lead(path) {
  const { href } = new URL(path, self.location.origin);
  const tabs = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = tabs.find(({ url }) => url === href);
  await (there ? there.focus() : self.clients.openWindow(href));
}
