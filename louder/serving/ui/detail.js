// What there is to say of one item: how likely it is, what if they did something with it, why it is there, what is like it.

import { called, make, words } from "./dom.js";
import { expected, measures, meters } from "./measures.js";
import { attributes, poster } from "./tiles.js";
import { similar, why } from "./why.js";

/** Buttons that do something with an item in the sandbox. */
export function deeds(item, desk) {
  const deed = (name, actions, text) => make("button", {
    type: "button", "data-act": name, "aria-label": `${text}: ${called(item)}`, onclick: () => desk.act(item, actions),
  }, text);
  return [make("span", { className: "name" }, "What if:"), desk.model.actions.map(name => deed(name, [name], words(name))), deed("seen", [], "only seen")];
}

/** Buttons that fill a panel, one at a time. */
export function questions(item, desk, panel) {
  const question = (text, answer) => make("button", {
    type: "button", className: "link", "data-act": text, "aria-expanded": "false", "aria-label": `${text} ${called(item)}`,
    onclick: event => toggle(event.currentTarget, panel, () => answer(item, desk, panel)),
  }, text);
  return make("span", { className: "asks" }, question("Why?", why), question("More like this", similar));
}

export function toggle(button, panel, fill) {
  const open = button.getAttribute("aria-expanded") === "true";
  for (const other of button.parentNode.children) other.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-expanded", String(!open));
  panel.hidden = open;
  if (!open) fill();
}

/** The panel below a strip or in a column; `close` puts it away. */
export function detail(item, desk, close) {
  const panel = make("div", { className: "panel", hidden: true });
  const asks = questions(item, desk, panel);
  const node = make("article", { className: "detail", "aria-label": called(item), tabIndex: -1, onkeydown: event => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
  } },
    poster(item),
    make("div", { className: "about" },
      make("div", { className: "detail-head" }, make("h4", {}, called(item)),
        make("button", { type: "button", className: "close", "aria-label": `Close ${called(item)}`, onclick: close }, "×")),
      attributes(item),
      meters(measures(item, desk.model), desk.share, true), expected(item),
      make("div", { className: "acts" }, deeds(item, desk)), asks, panel));
  asks.firstChild.click(); // who opens an item wants to know why
  return node;
}
