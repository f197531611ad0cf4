// Draws the number of accounts that need attention on the tab's icon, and writes it before the title of the list.

const icon = document.querySelector("link[rel=icon]");
const plain = icon.href;
const title = document.querySelector("meta[name=counted-title]")?.content;
let drawn = 0;

function draw(count) {
  if (count === drawn) return;
  drawn = count;
  const text = count > 99 ? "99+" : String(count);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="9"
    fill="#0b7d4b"/><rect x="${text.length > 1 ? 4 : 10}" y="9" width="${
    text.length > 1 ? 28 : 22
  }" height="23" rx="9"
    fill="#fff"/><text x="${text.length > 1 ? 18 : 21}" y="27" font-family="sans-serif" font-weight="700"
    font-size="${text.length > 2 ? 13 : 18}" text-anchor="middle" fill="#8a5200">${text}</text></svg>`;
  icon.href = count ? `data:image/svg+xml,${encodeURIComponent(svg)}` : plain;
}

function show(count) {
  draw(count);
  if (title) document.title = count ? `(${count}) ${title}` : title;
}

document.addEventListener("wk:counts", ({ detail }) => show(detail.attention || 0));
draw(Number(document.querySelector("[data-count=attention]")?.textContent) || 0);
