// The list of recommendations: a card for each, marks on what is new or moved.

import { bar, called, digits, make, number, percent, words } from "./dom.js";
import { similar, why } from "./why.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Show items in `root`. `before` holds the places that items had, or is null where nothing was shown before. */
export function showCards(root, items, before, model, act, request) {
  const share = shares(items);
  const held = focused(root), tops = positions(root);
  const cards = items.map((item, place) => card(item, place, share(item), change(item, place, before), model, act, request));
  root.replaceChildren(...cards);
  if (!items.length) root.append(make("li", { className: "lead" }, "Nothing fits. Allow more above: other values, or what they already know."));
  slide(cards, tops);
  if (held) focus(cards, held);
}

/** Places of items, to tell later what moved. */
export const places = items => new Map(items.map((item, place) => [item.item, place]));

/** Share of the longest bar that an item's score is; the scores of one list compare with each other only. */
export function shares(items) {
  const scores = items.map(item => item.score), low = Math.min(0, ...scores);
  const span = Math.max(...scores) - low || 1;
  return item => (item.score - low) / span;
}

export const attributes = item => {
  const named = Object.entries(item.attributes ?? {}).filter(([, values]) => values.length);
  return make("p", { className: "attributes" }, named.map(([name, values]) =>
    make("span", {}, make("span", { className: "hidden" }, `${words(name)}: `), values.join(", "))));
};

export const score = (item, share) => make("p", { className: "score" },
  make("span", { className: "name" }, "Score"), bar(share), make("b", {}, digits(item.score)));

function card(item, place, share, moved, model, act, request) {
  const panel = make("div", { className: "panel", hidden: true });
  const chances = Object.entries(item.actions ?? {}).map(([name, chance]) => make("li", {},
    make("span", { className: "name", title: words(name) }, words(name)), bar(chance), make("span", {}, percent(chance))));
  for (const [name, value] of Object.entries(item.values ?? {})) {
    chances.push(make("li", {}, make("span", { className: "name" }, words(name)), make("span"), make("span", {}, number(value))));
  }
  const deed = (name, actions) => make("button", {
    type: "button", "data-act": name, "aria-label": `${words(name)}: ${called(item)}`, onclick: () => act(item, actions),
  }, words(name));
  const question = (text, answer) => make("button", {
    type: "button", className: "link", "data-act": text, "aria-expanded": "false", "aria-label": `${text} ${called(item)}`,
    onclick: event => toggle(event.currentTarget, panel, () => answer(item, request(), panel)),
  }, text);
  return make("li", { className: "card", tabIndex: -1, "data-item": String(item.item) },
    make("div", { className: "place" }, make("span", { "aria-hidden": "true" }, place + 1), moved),
    make("div", { className: "head" }, make("h3", {}, called(item)), attributes(item)),
    make("div", { className: "chances" }, score(item, share), chances.length ? make("ul", { "aria-label": "Chance of each action" }, chances) : null),
    make("div", { className: "acts" },
      make("span", { className: "name" }, "What if they did:"), deed("seen", []), model.actions.map(name => deed(name, [name])),
      make("span", { className: "asks" }, question("Why?", why), question("More like this", similar))),
    panel);
}

function toggle(button, panel, fill) {
  const open = button.getAttribute("aria-expanded") === "true";
  for (const other of button.parentNode.children) other.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-expanded", String(!open));
  panel.hidden = open;
  if (!open) fill();
}

function change(item, place, before) {
  if (!before) return null;
  const was = before.get(item.item);
  if (was === undefined) return make("span", { className: "moved new" }, "new");
  if (was === place) return null;
  const up = was > place;
  return make("span", { className: `moved ${up ? "up" : "down"}` }, make("span", { className: "hidden" }, up ? "up " : "down "),
    make("span", { "aria-hidden": "true" }, up ? "↑" : "↓"), Math.abs(was - place));
}

/** What changed between two lists, in words. */
export function changes(items, before) {
  const fresh = items.filter(item => !before.has(item.item)).length;
  const moved = items.filter((item, place) => before.has(item.item) && before.get(item.item) !== place).length;
  const parts = [fresh && `${fresh} new`, moved && `${moved} moved`].filter(Boolean);
  return parts.length ? `${parts.join(", ")}.` : "the order stays.";
}

const positions = root => new Map([...root.children].map(node => [node.dataset.item, node.getBoundingClientRect().top]));

function slide(cards, tops) {
  if (calm.matches) return;
  for (const node of cards) {
    const from = tops.get(node.dataset.item) - node.getBoundingClientRect().top;
    if (from) node.animate([{ transform: `translateY(${from}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
    else if (tops.size && Number.isNaN(from)) node.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 350 });
  }
}

// a list that changes under the keyboard keeps the focus: on the same item, or on what took its place
function focused(root) {
  const node = document.activeElement?.closest(".card");
  if (!node || !root.contains(node)) return null;
  return { item: node.dataset.item, place: [...root.children].indexOf(node), act: document.activeElement.dataset.act };
}

function focus(cards, { item, place, act }) {
  const same = cards.find(node => node.dataset.item === item);
  const target = same?.querySelector(`[data-act="${CSS.escape(act)}"]`) ?? same ?? cards[Math.min(place, cards.length - 1)];
  target?.focus({ preventScroll: true });
}
