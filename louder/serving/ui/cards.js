// The answer as a list with all its numbers: a card for each item, marks on what is new or moved.

import { called, make } from "./dom.js";
import { deeds, questions } from "./detail.js";
import { expected, measures, meters } from "./measures.js";
import { attributes, poster } from "./tiles.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Show items in `root`, an ol. `moved(item, place)` is a mark or null. */
export function showCards(root, items, desk, moved) {
  const held = focused(root), tops = positions(root);
  const cards = items.map((item, place) => card(item, place, desk, moved(item, place)));
  root.replaceChildren(...cards);
  if (!items.length) root.append(make("li", { className: "note" }, "Nothing fits. Allow more above: other values, or what they already know."));
  slide(cards, tops);
  if (held) focus(cards, held);
}

function card(item, place, desk, mark) {
  const panel = make("div", { className: "panel", hidden: true });
  return make("li", { className: "card", tabIndex: -1, "data-item": String(item.item) },
    make("div", { className: "place" }, make("span", { "aria-hidden": "true" }, place + 1), mark && make("span", { className: `moved ${mark.split(" ")[0]}` }, mark)),
    make("span", { className: "thumb", "aria-hidden": "true" }, poster(item)),
    make("div", { className: "head" }, make("h3", {}, called(item)), attributes(item), expected(item)),
    meters(measures(item, desk.model), desk.share, true),
    make("div", { className: "acts" }, deeds(item, desk), questions(item, desk, panel)),
    panel);
}

/** Places of items, to tell later what moved. */
export const places = items => new Map(items.map((item, place) => [item.item, place]));

/** A mark on an item that is new or moved, given the places before; null where nothing was shown before. */
export function change(item, place, before) {
  const was = before?.get(item.item);
  if (!before || was === place) return null;
  if (was === undefined) return "new";
  return was > place ? `up ${was - place}` : `down ${place - was}`;
}

/** What changed between two lists, in words. */
export function changes(items, before) {
  const fresh = items.filter(item => !before.has(item.item)).length;
  const moved = items.filter((item, place) => before.has(item.item) && before.get(item.item) !== place).length;
  const parts = [fresh && `${fresh} new`, moved && `${moved} moved`].filter(Boolean);
  return parts.length ? `${parts.join(", ")} of the first ${items.length}.` : "The order stays.";
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
