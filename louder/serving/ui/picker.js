// Pick a user: type the start of an id, walk the list with the arrows, Enter takes it.

import { get } from "./api.js";
import { byId, make, notice, say } from "./dom.js";

const SHOWN = 8;

/** Calls choose(user). Returns a function that shows which user was opened. */
export function picker(choose) {
  const input = byId("user"), list = byId("users");
  let options = [], active = -1, asked = null, timer = 0;

  function close() {
    clearTimeout(timer);
    asked?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function take(user) {
    close();
    input.value = String(user);
    choose(user);
  }

  function activate(place) {
    active = (place + options.length) % options.length;
    options.forEach((option, at) => option.setAttribute("aria-selected", at === active));
    input.setAttribute("aria-activedescendant", options[active].id);
    options[active].scrollIntoView({ block: "nearest" });
  }

  async function suggest() {
    asked?.abort();
    asked = new AbortController();
    try {
      const query = new URLSearchParams({ prefix: input.value.trim(), limit: SHOWN });
      const { users } = await get(`v1/users?${query}`, { signal: asked.signal });
      active = -1;
      options = users.map((user, at) => make("li", {
        id: `user-${at}`, role: "option", "aria-selected": "false",
        onpointerdown: event => event.preventDefault(), // keep the focus in the field
        onclick: () => take(user),
      }, String(user)));
      list.replaceChildren(...options);
      if (!users.length) list.append(make("li", { className: "none" }, "No user's id starts like this."));
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      input.removeAttribute("aria-activedescendant");
      say(users.length ? `${users.length} users to choose from with the arrow keys.` : "No user's id starts like this.");
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
      const { users } = await get("v1/users?limit=200");
      if (users.length) take(users[Math.floor(Math.random() * users.length)]);
      else say("The store has no users yet.");
    } catch (error) {
      fail(error, surprise);
    }
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
    else if (input.value.trim()) take(input.value.trim());
  });
  byId("surprise").addEventListener("click", surprise);
  return name => { close(); input.value = name; };
}
