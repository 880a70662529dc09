// What a stranger sees: users to begin with, what is popular, someone new; and for an item who knows it and what is alike.

import { get, post } from "./api.js";
import { byId, called, hue, make, notice, plural } from "./dom.js";
import { attributes, poster, strip, tile } from "./tiles.js";

const USERS = 6;

/** The first page. */
export function showHome(model, signal) {
  const users = make("div", { className: "people" }, blanks());
  const again = make("button", { type: "button", onclick: () => fill(users, () => get(`v1/users/sample?limit=${USERS}`, { signal }), "The store has no users yet: start as someone new, or send events to /v1/events.") }, "Show others");
  const popular = make("div"), fan = make("div", { className: "fan", "aria-hidden": "true" });
  byId("welcome").replaceChildren(make("div", { className: "first" },
    make("div", { className: "hero" }, make("h1", {}, "What comes next?"),
      make("p", {}, `Pick someone, see what they did, and what the model expects of them among ${plural(model.items, "item")}. Ask why, and try what would change if they liked something: nothing is stored unless you save it.`),
      make("p", {}, make("a", { className: "button main", href: "#new" }, "Start as someone new"))), fan),
    make("div", { className: "section-head" }, make("h2", {}, "People to begin with"), again), users, popular);
  again.click();
  begin(popular, fan, model, signal);
}

/** What someone new is shown, where popularity is known. */
async function begin(root, fan, model, signal) {
  const { items } = await post("v1/recommend", { history: [], k: 24 }, { signal, quiet: true }).catch(() => ({ items: [] }));
  if (!items.length || signal.aborted) return;
  fan.replaceChildren(...unlike(items, 5).map((item, n) => {
    const art = poster(item);
    art.style.setProperty("--n", n);
    return art;
  }));
  root.replaceChildren(links("What everybody begins with", "popular; choose one to see who knows it", items, model));
}

/** A few items, of different kinds as far as there are some. */
function unlike(items, count) {
  const kind = item => Object.values(item.attributes ?? {})[0]?.[0];
  const firsts = items.filter((item, at) => items.findIndex(other => kind(other) === kind(item)) === at);
  return [...new Set([...firsts, ...items])].slice(0, count);
}

/** Tiles that lead to their items. */
function links(title, caption, items, model) {
  const node = strip(title, caption, items.map(item => tile({ ...item, actions: {}, score: item.score }, { model, share: () => 0 })),
    door => { location.hash = `item=${encodeURIComponent(door.closest(".tile").dataset.item)}`; });
  node.classList.add("bare");
  return node;
}

/** The page of an item. */
export async function showItem(name, model, signal) {
  const root = byId("welcome");
  root.replaceChildren(make("div", { className: "people" }, blanks()));
  const { item, users, sample } = await get(`v1/items/${encodeURIComponent(name)}/users?limit=${USERS}`, { signal });
  if (signal.aborted) return;
  document.title = `${called(item)} · Louder`;
  const alike = make("div");
  root.replaceChildren(
    make("div", { className: "hero of-item" }, poster(item), make("div", {}, make("h1", {}, called(item)), attributes(item),
      make("p", {}, make("a", { className: "button main", href: `#new&with=${encodeURIComponent(name)}` }, "Start as someone new with this")))),
    make("div", { className: "section-head" }, make("h2", {}, "Who knows it")),
    users.length ? make("div", { className: "people" }, users.map(person))
      : make("p", { className: "note" }, `None of the ${plural(sample, "user")} that were looked at did anything with it.`), alike);
  const { items } = await post("v1/similar", { item: item.item, k: 20 }, { signal, quiet: true }).catch(() => ({ items: [] }));
  if (items.length && !signal.aborted) alike.replaceChildren(links("More like this", "what the model holds closest, whoever asks", items, model));
}

/** A user as a card that leads to them. */
function person({ user, total, favourites, latest }) {
  return make("a", { className: "person", href: `#user=${encodeURIComponent(user)}` }, avatar(user),
    make("span", { className: "name-line" }, make("b", {}, `User ${user}`), make("small", {}, plural(total, "event"))),
    favourites.length ? make("span", { className: "tags" }, make("span", { className: "hidden" }, "more than others: "), favourites.map(name => make("span", { className: "tag" }, name))) : null,
    latest ? make("small", { className: "latest" }, "Lately: ", called(latest)) : null);
}

export function avatar(user) {
  const node = make("span", { className: "avatar", "aria-hidden": "true" }, String(user).slice(-2));
  node.style.setProperty("--hue", hue(`user ${user}`).toFixed(0));
  return node;
}

const blanks = () => Array.from({ length: USERS }, () => make("span", { className: "person blank", "aria-hidden": "true" }));

async function fill(root, ask, none) {
  root.setAttribute("aria-busy", "true");
  try {
    const { users } = await ask();
    root.replaceChildren(...(users.length ? users.map(person) : [make("p", { className: "note" }, none)]));
  } catch (error) {
    if (error.name !== "AbortError") root.replaceChildren(notice(error, () => fill(root, ask, none)));
  } finally {
    root.removeAttribute("aria-busy");
  }
}
