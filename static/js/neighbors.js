// The previous and the next account of the list from which this page was opened. The list keeps its order in the
// session of this tab (list/rows.js); without it the links stay hidden.

const here = location.pathname.match(/\d+/)?.[0];
const order = JSON.parse(sessionStorage.getItem("wk-list") ?? "[]");
const at = order.indexOf(here);

function lead(id, account) {
  if (at < 0 || !account) return;
  const link = document.getElementById(id);
  link.href = location.pathname.replace(here, account);
  link.hidden = false;
}

lead("previous-account", order[at - 1]);
lead("next-account", order[at + 1]);
