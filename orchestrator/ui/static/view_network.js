// Devices and links with rates, load and state; graphs drawn over them; what is behind a click.

import { chart } from "./chart.js";
import { choices, clock, count, empty, facts, fill, h, notice, percent, rate, state, table } from "./dom.js";
import { coloursOf, legend, linkId, NetworkMap } from "./map.js";
import { conditionOf, linkState, store, workersOf } from "./store.js";

// The server of a core (`server1.2`); no other name has a dot.
export const serverOf = (name) => name.split(".")[0];
export const deviceOf = (words) => [...new Set(words.split(", ").map(serverOf))];

// A chip for each NF of each device: what of it runs there.
export function chipsOf(graphs) {
  const found = new Map();
  for (const g of graphs)
    for (const s of g.stories) {
      const nf = s.unit.split(/[.@~]/)[0];
      if (nf === "deliver") continue;
      for (const device of deviceOf(s.device)) {
        const key = `${device}\n${g.graph}\n${nf}`;
        const chip = found.get(key) || { device, graph: g.graph, nf, text: nf, key: nf, units: 0 };
        chip.units += 1;
        found.set(key, chip);
      }
    }
  return [...found.values()];
}

export function deviceFacts(network) {
  const top = store.top, said = {};
  const entries = new Map((top?.devices || []).map((d) => [d.name, d]));
  for (const d of network.devices) {
    const lines = [], c = conditionOf(d), now = entries.get(d.name);
    if (d.kind === "server") {
      const cores = (top?.cores || []).filter((x) => serverOf(x.name) === d.name);
      const busy = cores.filter((x) => x.graphs.length).length, frames = cores.reduce((sum, x) => sum + (x.frames_per_second || 0), 0);
      if (cores.length) lines.push(`${busy}/${cores.length} cores · ${count(Math.round(frames))} fps`);
    } else if (now && c.state !== "down") lines.push(now.problem && !now.entries ? "no pipeline" : `${count(now.entries)} entries`);
    if (c.state === "down" || c.state === "suspect") lines.splice(0, 1, c.state);
    said[d.name] = { lines, state: store.about.kind === "bundle" ? "up" : c.state };
  }
  return said;
}

export function linkFacts(network) {
  const said = {}, loads = loadsByLink();
  for (const link of network.links) {
    const load = loads.get(`${link.a}-${link.b}`) || [];
    const share = Math.max(0, ...load.map((l) => (l.admitted ?? 0) / l.capacity));
    const most = Math.max(0, ...load.map((l) => l.admitted ?? 0));
    said[linkId(link)] = { share, text: most ? rate(most) : "", state: linkState(link).state };
  }
  return said;
}

function loadsByLink() {
  const found = new Map();
  for (const l of store.top?.links || []) found.set(l.link, [...(found.get(l.link) || []), l]);
  return found;
}

