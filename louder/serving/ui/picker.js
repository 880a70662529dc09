// Find a user by the start of an id, or an item by its title: walk the list with the arrows, Enter takes one.

import { get } from "./api.js";
import { byId, called, make, notice, plural, say } from "./dom.js";

const SHOWN = 6; // of each kind

/** Calls choose("user" or "item", id). Returns a function that shows what was opened. */
export function picker(choose) {
  const input = byId("find"), list = byId("found");
  let options = [], active = -1, asked = null, timer = 0, users = [], of = null;

  function close() {
    clearTimeout(timer);
    asked?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function take(kind, id) {
    close();
    choose(kind, id);
  }

  function activate(place) {
    active = (place + options.length) % options.length;
    options.forEach((option, at) => option.setAttribute("aria-selected", at === active));
    input.setAttribute("aria-activedescendant", options[active].id);
    options[active].scrollIntoView({ block: "nearest" });
  }

  const option = (kind, id, ...text) => make("div", {
    role: "option", "aria-selected": "false", "data-kind": kind,
    onpointerdown: event => event.preventDefault(), // keep the focus in the field
    onclick: () => take(kind, id),
  }, ...text);

  const group = (name, members) => members.length ? [make("div", { role: "group", "aria-label": name }, make("div", { className: "group", "aria-hidden": "true" }, name), members)] : [];

  async function suggest() {
    clearTimeout(timer);
    asked?.abort();
    asked = new AbortController();
    const text = input.value.trim(), { signal } = asked;
    try {
      const found = await Promise.all([
        get(`v1/users?${new URLSearchParams({ prefix: text, limit: SHOWN })}`, { signal, quiet: false }),
        text ? get(`v1/items?${new URLSearchParams({ title: text, limit: SHOWN })}`, { signal }) : { items: [] },
      ]);
      ({ users } = found[0]);
      of = text;
      const people = users.map(user => option("user", user, `User ${user}`));
      const titles = found[1].items.map(item => option("item", item.item, called(item), " ", make("small", {}, Object.values(item.attributes).flat().slice(0, 3).join(", "))));
      options = [...people, ...titles];
      options.forEach((node, at) => { node.id = `option-${at}`; });
      active = -1;
      const none = text ? `No id starts and no title holds “${text}”. Enter opens a user of this id.` : "The store has no users yet.";
      list.replaceChildren(...group("Users", people), ...group("Who knows…", titles), ...(options.length ? [] : [make("div", { className: "none" }, none)]));
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      input.removeAttribute("aria-activedescendant");
      say(options.length ? `${plural(options.length, "suggestion")}; choose with the arrow keys.` : none);
    } catch (error) {
      if (error.name !== "AbortError") fail(error, suggest);
    }
  }

  function fail(error, retry) {
    close();
    byId("notices").replaceChildren(notice(error, () => { byId("notices").replaceChildren(); retry(); }));
  }

  async function surprise() {
    try {
      const { users: [one] } = await get("v1/users/sample?limit=1");
      if (one) take("user", one.user);
      else say("The store has no users yet.");
    } catch (error) {
      fail(error, surprise);
    }
  }

  /** What Enter means where nothing was chosen: the user of this id; or if there is none, the first title. */
  async function enter() {
    const text = input.value.trim();
    if (!text) return;
    if (of !== text) await suggest();
    const exact = users.find(user => String(user) === text), first = options.find(node => node.dataset.kind === "item");
    if (exact === undefined && first && input.value.trim() === text) first.click();
    else take("user", exact ?? text);
  }

  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(suggest, 120); });
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => list.hidden && suggest());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", event => {
    if (event.key === "Escape" && !list.hidden) { event.preventDefault(); close(); }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    if (list.hidden) suggest();
    else if (options.length) activate(active < 0 && event.key === "ArrowUp" ? -1 : active + (event.key === "ArrowDown" ? 1 : -1));
  });
  byId("pick").addEventListener("submit", event => {
    event.preventDefault();
    if (active >= 0) options[active].click();
    else enter();
  });
  byId("surprise").addEventListener("click", surprise);
  addEventListener("keydown", event => { // as on many pages, a slash goes to the search
    if (event.key !== "/" || event.target.matches("input, select")) return;
    event.preventDefault();
    input.focus();
  });
  return text => { close(); input.value = text; };
}
