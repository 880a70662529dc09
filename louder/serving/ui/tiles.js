// A tile: the item's picture, or a colour of its own with its title, and below how likely it is. Tiles stand in strips.

import { called, hue, make, words } from "./dom.js";
import { brief, meters } from "./measures.js";

const labels = item => Object.values(item.attributes ?? {}).find(values => values.length) ?? [];

/** The picture of an item. Its colour goes by its first attribute, and the pattern by its title. */
export function poster(item, ...over) {
  const kind = labels(item)[0] ?? called(item);
  const art = make("span", { className: "poster" });
  art.style.setProperty("--hue", hue(kind).toFixed(0));
  art.style.setProperty("--turn", `${(hue(called(item)) % 100).toFixed(0)}%`);
  art.append(make("span", { className: "kind", "aria-hidden": "true" }, labels(item).join(", ")), make("span", { className: "caption" }, called(item)), ...over);
  if (item.image) {
    const image = make("img", { src: item.image, alt: "", loading: "lazy", referrerPolicy: "no-referrer", decoding: "async" });
    image.onload = () => art.classList.add("pictured");
    image.onerror = () => image.remove();
    art.prepend(image);
  }
  return art;
}

export const attributes = item => make("p", { className: "attributes" },
  Object.entries(item.attributes ?? {}).filter(([, values]) => values.length).map(([name, values]) =>
    make("span", {}, make("span", { className: "hidden" }, `${words(name)}: `), values.join(", "))));

/** A tile that opens what there is to say of an item. `place` is its number in the list, where it has one. */
export function tile(item, desk, { place, badge } = {}) {
  const told = brief(item, desk.model);
  const more = [place !== undefined && make("span", { className: "place", "aria-hidden": "true" }, place + 1), badge && make("span", { className: "badge" }, badge)];
  const name = [place === undefined ? "" : `${place + 1}: `, called(item), badge ? `, ${badge}` : "", ...told.map(one => `, ${one.name.toLowerCase()} ${one.text}`)];
  return make("li", { className: "tile", "data-item": String(item.item) },
    make("button", { type: "button", className: "open", tabIndex: -1, "aria-expanded": "false", "aria-label": name.join(""), title: called(item) },
      poster(item, ...more.filter(Boolean))),
    desk.act && make("button", {
      type: "button", className: "quick", tabIndex: -1, "aria-hidden": "true", title: `What if: ${words(desk.model.main ?? "seen")}`,
      onclick: () => desk.act(item, desk.model.main ? [desk.model.main] : []),
    }, "+"),
    make("div", { "aria-hidden": "true" }, meters(told, desk.share)));
}

/** A strip of tiles under a title. The arrow keys walk in it, so that it is one stop of the Tab key. */
export function strip(title, caption, tiles, open) {
  const list = make("ol", { className: "tiles" }, tiles);
  const step = way => list.scrollBy({ left: way * list.clientWidth * 0.85, behavior: "smooth" });
  const arrow = (way, sign) => make("button", { type: "button", tabIndex: -1, "aria-hidden": "true", onclick: () => step(way) }, sign);
  const node = make("section", { className: "strip" },
    make("div", { className: "strip-head" }, make("h3", {}, title), caption && make("small", {}, caption), make("span", { className: "arrows" }, arrow(-1, "‹"), arrow(1, "›"))),
    list);
  const doors = () => [...list.querySelectorAll(".open")];
  const stop = door => { for (const other of doors()) other.tabIndex = other === door ? 0 : -1; };
  const first = doors()[0];
  if (first) first.tabIndex = 0;
  list.addEventListener("focusin", event => event.target.matches(".open") && stop(event.target));
  list.addEventListener("keydown", event => {
    const all = doors(), at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, to))].focus();
  });
  list.addEventListener("click", event => {
    const door = event.target.closest(".open");
    if (door) open(door, node);
  });
  return node;
}

/** What stands where tiles will be. */
export const waiting = (title, count = 10) => make("section", { className: "strip", "aria-hidden": "true" },
  make("div", { className: "strip-head" }, make("h3", {}, title)),
  make("ol", { className: "tiles" }, Array.from({ length: count }, () => make("li", { className: "tile" }, make("span", { className: "poster blank" }), make("span", { className: "line blank" })))));
