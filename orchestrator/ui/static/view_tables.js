// Entries in words, with provenance, filters, hits and rates; drawn on demand, since there may be 100,000.

import { ask } from "./api.js";
import { busy, choices, clock, count, empty, fill, h, notice, table } from "./dom.js";
import { store } from "./store.js";

const PAGE = 200, EVERY_MS = 2000;
const SORTS = ["packets", "bytes", "rate", "priority", "rule", "match", "action"];

// A cell is text, whatever it says; the whole of it is in its title.
const text = (cell) => {
  const value = cell.getValue();
  return h("span", { title: String(value ?? "") }, value ?? "");
};
const number = (cell) => h("span", null, count(cell.getValue()));
const perSecond = (cell) => h("span", null, cell.getValue() === null ? "" : cell.getValue().toFixed(1));

export function open(into, asked) {
  const devices = store.network.devices.filter((d) => d.kind !== "server").map((d) => d.name);
  const want = { device: asked.device || devices[0] || "all", table: asked.table || "", nf: asked.nf || "", graph: asked.graph || "", match: [], rule: asked.rule || "", hit: false, unhit: false, sort: "packets" };
  let grid = null, fresh = false, timer = 0, wait = 0, closed = false, coverage = false, turn = 0;
  const live = store.about.kind === "live";

  const select = (id, values) => h("select", { id, onchange: (e) => { want[id] = e.target.value; if (id === "device") Object.assign(want, { table: "", nf: "" }); begin(id === "device"); } }, values);
  const inDevice = select("device", choices([...devices, ["all", "all switches"]], want.device));
  const inTable = select("table"), inNf = select("nf"), inGraph = select("graph");
  const inSort = select("sort", choices(SORTS, want.sort));
  const soon = (change) => (e) => { change(e.target.value); clearTimeout(wait); wait = setTimeout(() => begin(), 350); };
  const inMatch = h("input", { id: "match", size: 26, placeholder: "dst=10.0.0.5 dst_port=80-90", title: "Entries that a packet with these fields could hit", oninput: soon((v) => { want.match = v.split(/\s+/).filter(Boolean); }) });
  const inRule = h("input", { id: "rule", size: 16, placeholder: "access.json:14", value: want.rule, oninput: soon((v) => { want.rule = v.trim(); }) });
  const inHit = h("select", { id: "hits", onchange: (e) => { want.hit = e.target.value === "hit"; want.unhit = e.target.value === "unhit"; begin(); } }, choices([["", "all"], ["hit", "hit"], ["unhit", "never hit"]], ""));
  const follow = h("input", { id: "follow", type: "checkbox", onchange: () => plan() });
  const covered = h("button", { type: "button", id: "coverage", "aria-pressed": "false", onclick: () => { coverage = !coverage; covered.setAttribute("aria-pressed", String(coverage)); coverage ? cover() : begin(true); } }, "Coverage");
  const told = h("span.muted", { id: "total", role: "status" }), body = h("div.view");
  into.append(
    h("div.bar", null, h("label", null, "Device", inDevice), h("label", null, "Table", inTable), h("label", null, "Graph", inGraph), h("label", null, "NF", inNf), h("label", null, "Hits", inHit), h("label", null, "Order", inSort)),
    h("div.bar", null, h("label", null, "Match", inMatch), h("label", null, "Rule", inRule), live && h("label", null, follow, "follow"),
      live && h("button", { type: "button", id: "read", onclick: () => begin(true) }, "Read again"), h("span.spring"), told, covered),
    body);

  const columns = () => [
    ...(want.device === "all" ? [{ title: "device", field: "device", width: 90 }] : []),
    ...(want.table ? [] : [{ title: "table", field: "table", width: 170 }]),
    { title: "segment", field: "segment", width: 78 }, { title: "match", field: "match", widthGrow: 4, minWidth: 180 }, { title: "action", field: "action", widthGrow: 3, minWidth: 140 },
    { title: "prio", field: "priority", width: 58, hozAlign: "right" }, { title: "graph", field: "graph", width: 110 }, { title: "NF", field: "nf", width: 106 }, { title: "rule", field: "rule", widthGrow: 2, minWidth: 120 },
    { title: "packets", field: "packets", width: 84, hozAlign: "right", formatter: number },
    { title: "per second", field: "rate", width: 88, hozAlign: "right", formatter: perSecond }, { title: "bytes", field: "bytes", width: 92, hozAlign: "right", formatter: number },
  ].map((c) => ({ formatter: text, headerSort: false, ...c }));

  async function page(number) {
    const again = fresh;
    fresh = false;
    const mine = turn;
    const nobody = new Promise(() => {}); // who waits for a table that is gone waits for ever
    let found;
    try {
      found = await ask("entries", { ...want, offset: (number - 1) * PAGE, limit: PAGE, fresh: again });
    } catch (error) {
      if (mine === turn && !closed) problem(error);
      return nobody;
    }
    if (mine !== turn || closed) return nobody;
    say(found);
    return { data: found.rows, last_page: Math.ceil(found.total / PAGE) || 1 };
  }

  function say(found) {
    const all = found.tables.reduce((sum, t) => sum + t.entries, 0);
    fill(told, found.total === all ? `${count(all)} entries` : `${count(found.total)} of ${count(all)} entries`, live ? `, read at ${clock(found.at)}` : ", as the bundle has them");
    const names = new Map();
    for (const t of found.tables) names.set(t.table, (names.get(t.table) || 0) + t.entries);
    const some = (of, first) => (of ? [["", first], ...[...names].sort()] : []);
    fill(inTable, choices(some(true, "all tables").map(([v, n]) => [v, v ? `${v} (${count(n)})` : n]), want.table));
    fill(inNf, choices([["", "all"], ...found.nfs], want.nf));
    fill(inGraph, choices([["", "all"], ...found.graphs], want.graph));
  }

  function begin(again = false) {
    if (coverage || closed) return;
    fresh = fresh || again;
    turn += 1;
    grid?.destroy();
    const into = h("div.grid");
    fill(body, into);
    grid = new Tabulator(into, {
      height: "100%", layout: "fitColumns", columns: columns(), columnDefaults: { resizable: true }, placeholder: "no entry is to be shown",
      ajaxURL: "entries", ajaxRequestFunc: (_, __, { page: number }) => page(number), progressiveLoad: "scroll", progressiveLoadScrollMargin: 600,
      paginationSize: PAGE, dataLoaderLoading: "reading", rowHeight: 25, selectableRows: false, renderVerticalBuffer: 400, index: "",
    });
    plan();
  }

  function problem(error) {
    turn += 1;
    grid?.destroy();
    grid = null;
    fill(told);
    fill(body, h("div.empty", null, notice("bad", error.message)));
  }

  function plan() {
    clearTimeout(timer);
    if (follow.checked && !coverage && !closed) timer = setTimeout(refresh, EVERY_MS);
  }

  // The rows that are there, read again in place.
  async function refresh() {
    const mine = turn;
    const shown = Math.min(1000, grid?.getDataCount() || PAGE);
    try {
      const found = await ask("entries", { ...want, offset: 0, limit: Math.max(PAGE, shown), fresh: true });
      if (mine !== turn || closed) return;
      say(found);
      const top = body.querySelector(".tabulator-tableholder")?.scrollTop || 0;
      if (top < 40) await grid.replaceData(found.rows).catch(() => {});
    } catch (error) {
      if (mine === turn) return problem(error);
    }
    plan();
  }

  async function cover() {
    clearTimeout(timer);
    turn += 1;
    grid?.destroy();
    grid = null;
    fill(told);
    fill(body, h("div.empty", null, busy("reading all switches")));
    try {
      const found = await ask("rules");
      if (!coverage || closed) return;
      fill(body, h("div.side.whole", null,
        h("h3", null, "Coverage of rules"), found.nfs.length ? table(["graph", "NF", "rules#", "hit#", "never hit#"], found.nfs.map((n) => [n.graph, n.nf, count(n.rules), count(n.rules - n.never_hit), count(n.never_hit)])) : h("p.muted", null, "No switch counts rules here."),
        h("h3", null, `${count(found.never_hit.length)} rules never hit`), table(["graph", "NF", "rule", "entries#"], found.never_hit.slice(0, 1000).map((r) => [r.graph, r.nf, h("span.mono", null, r.rule), r.entries])), found.never_hit.length > 1000 && h("p.muted", null, "the first 1,000"),
        h("h3", null, `${count(found.not_installed.length)} rules that no switch was given`), table(["graph", "NF", "rule", "why"], found.not_installed.slice(0, 1000).map((r) => [r.graph || "", r.nf || "", h("span.mono", null, r.rule), r.why]))));
    } catch (error) {
      fill(body, h("div.empty", null, notice("bad", error.message)));
    }
  }

  if (!devices.length) fill(body, empty("There is no switch.", "This network has no device with tables."));
  else begin(live);
  return { close: () => { closed = true; clearTimeout(timer); clearTimeout(wait); grid?.destroy(); } };
}
