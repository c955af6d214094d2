// What is known now, and who wants to be told when that changes.

import { ask, follow } from "./api.js";

export const store = {
  about: null, network: null, graphs: [], top: null, conditions: new Map(), news: [], events: [], rates: [], connected: false, trouble: "",
};

const listeners = new Set();
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
const tell = (what, value) => listeners.forEach((listener) => listener(what, value));

const MOST_NEWS = 300, MOST_EVENTS = 2000, MOST_RATES = 600;
const byName = (conditions) => new Map(conditions.map((c) => [`${c.kind} ${c.name}`, c]));

export async function load() {
  store.about = store.about || (await ask("about"));
  await reload();
  ask("events").then((found) => {
    store.events.push(...found.events.reverse());
    tell("event");
  }, () => {}); // told as trouble, if it goes on
}

export async function reload() {
  const [network, graphs] = await Promise.all([ask("network"), ask("graphs")]);
  store.network = network;
  store.graphs = graphs.graphs;
  store.conditions = byName(network.conditions);
  tell("network");
}

export function run() {
  follow((what, value) => {
    if (what === "conditions") store.conditions = byName(value);
    else if (what === "top") keep(value);
    else if (what === "trouble") store.trouble = value.error;
    else if (what === "news") {
      store.news.unshift(value);
      store.news.length = Math.min(store.news.length, MOST_NEWS);
      if (value.kind === "graph") reload().catch(() => {});
    }
    if (what === "event") {
      store.events.unshift(value);
      store.events.length = Math.min(store.events.length, MOST_EVENTS);
    }
    tell(what, value);
  }, (connected) => {
    store.connected = connected;
    tell("connected");
  });
}

function keep(top) {
  store.top = top;
  store.trouble = "";
  const frames = Object.fromEntries(top.cores.map((c) => [c.name, c.frames_per_second]));
  const links = Object.fromEntries(top.links.map((l) => [`${l.source}>${l.target}`, l.admitted]));
  const traffic = top.traffic.reduce((sum, t) => sum + (t.bits_per_second || 0), 0);
  store.rates.push({ at: top.at, frames, links, traffic: top.traffic.some((t) => t.bits_per_second !== null) ? traffic : null });
  if (store.rates.length > MOST_RATES) store.rates.shift();
}

// The condition of a device; a server's is the worst of its workers'.
const BAD = { up: 0, unknown: 1, suspect: 2, down: 3 };
export function conditionOf(device) {
  const of = (key) => store.conditions.get(key);
  if (device.kind !== "server") return of(`${device.kind} ${device.name}`) || { state: "unknown", why: "" };
  const mine = workersOf(device.name);
  if (!mine.length) return { state: "unknown", why: "no workers" };
  return mine.reduce((worst, c) => (BAD[c.state] > BAD[worst.state] ? c : worst));
}
export function workersOf(server) {
  const core = new RegExp(`^${server.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}\\.\\d+$`);
  return [...store.conditions.values()].filter((c) => c.kind === "worker" && core.test(c.name));
}
export const linkState = (link) => store.conditions.get(`link ${link.a}-${link.b}`) || { state: "unknown", why: "" };
