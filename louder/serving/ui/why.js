// What opens below a recommendation: the past events that it leans on, or items like it.

import { post } from "./api.js";
import { bar, called, digits, make, notice, percent, signed } from "./dom.js";
import { mark, reveal, unmark } from "./timeline.js";

const dates = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });

export const why = (item, request, panel) => fill(panel, async () => {
  const { user, weights } = request;
  const answer = await post("v1/recommend", { user, weights, k: 1, allow: [item.item], seen: true, explain: true });
  const reasons = answer.items[0]?.reasons ?? [];
  if (!reasons.length) return [make("p", { className: "lead" }, "This model does not say what it leans on.")];
  const most = Math.max(...reasons.map(reason => reason.attention)) || 1;
  return [
    make("p", { className: "lead" }, "The past events that this suggestion leans on most. Choose one to find it in the history."),
    make("div", { className: "reasons", role: "table", "aria-label": `Why ${called(item)}` },
      make("div", { role: "row", className: "heads" }, ["Event", "Attention paid to it", "Score changes without it"].map(text =>
        make("span", { role: "columnheader" }, text))),
      reasons.map(reason => line(reason, most))),
  ];
});

function line(reason, most) {
  const change = reason.without;
  const shown = change === null ? "not known" : signed(change);
  const helps = change < 0 ? "helps" : change > 0 ? "hurts" : "";
  return make("div", { role: "row" },
    make("span", { role: "cell" }, make("button", {
      type: "button", className: "link", onmouseenter: () => mark(reason), onmouseleave: unmark, onfocus: () => mark(reason),
      onblur: unmark, onclick: () => reveal(reason),
    }, called(reason)), make("small", {}, dates.format(reason.time * 1000))),
    make("span", { role: "cell", className: "share" }, bar(reason.attention / most), percent(reason.attention)),
    make("span", { role: "cell", className: `without ${helps}` }, shown));
}

export const similar = (item, request, panel) => fill(panel, async () => {
  const { items } = await post("v1/similar", { item: item.item, k: 5 });
  if (!items.length) return [make("p", { className: "lead" }, "Nothing is like it.")];
  const most = Math.max(...items.map(other => other.score)) || 1;
  return [
    make("p", { className: "lead" }, "What the model holds closest to this, whoever asks."),
    make("ul", { className: "alike" }, items.map(other => make("li", {},
      make("span", {}, called(other)), bar(other.score / most), make("span", {}, digits(other.score))))),
  ];
});

async function fill(panel, answer) {
  panel.replaceChildren(make("p", { className: "lead", role: "status" }, "Asking the model…"));
  try {
    panel.replaceChildren(...await answer());
  } catch (error) {
    panel.replaceChildren(notice(error, () => fill(panel, answer)));
  }
}
