// The frame: views by the address's #, keys, dark and light, and what changes while one looks.

import { takeToken } from "./api.js";
import { empty, fill, h } from "./dom.js";
import { listen, load, run, store } from "./store.js";
import * as graph from "./view_graph.js";
import * as network from "./view_network.js";
import * as packet from "./view_packet.js";
import * as tables from "./view_tables.js";
import * as whatif from "./view_whatif.js";

const VIEWS = [["network", "Network", network], ["graph", "Graph", graph], ["tables", "Tables", tables], ["packet", "Packet", packet], ["whatif", "What-if", whatif]];
const KEYS = [
  ["1 … 5", "the views"], ["/", "the first field of a view"], ["↑ ↓", "hop by hop (Packet)"], ["f", "all of the picture"],
  ["Esc", "let go of what is chosen"], ["d", "dark or light"], ["?", "these keys"],
];
const at = (id) => document.getElementById(id);
let shown = { name: "", view: null };

function theme(wanted) {
  if (wanted) localStorage.setItem("theme", wanted);
  const dark = (localStorage.getItem("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  document.documentElement.classList.toggle("dark", dark);
  shown.view?.restyle?.();
  return dark;
}
const turn = () => theme(document.documentElement.classList.contains("dark") ? "light" : "dark");

function frame() {
  const { about } = store;
  document.title = `${about.name} · orchestrator`;
  fill(at("name"), about.name);
  fill(at("kind"), about.kind === "bundle" ? "bundle" : about.writes ? "may write" : "read-only");
  at("kind").classList.toggle("write", about.writes);
  fill(at("tabs"), VIEWS.map(([name, title], i) =>
    h("button", { type: "button", role: "tab", id: `tab-${name}`, title: `${title} (${i + 1})`, onclick: () => { location.hash = `#/${name}`; } }, title)));
  fill(at("keys"), h("h2", null, "Keys"), h("dl.facts", null, KEYS.map(([key, what]) => [h("dt", null, h("kbd", null, key)), h("dd", null, what)])),
    h("form", { method: "dialog" }, h("button.main", { autofocus: true }, "Close")));
  connected();
}

function connected() {
  const bundle = store.about.kind === "bundle";
  at("link-state").classList.toggle("off", !store.connected);
  fill(at("link-state"), !store.connected ? "not connected" : bundle ? "saved" : "live");
}

function show() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const name = VIEWS.some(([n]) => n === path) ? path : "network";
  const asked = Object.fromEntries(new URLSearchParams(query || ""));
  shown.view?.close?.();
  shown = { name, view: null };
  for (const [n] of VIEWS) at(`tab-${n}`).setAttribute("aria-selected", String(n === name));
  const into = h("div.view", { id: `view-${name}` });
  at("view").replaceChildren(into);
  shown.view = VIEWS.find(([n]) => n === name)[2].open(into, asked);
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || at("keys").open) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") at("view").focus();
    return;
  }
  const number = VIEWS[Number(event.key) - 1];
  if (number) location.hash = `#/${number[0]}`;
  else if (event.key === "?") at("keys").showModal();
  else if (event.key === "d") turn();
  else if (event.key === "/") at("view").querySelector("input, select, textarea")?.focus();
  else if (!shown.view?.key?.(event.key)) return;
  event.preventDefault();
}

async function begin() {
  theme();
  if (!takeToken())
    return fill(at("view"), empty("The token is missing.", "Open the address that `orchestrator ui` printed, with all that is behind the #."));
  try {
    await load();
  } catch (error) {
    return fill(at("view"), empty("Nothing can be shown.", error.message));
  }
  frame();
  listen((what, value) => {
    if (what === "connected") connected();
    shown.view?.told?.(what, value);
  });
  addEventListener("hashchange", () => (location.hash.includes("token=") ? location.reload() : show()));
  addEventListener("keydown", keyed);
  at("theme").addEventListener("click", turn);
  at("help").addEventListener("click", () => at("keys").showModal());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
  run();
  show();
}

begin();
