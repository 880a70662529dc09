// The service's JSON, its errors as one sentence each, and the token that it may ask for.

import { byId } from "./dom.js";

export class Problem extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

const KEY = "louder-token"; // sessionStorage alone: it goes when the tab is closed

export const get = (path, options) => ask("GET", path, undefined, options);
export const post = (path, body, options) => ask("POST", path, body, options);
export const remove = (path, options) => ask("DELETE", path, undefined, options);

async function ask(method, path, body, options = {}) {
  if (!options.quiet) busy(1);
  try {
    return await exchange(method, path, body, options);
  } finally {
    if (!options.quiet) busy(-1);
  }
}

let waiting = 0;

function busy(more) {
  waiting += more;
  document.documentElement.toggleAttribute("data-busy", waiting > 0); // the thin line under the header moves
}

async function exchange(method, path, body, { signal, quiet }) {
  const token = sessionStorage.getItem(KEY);
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(path, { method, headers, body: body && write(body), signal, cache: "no-store" });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service cannot be reached.");
  }
  note(response.headers.get("Date"));
  if (response.ok) return read(text);
  if (response.status === 401 && !quiet && (await newToken(token))) return exchange(method, path, body, { signal });
  throw new Problem(sentence(response, text), response.status);
}

let clock = { seconds: 0, at: 0 }; // the service's, when it answered last: this machine's own may be wrong

function note(date) {
  const seconds = Math.floor(Date.parse(date ?? "") / 1000);
  if (seconds) clock = { seconds, at: performance.now() };
}

/** Seconds since 1970 by the service's clock, never ahead of it. */
export const now = () => clock.seconds ? clock.seconds + Math.floor((performance.now() - clock.at) / 1000) : Math.floor(Date.now() / 1000);

function sentence(response, text) {
  const wait = response.headers.get("Retry-After");
  const again = /^\d+$/.test(wait) ? `try again in ${wait} s.` : "try again in a moment.";
  if (response.status === 429) return `Too many requests at once; ${again}`;
  if (response.status === 503) return `The service is busy or still starting; ${again}`;
  if (response.status === 401) return "The service needs a token.";
  try {
    return read(text).error || `The service answered with error ${response.status}.`;
  } catch {
    return `The service answered with error ${response.status}.`;
  }
}

// ids are integers of up to 64 bits, and a number of JavaScript holds 53
const read = text => JSON.parse(text, (key, value, context) =>
  Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source)
    ? BigInt(context.source) : value);
const write = body => JSON.stringify(body, (key, value) =>
  typeof value === "bigint" ? JSON.rawJSON(String(value)) : value);

let asking = null; // one dialog, however many requests were refused

function newToken(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return true; // entered while this request was on its way
  asking ??= askToken(refused).finally(() => (asking = null));
  return asking;
}

function askToken(refused) {
  const dialog = byId("token"), secret = byId("secret");
  if (refused) byId("token-why").textContent = "That token was not accepted. Try another one.";
  secret.value = "";
  byId("token-cancel").onclick = () => dialog.close("");
  dialog.querySelector("form").onsubmit = event => {
    event.preventDefault();
    dialog.close(secret.value);
  };
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(done => {
    dialog.onclose = () => {
      if (dialog.returnValue) sessionStorage.setItem(KEY, dialog.returnValue);
      done(dialog.returnValue !== "");
    };
  });
}
