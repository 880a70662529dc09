// What opens below an item: the past events that it leans on, or items like it.

import { post } from "./api.js";
import { bar, called, dated, digits, make, notice, percent } from "./dom.js";
import { poster } from "./tiles.js";
import { mark, reveal, unmark } from "./timeline.js";

const dates = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });
const HARDLY = 0.0005; // of the score

export const why = (item, desk, panel) => fill(panel, async () => {
  const { diversity, where, ...request } = desk.request();
  const answer = await post("v1/recommend", { ...request, k: 1, allow: [item.item], seen: true, explain: true });
  const { reasons = [], score } = answer.items[0] ?? {};
  if (!reasons.length) return [make("p", { className: "lead" }, answer.history ? "This model does not say what it leans on." : "Nothing is known of them, so it leans on no event: this is what is popular.")];
  const most = Math.max(...reasons.map(reason => reason.attention)) || 1;
  const strongest = Math.max(...reasons.map(reason => Math.abs(reason.without ?? 0))) || 1;
  return [
    make("div", { className: "reasons", role: "table", "aria-label": `Why ${called(item)}` },
      make("div", { role: "row", className: "heads" }, ["It leans on", "Attention", "Share of the score"].map(text =>
        make("span", { role: "columnheader" }, text))),
      reasons.map(reason => line(reason, most, strongest, score))),
    make("p", { className: "fine" }, "Choose an event to find it in the history. The share is what the score loses, or gains, without the event."),
  ];
});

function line(reason, most, strongest, score) {
  return make("div", { role: "row" },
    make("span", { role: "cell" }, make("button", {
      type: "button", className: "link", onmouseenter: () => mark(reason), onmouseleave: unmark, onfocus: () => mark(reason),
      onblur: unmark, onclick: () => reveal(reason),
    }, called(reason)), make("small", {}, dated(dates, reason.time))),
    make("span", { role: "cell", className: "share" }, bar(reason.attention / most), percent(reason.attention)),
    make("span", { role: "cell", className: "share" }, ...effect(reason.without, strongest, score)));
}

/** A bar to the right of the middle where the event lifts the score, to the left where it lowers it. */
function effect(without, strongest, score) {
  if (without === null) return [make("span"), "all of it"]; // nothing is left then
  const share = -without / Math.abs(score || 1), way = Math.abs(share) < HARDLY ? "" : share > 0 ? "lifts" : "lowers";
  const fill = make("i");
  fill.style.width = `${50 * Math.abs(without) / strongest}%`;
  const sign = { lifts: "+", lowers: "−", "": "" }[way];
  return [make("span", { className: `bar both ${way}`, "aria-hidden": "true" }, fill),
    make("b", { className: way }, way && make("span", { className: "hidden" }, `${way} it: `), way ? `${sign}${(100 * Math.abs(share)).toFixed(1)} %` : "none to see")];
}

export const similar = (item, desk, panel) => fill(panel, async () => {
  const { items } = await post("v1/similar", { item: item.item, k: 6 });
  if (!items.length) return [make("p", { className: "lead" }, "Nothing is like it.")];
  return [
    make("p", { className: "fine" }, "What the model holds closest to this, whoever asks; 1 is the same."),
    make("ul", { className: "alike" }, items.map(other => make("li", {},
      make("a", { href: `#item=${encodeURIComponent(other.item)}` }, poster(other)),
      make("span", { className: "amount" }, digits(other.score))))),
  ];
});

async function fill(panel, answer) {
  panel.replaceChildren(make("p", { className: "lead asking", role: "status" }, "Asking the model…"));
  try {
    panel.replaceChildren(...await answer());
  } catch (error) {
    panel.replaceChildren(notice(error, () => fill(panel, answer)));
  }
}