export function open(into, asked) {
  let picked = asked.device || null, graph = asked.graph || "", line = null;
  const which = h("select", { id: "overlay", onchange: (e) => { graph = e.target.value; overlay(); side(); } });
  const find = h("input", { id: "find", type: "search", placeholder: "device or link", list: "names", onchange: (e) => { if (pick(e.target.value)) e.target.value = ""; } });
  const names = h("datalist", { id: "names" });
  const health = h("span", { id: "health" });
  const stage = h("div.stage"), panel = h("aside.side", { "aria-label": "What is chosen" }), news = h("div.news", { id: "news", role: "log", "aria-label": "Events" });
  put();
  const map = new NetworkMap(stage, { keep: store.about.name, onpick: (id) => { picked = id; side(); } });
  const words = h("span");
  let pictured = null;

  function put() {
    into.append(
      h("div.bar", null, h("label", null, "Graphs", which), h("label", null, "Find", find, names), health, h("span.spring"),
        h("button", { type: "button", title: "Put devices where they would be", onclick: () => { map.forget(); all(); } }, "Lay out")),
      h("div.split", null, stage, panel), news);
  }

  function pick(name) {
    const link = store.network.links.find((l) => `${l.a}-${l.b}` === name);
    picked = link ? linkId(link) : name;
    if (!map.cy.getElementById(picked).length) return false;
    side();
    return true;
  }

  function overlay() {
    const shown = store.graphs.filter((g) => graph === "" || g.graph === graph);
    const chips = graph === "none" ? [] : chipsOf(shown);
    const colours = coloursOf(chips.map((c) => c.key));
    map.overlay(chips, colours);
    stage.querySelector(".legend")?.remove();
    if (colours.size) stage.append(legend(colours));
    if (graph && graph !== "none" && shown[0]) map.ways(shown[0].hops.flatMap((hop) => hopLinks(hop)));
    else map.ways([]);
  }

  // The links of a hop, as the load says which ways there are.
  function hopLinks(hop) {
    const known = (store.top?.links || []).filter((l) => l.crossings.some((c) => c.graph === graph && c.source === hop.source && c.target === hop.target));
    return known.map((l) => ({ source: l.source, target: l.target }));
  }

  function tell() {
    map.tellNodes(deviceFacts(store.network));
    map.tellLinks(linkFacts(store.network));
    const all = store.network.devices.map((d) => conditionOf(d).state), n = (s) => all.filter((x) => x === s).length;
    fill(health, store.about.kind === "bundle" ? h("span.muted", null, `${all.length} devices, as the bundle knows them`) :
      [state(n("down") ? "down" : n("suspect") ? "suspect" : n("up") ? "up" : "unknown"), h("span.muted", null, ` ${n("up")} of ${all.length} devices up`), n("down") ? `, ${n("down")} down` : "", n("suspect") ? `, ${n("suspect")} suspect` : ""]);
  }

  function all() {
    const known = [["", "all graphs"], ...store.graphs.map((g) => g.graph), ["none", "none"]];
    fill(which, choices(known, graph));
    fill(names, [...store.network.devices, ...store.network.hosts].map((d) => h("option", { value: d.name })), store.network.links.map((l) => h("option", { value: `${l.a}-${l.b}` })));
    map.show(store.network);
    pictured = store.network;
    overlay();
    tell();
    side();
    told("news");
  }

  function side() {
    map.mark(picked ? [picked] : []);
    const device = store.network.devices.find((d) => d.name === picked);
    const host = store.network.hosts.find((x) => x.name === picked);
    const link = store.network.links.find((l) => linkId(l) === picked);
    line = null;
    const scrolled = panel.scrollTop;
    fill(panel, device ? ofDevice(device) : link ? ofLink(link) : host ? ofHost(host) : summary());
    panel.scrollTop = scrolled;
  }

  function sparkline(of, format) {
    const data = () => [store.rates.map((r) => r.at), store.rates.map(of)];
    if (store.rates.length < 3) return h("p.muted", null, store.about.kind === "bundle" ? "" : "rates are being measured");
    const made = chart(370, 96, data(), [["", format]]);
    line = () => made.update(data());
    return made;
  }

  function summary() {
    const { network, top } = store;
    if (store.about.kind === "bundle") return bundleSummary();
    const rows = (top?.traffic || []).map((t) => [
      store.graphs.length > 1 ? [t.traffic, h("div.muted", null, t.graph)] : t.traffic,
      [rate(t.bits_per_second), t.min_rate !== null && h("div.muted", null, `≥ ${rate(t.min_rate)}`)], met(t.rate_met),
      [latency(t), t.max_latency_us !== null && h("div.muted", null, `≤ ${count(t.max_latency_us)} µs`)], met(t.latency_met)]);
    const planned = (top?.traffic || []).some((t) => t.server_latency_us === null && t.planned_latency_us !== null);
    return [
      store.trouble && notice("bad", store.trouble),
      network.lacking.map((text) => notice("bad", text)),
      network.unfinished && notice("warn", `A change of ${network.unfinished} is not finished.`),
      h("h3", null, "Traffic against its SLO"),
      rows.length ? table(["traffic", "rate#", "", "latency#", ""], rows) : h("p.muted", null, store.graphs.length ? "being measured" : "no graph is deployed"),
      planned && h("p.muted", null, "* planned: no packet has been sampled"),
      h("h3", null, "Admitted, all traffics"), sparkline((r) => r.traffic, rate),
      h("h3", null, "Graphs"),
      store.graphs.length ? table(["graph", "owner", "cores#", "deployed at"], store.graphs.map((g) => [h("a", { href: `#/graph?graph=${encodeURIComponent(g.graph)}` }, g.graph), g.owner, count(g.workers.length), g.deployed_at ? new Date(g.deployed_at).toLocaleString("en-GB") : ""]))
        : h("p.muted", null, "none: `orchestrator deploy graph.json`"),
      h("h3", null, "Fullest tables"), tablesOf(() => true, 6),
      network.cordoned.length > 0 && [h("h3", null, "Cordoned"), network.cordoned.join(", ")],
    ];
  }

  function bundleSummary() {
    const g = store.graphs[0];
    return [h("h3", null, "Bundle"), facts([["graph", g.graph], ["owner", g.owner], ["topology", g.topology], ["signed by", g.signer || "nobody"], ["sampling rate", String(g.sampling_rate || "none")]]),
      h("h3", null, "Planned latency"), table(["traffic", "µs#"], Object.entries(g.latency_us).map(([n, v]) => [n, count(v)])),
      h("h3", null, "Planned load of cores"), table(["core", "load#"], Object.entries(g.core_load).map(([n, v]) => [n, percent(v)])),
      h("h3", null, "Entries"), table(["device", "entries#"], Object.entries(g.entries).map(([n, t]) => [n, count(Object.values(t).reduce((a, b) => a + b, 0))]))];
  }

  function tablesOf(which, most) {
    const rows = (store.top?.tables || []).filter(which).slice(0, most);
    if (!rows.length) return h("p.muted", null, store.top ? "no entries" : "being read");
    const many = new Set(rows.map((t) => t.device)).size > 1 || most < 10;
    return table([...(many ? ["device"] : []), "table", "entries#", "", "full#"], rows.map((t) => [...(many ? [t.device] : []), h("a.mono.nowrap", { href: `#/tables?device=${encodeURIComponent(t.device)}&table=${encodeURIComponent(t.table)}` }, t.table), `${count(t.entries)} of ${count(t.size)}`,
      h("meter", { value: t.share, high: 0.8, optimum: 0, "aria-hidden": "true" }), percent(t.share)]));
  }

  function ofDevice(d) {
    const c = conditionOf(d), now = store.top?.devices.find((x) => x.name === d.name);
    const runs = store.graphs.flatMap((g) => g.stories.filter((s) => deviceOf(s.device).includes(d.name)).map((s) => [s.unit, g.graph, s.entries ? count(s.entries) : "", s.why]));
    const cores = (store.top?.cores || []).filter((x) => serverOf(x.name) === d.name);
    const server = d.kind === "server";
    return [
      h("h2", null, d.name, " ", store.about.kind === "live" && state(c.state, c.why)),
      c.why && notice(c.state === "down" ? "bad" : "warn", `${c.why}${c.since ? ` (since ${clock(c.since)})` : ""}`),
      facts([["kind", d.kind], ["target", d.target], ["pipeline", d.pipeline], ["runtime", d.runtime], ["entries", count(now?.entries)], ["dropped outside the pipeline", now && Object.keys(now.drops).length ? Object.entries(now.drops).map(([k, v]) => `${k} ${v}`).join(", ") : ""]]),
      now?.problem && c.state === "up" && notice("warn", now.problem),
      server && store.about.kind === "live" && [
        h("h3", null, "Cores"), cores.length ? table(["core", "graphs", "state", "planned#", "frames/s#", "drops#"], cores.map((x) => {
          const worker = store.conditions.get(`worker ${x.name}`);
          return [x.name, x.graphs.join(", "), state(worker?.state, worker?.why), percent(x.planned_load), x.frames_per_second === null ? "" : x.frames_per_second.toFixed(1), x.drops || ""];
        })) : h("p.muted", null, workersOf(d.name).length ? "being read" : "no workers"),
        h("h3", null, "Frames a second, all cores"), sparkline((r) => cores.reduce((sum, x) => sum + (r.frames[x.name] || 0), 0), (v) => count(Math.round(v))),
      ],
      !server && store.about.kind === "live" && [h("h3", null, "Tables"), tablesOf((t) => t.device === d.name, 40)],
      !server && h("p", null, h("a", { href: `#/tables?device=${encodeURIComponent(d.name)}` }, "all entries")),
      h("h3", null, "What runs here"), runs.length ? table(["element", "graph", "entries#", "why"], runs) : h("p.muted", null, "nothing of any graph"),
    ];
  }

  function ofLink(link) {
    const c = linkState(link), loads = loadsByLink().get(`${link.a}-${link.b}`) || [];
    const crossing = loads.flatMap((l) => l.crossings.map((x) => [x.graph, `${x.source} → ${x.target}`, `${l.source} → ${l.target}`, rate(x.rate)]));
    return [
      h("h2", null, `${link.a} – ${link.b} `, store.about.kind === "live" && state(c.state, c.why)), c.why && notice("bad", c.why),
      facts([["capacity", `${rate(link.capacity)} a direction`], ["latency", `${link.latency_us} µs`], [`port of ${link.a}`, link.a_port || ""], [`port of ${link.b}`, link.b_port || ""]]),
      h("h3", null, "Directions"),
      loads.length ? table(["direction", "now#", "planned#", "of capacity#"], loads.map((l) => [`${l.source} → ${l.target}`, l.admitted === null ? "" : `≤ ${rate(l.admitted)}`, rate(l.planned), percent((l.admitted ?? 0) / l.capacity)])) : h("p.muted", null, "No graph's packets go between devices here."),
      loads.length > 0 && h("p.muted", null, "At most: the plans' ways at the rates that the ingresses admit. Nobody counts frames on links."),
      loads.length > 0 && [h("h3", null, "Rate admitted"), sparkline((r) => Math.max(...loads.map((l) => r.links[`${l.source}>${l.target}`] ?? 0)), rate)],
      h("h3", null, "What crosses it"), crossing.length ? table(["graph", "from and to", "direction", "planned#"], crossing) : h("p.muted", null, "nothing planned"),
    ];
  }

  function ofHost(x) {
    const mine = store.graphs.flatMap((g) => Object.entries(g.endpoints).filter(([, hosts]) => hosts.includes(x.name)).map(([e]) => [g.graph, e]));
    return [h("h2", null, x.name), facts([["kind", "host"], ["addresses", x.addresses.join(", ")]]),
      h("h3", null, "Endpoints"), mine.length ? table(["graph", "endpoint"], mine) : h("p.muted", null, "of no graph"),
      h("p", null, h("a", { href: `#/packet?source=${encodeURIComponent(x.name)}` }, "send a packet from here (explain)"))];
  }

  function told(what) {
    if (what === "network" && pictured !== store.network) return all();
    if (what === "conditions") { tell(); side(); }
    if (what === "top" || what === "trouble") { tell(); overlayOnce(); if (!reads()) side(); else line?.(); }
    if (what === "news") fill(news, store.news.length ? store.news.slice(0, 60).map((n) => h("div.line", null, h("time", null, clock(n.at)), h("span", null, n.text))) :
      h("div.muted", null, store.about.kind === "bundle" ? "A bundle: nothing happens here." : "What changes is told here: devices, links, graphs."));
  }
  // Who has marked text, or is at a link with the keys, must not lose it under the hands.
  const reads = () => panel.contains(document.activeElement) || (!getSelection().isCollapsed && panel.contains(getSelection().anchorNode));
  let drawn = false;
  function overlayOnce() {
    if (!drawn && graph && store.top?.links.length) { drawn = true; overlay(); }
  }

  all();
  return {
    told, close: () => map.destroy(), restyle: () => { map.restyle(); side(); },
    key(key) {
      if (key === "f") map.fit();
      else if (key === "Escape") { picked = null; side(); } else return false;
      return true;
    },
  };
}

const latency = (t) => (t.server_latency_us !== null ? `${count(t.server_latency_us)} µs` : t.planned_latency_us !== null ? `${count(t.planned_latency_us)} µs*` : "");

export function met(is) {
  return is === null || is === undefined ? "" : is ? h("span.state.up", null, "met") : h("span.state.down", null, "missed");
}
