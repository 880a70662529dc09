// The answers of two models side by side, with a line between the two places of an item that is in both.

import { called, draw, make } from "./dom.js";
import { detail } from "./detail.js";
import { brief, meters, scale } from "./measures.js";
import { attributes } from "./tiles.js";

const phone = matchMedia("(max-width: 640px)");

/** Show {model, items} of the live and of the previous model in `root`; `desks` are what each of them is asked with. */
export function showPair(root, live, previous, desks) {
  const lines = draw("svg", { class: "lines", "aria-hidden": "true" });
  const columns = [column("Live", live, previous, "the previous model", desks[0]), column("Previous", previous, live, "the live model", desks[1])];
  const pair = make("div", { className: "pair" }, columns[0], lines, columns[1]);
  const common = live.items.filter(item => previous.items.some(other => other.item === item.item)).length;
  root.replaceChildren(make("p", { className: "lead" }, `${common} of ${live.items.length} are in both lists. Choose one for its numbers, what if, and why.`), pair);
  new ResizeObserver(() => connect(pair, lines)).observe(pair);
}

function column(title, answer, other, name, desk) {
  const { share } = scale(answer.items, desk.model);
  const own = { ...desk, share };
  const list = make("ol", { "aria-label": `${title} model` }, answer.items.map((item, place) => {
    const there = other.items.findIndex(twin => twin.item === item.item);
    const text = there < 0 ? `not in the top ${other.items.length} of ${name}` : there === place ? "same place" : `place ${there + 1} in ${name}`;
    const node = make("li", { className: `card small ${there < 0 ? "lone" : ""}`, "data-item": String(item.item), onmouseenter: light, onmouseleave: light },
      make("span", { className: "place", "aria-hidden": "true" }, place + 1),
      make("div", { className: "head" },
        make("h4", {}, make("button", { type: "button", className: "link", "aria-expanded": "false", onclick: event => unfold(event.currentTarget, node, item, own) }, called(item))),
        attributes(item), make("p", { className: "twin" }, text)),
      meters(brief(item, desk.model), share));
    return node;
  }));
  return make("section", { className: "column" }, make("h3", {}, title, " ", make("small", {}, answer.model)), list);
}

function unfold(button, node, item, desk) {
  const open = node.querySelector(".detail"), within = node.closest(phone.matches ? ".pair" : "ol"); // one at a time
  within.querySelectorAll(".detail").forEach(other => other.remove());
  within.querySelectorAll("h4 button").forEach(other => other.setAttribute("aria-expanded", String(other === button && !open)));
  if (!open) node.append(detail(item, desk, () => { unfold(button, node, item, desk); button.focus(); }));
}

function light(event) {
  const { item } = event.currentTarget.dataset, pair = event.currentTarget.closest(".pair");
  for (const node of pair.querySelectorAll(`[data-item="${CSS.escape(item)}"]`)) node.classList.toggle("lit", event.type === "mouseenter");
}

function connect(pair, lines) {
  const frame = lines.getBoundingClientRect(), [left, right] = pair.querySelectorAll("ol");
  const middle = node => { const box = node.getBoundingClientRect(); return box.top + Math.min(box.height, 90) / 2 - frame.top; };
  const paths = [];
  for (const node of left.children) {
    const { item } = node.dataset, twin = right.querySelector(`[data-item="${CSS.escape(item)}"]`);
    if (!twin) continue;
    const [a, b, w] = [middle(node), middle(twin), frame.width];
    const path = draw("path", { d: `M0 ${a} C${w / 2} ${a} ${w / 2} ${b} ${w} ${b}` });
    path.dataset.item = item;
    paths.push(path);
  }
  lines.replaceChildren(...paths);
}
