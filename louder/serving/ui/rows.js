// The answer as strips of tiles: the best, what past events call for, and one strip for each genre or other attribute.

import { post } from "./api.js";
import { called, make } from "./dom.js";
import { detail } from "./detail.js";
import { strip, tile, waiting } from "./tiles.js";

const BEST = 10; // tiles of the first strip
const FEW = 4; // fewer make no strip
const MOST = 6; // strips by attribute
const CAUSES = 2; // past events with a strip of their own
const ALIKE = 40; // items alike that may be in it

/** Show items; `moved(item, place)` is a mark or null, `causes` are past events that may have a strip. */
export function showRows(root, items, desk, moved, causes) {
  const kept = new Map([...root.querySelectorAll(".strip[data-cause]")].map(node => [node.dataset.cause, node]));
  if (!items.length) return root.replaceChildren(make("p", { className: "note" }, "Nothing fits. Allow more above: other values, or what they already know."));
  const best = strip(`Top ${Math.min(BEST, items.length)}`, "the best guesses, in order", items.slice(0, BEST).map((item, place) =>
    tile(item, desk, { place, badge: moved(item, place) })), opener(items, desk));
  const because = causes.slice(0, CAUSES).map(event => {
    const key = `${event.item} ${event.time}`, old = kept.get(key) ?? waiting(`Because of “${called(event)}”`);
    old.dataset.cause = key;
    return old;
  });
  followAll(causes.slice(0, CAUSES), because, desk, items.slice(0, BEST).map(item => item.item));
  const held = focused(root);
  root.replaceChildren(best, ...because, ...grouped(items.slice(BEST)).map(([name, own]) =>
    strip(name, `${own.length} more`, own.map(item => tile(item, desk)), opener(items, desk))));
  if (held) [...[...root.children].at(held.strip)?.querySelectorAll(".open") ?? []].at(held.place)?.focus({ preventScroll: true });
}

/** Where the focus is, so that a list that changes under the keyboard keeps it. */
function focused(root) {
  const strip = document.activeElement?.closest(".strip");
  if (!strip || !root.contains(strip)) return null;
  const doors = [...strip.querySelectorAll(".open")], open = doors.findIndex(door => door === document.activeElement || door.getAttribute("aria-expanded") === "true");
  return { strip: [...root.children].indexOf(strip), place: Math.max(0, open) };
}

/** [value of the first attribute, items]: each item stands once, with the value whose best item comes first. */
function grouped(items) {
  const groups = new Map(), used = new Set(), found = [];
  for (const item of items) {
    for (const value of Object.values(item.attributes ?? {})[0] ?? []) groups.set(value, [...groups.get(value) ?? [], item]);
  }
  for (const [value, all] of groups) {
    const own = all.filter(item => !used.has(item));
    if (own.length < FEW || found.length === MOST) continue;
    own.forEach(item => used.add(item));
    found.push([value, own]);
  }
  const rest = items.filter(item => !used.has(item)).slice(0, 30);
  if (rest.length && !found.length) found.push(["Further guesses", rest]);
  return found;
}

/** Fill the strips of past events one after the other, so that none repeats what stands above. */
async function followAll(causes, strips, desk, above) {
  for (const [at, event] of causes.entries()) above = [...above, ...await follow(event, desk, strips[at], above)];
}

/** Fill a strip with what is alike to a past event, in the order in which the model expects it of this user; its items. */
async function follow(event, desk, place, above) {
  try {
    const { items: alike } = await post("v1/similar", { item: event.item, k: ALIKE }, { signal: desk.signal });
    const { items } = await post("v1/recommend", { ...desk.request(), k: 12, allow: alike.map(item => item.item), deny: above }, { signal: desk.signal });
    if (items.length < FEW) {
      place.remove();
      return [];
    }
    const own = items.map(item => comparable(item, desk.model));
    const node = strip(`Because of “${called(event)}”`, "alike, in the order expected of them", own.map(item => tile(item, desk)), opener(own, desk));
    node.dataset.cause = place.dataset.cause;
    place.replaceWith(node);
    return items.map(item => item.item);
  } catch (error) {
    if (error.name !== "AbortError") place.remove(); // an item that the model does not know, or a busy moment: the others say enough
    return [];
  }
}

/** An item without what was told among a few alone: how likely it is next compares with no other list. */
const comparable = ({ next, ...item }, model) => next == null ? item : { ...item, score: item.actions?.[model.main] ?? item.score };

/** Opens the detail of a tile below its strip, and closes the one that was open. */
export const opener = (items, desk) => (door, node) => {
  const was = door.getAttribute("aria-expanded") === "true";
  shut();
  if (was) return;
  const item = items.find(other => String(other.item) === door.closest(".tile").dataset.item);
  door.setAttribute("aria-expanded", "true");
  const close = () => { shut(); door.focus(); };
  const panel = detail(item, desk, close);
  node.append(panel);
  door.onkeydown = event => {
    if (event.key === "Escape") close();
    if (event.key === "ArrowDown") { event.preventDefault(); panel.querySelector(".acts button")?.focus(); }
  };
  panel.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
};

function shut() {
  for (const panel of document.querySelectorAll(".strip > .detail")) panel.remove();
  for (const door of document.querySelectorAll(".open[aria-expanded=true]")) door.setAttribute("aria-expanded", "false");
}
