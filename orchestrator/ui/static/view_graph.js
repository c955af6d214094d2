// A service graph with its cut: which element runs where and why, what synthesis did, rules and their hits;
// and what a saved graph.json would change, before it is deployed.

import { ask, work } from "./api.js";
import { busy, choices, colour, count, empty, facts, fill, h, notice, percent, table } from "./dom.js";
import { coloursOf, legend, mixed } from "./map.js";
import { reload, store } from "./store.js";
import { deviceOf } from "./view_network.js";

const FILE = "file ", MOST_ELEMENTS = 120;

export function open(into, asked) {
  let chosen = asked.graph || store.graphs[0]?.graph || (store.about.files.length ? `${FILE}0` : ""), picked = null;
  let plan = null, said = [], rules = null, synthesis = {}, stop = new AbortController();
  const which = h("select", { id: "graph", onchange: (e) => { chosen = e.target.value; picked = null; plan = null; said = []; begin(); } });
  const again = h("button", { type: "button", id: "plan", onclick: () => begin() }, "Plan again");
  const stage = h("div.stage"), panel = h("aside.side.wide", { "aria-label": "About the graph" });
  const canvas = h("div.canvas", { role: "img", "aria-label": "Service graph" });
  stage.append(canvas, h("div.zoom", null, h("button", { type: "button", title: "All of it (f)", onclick: () => cy.fit(undefined, 30) }, "⤢")));
  into.append(h("div.bar", null, h("label", null, "Graph", which), again), h("div.split", null, stage, panel));
  const cy = cytoscape({ container: canvas, style: style(), minZoom: 0.05, maxZoom: 2.5, boxSelectionEnabled: false });
  cy.on("tap", (event) => {
    picked = event.target === cy || !event.target.isNode() || event.target.hasClass("end") ? null : event.target.id();
    mark();
    side();
  });
  const resized = new ResizeObserver(() => cy.resize());
  resized.observe(stage);

  const isFile = () => chosen.startsWith(FILE);
  const shown = () => (isFile() ? plan?.new : store.graphs.find((g) => g.graph === chosen));

  function list() {
    fill(which, choices([...store.graphs.map((g) => [g.graph, g.graph]), ...store.about.files.map((f, i) => [`${FILE}${i}`, `plan of ${f}`])], chosen));
    again.hidden = !isFile();
  }

  async function begin() {
    list();
    stop.abort();
    stop = new AbortController();
    const signal = stop.signal;
    if (!chosen) {
      cy.elements().remove();
      fill(stage, empty("No graph is deployed.", "Deploy one, or name a file to be planned: orchestrator ui --graph graph.json"));
      return fill(panel);
    }
    if (isFile()) {
      plan = null;
      cy.elements().remove();
      fill(panel, busy("compiling"));
      try {
        plan = await work("plan", { file: Number(chosen.slice(FILE.length)) }, (p) => { if (!signal.aborted) fill(panel, busy(p.what)); }, signal);
      } catch (error) {
        if (error.name === "AbortError") return;
        return fill(panel, notice("bad", error.message));
      }
    }
    draw();
    side();
    if (!isFile()) hits();
  }

  async function hits() {
    try {
      rules = await ask("rules", undefined, stop.signal);
      side();
    } catch (error) {
      if (error.name !== "AbortError") rules = { problem: error.message, rules: [], not_installed: [] };
    }
  }

  const nfOf = (unit) => unit.split(/[.@~]/)[0];
  // edge_acl.inside.rules@leaf1: NF, what of it, for whom
  function named(unit) {
    const [what, ...where] = unit.split("@");
    const parts = what.split(".");
    return { nf: parts[0] === "deliver" ? `deliver to ${parts[1]}` : parts[0], part: parts[0] === "deliver" ? "" : parts.slice(1).join(".").replaceAll("~", " ~ "), at: where.join("@") };
  }

  // Of a crowd one for all copies of an element that differ in their device only.
  function copies(stories) {
    const found = new Map(), firsts = new Map();
    for (const s of stories) {
      const key = stories.length > MOST_ELEMENTS ? `${s.unit.split("@")[0]} ${s.kind}` : s.unit;
      const of = firsts.get(key) || { unit: s.unit, story: s, many: 0 };
      of.many += 1;
      firsts.set(key, of);
      found.set(s.unit, of);
    }
    return found;
  }

  function draw() {
    const g = shown();
    const devices = coloursOf(g.stories.flatMap((s) => deviceOf(s.device)).sort());
    const before = new Map((plan?.old?.stories || []).map((s) => [s.unit, s.device]));
    const compared = Boolean(isFile() && plan.old);
    const alike = copies(g.stories), one = (unit) => alike.get(unit)?.unit || unit;
    const nodes = [...new Set(alike.values())].map((a) => {
      const s = a.story, n = named(s.unit), where = a.many > 1 ? `${deviceOf(s.device)[0]} and ${a.many - 1} more` : deviceOf(s.device).join(", ");
      const change = !compared ? "" : !before.has(s.unit) ? "new" : before.get(s.unit) !== s.device ? "moved" : "";
      const color = devices.get(deviceOf(s.device)[0]);
      return {
        data: { id: s.unit, label: [(change === "new" ? "+ " : change === "moved" ? "→ " : "") + n.nf, n.part.length > 19 ? n.part.slice(0, 18) + "…" : n.part, s.kind === "server" && a.many === 1 ? s.device : where].filter(Boolean).join("\n"), color, ground: mixed(color, 0.2) },
        classes: [s.kind, change].filter(Boolean).join(" "),
      };
    });
    const known = new Set(g.stories.map((s) => s.unit));
    const ends = new Map();
    const crowd = alike.size > MOST_ELEMENTS, drawn = new Set();
    const edges = g.arcs.filter((a) => known.has(a.target)).map((a, i) => {
      const end = known.has(a.source) ? one(a.source) : crowd ? "@" : a.source, pair = `${end} ${one(a.target)}`;
      if (drawn.has(pair)) return null;
      drawn.add(pair);
      if (!known.has(a.source)) ends.set(end, { data: { id: end, label: crowd ? "from hosts" : `from hosts\nat ${a.source.replace(/^@/, "")}`, color: colour("muted"), ground: colour("raised") }, classes: "end" });
      return { data: { id: `arc ${i}`, source: end, target: one(a.target) } };
    }).filter(Boolean);
    cy.batch(() => {
      cy.elements().remove();
      cy.add([...nodes, ...ends.values(), ...edges]);
    });
    arrange();
    stage.querySelector(".legend")?.remove();
    stage.append(legend(devices, h("span", null, "cut corners: on a server, with state")));
    mark();
  }

  // From left to right, or from above where that shows more of it.
  function arrange() {
    const zoomed = (rankDir) => {
      cy.layout({ name: "dagre", rankDir, nodeSep: 16, rankSep: 38, animate: false }).run();
      cy.fit(undefined, 30);
      return cy.zoom();
    };
    const across = zoomed("LR");
    if (across < 0.95 && zoomed("TB") < across) zoomed("LR");
    if (cy.zoom() > 1.2) { cy.zoom(1.2); cy.center(); }
  }

  function mark() {
    cy.elements().removeClass("marked aside");
    const node = picked ? cy.getElementById(picked) : cy.collection();
    if (!node.length) return;
    node.addClass("marked");
    cy.elements().difference(node.union(node.predecessors()).union(node.successors())).addClass("aside");
  }

  function side() {
    const g = shown();
    if (!g) return;
    const story = picked && g.stories.find((s) => s.unit === picked);
    fill(panel, story ? ofStory(g, story) : isFile() ? ofPlan(g) : ofGraph(g));
  }

  function ofStory(g, s) {
    const n = named(s.unit), nf = nfOf(s.unit);
    return [h("h2", null, s.unit), facts([["function", n.nf], ["element", n.part], ["runs on", s.device], ["block", s.slot], ["entries", s.entries ? count(s.entries) : ""], ["why", s.why]]),
      !isFile() && nf !== "deliver" && [h("h3", null, `Rules of ${nf}`), rulesOf(g, nf)]];
  }

  function rulesOf(g, nf) {
    if (!rules) return busy("reading counters");
    if (rules.problem) return notice("bad", rules.problem);
    const mine = rules.rules.filter((r) => r.graph === g.graph && r.nf === nf).sort((a, b) => b.packets - a.packets);
    const absent = rules.not_installed.filter((r) => (r.nf ? r.nf === nf && r.graph === g.graph : r.rule.startsWith(`${nf}:`)));
    if (!mine.length && !absent.length) return h("p.muted", null, store.about.kind === "bundle" ? "No switch counts anything: a bundle does not run." : "No rule of it is in a switch that counts.");
    return [
      mine.length > 0 && table(["rule", "entries#", "packets#"], mine.slice(0, 200).map((r) => [h("span.mono", null, r.rule), count(r.entries), r.packets ? count(r.packets) : h("span.muted", null, "never hit")])),
      mine.length > 200 && h("p", null, h("a", { href: `#/tables?device=all&nf=${encodeURIComponent(nf)}` }, `all ${count(mine.length)}`)),
      absent.length > 0 && [h("h3", null, "Discarded early: given to no device"), table(["rule", "why"], absent.slice(0, 200).map((r) => [h("span.mono", null, r.rule), r.why]))],
    ];
  }

  function ofGraph(g) {
    const sums = (rules?.nfs || []).filter((n) => n.graph === g.graph);
    return [
      said.map(([kind, text]) => notice(kind, text)),
      h("h2", null, g.graph), facts([["owner", g.owner], ["topology", g.topology], ["sampling rate", String(g.sampling_rate || "none")], ["deployed at", g.deployed_at ? new Date(g.deployed_at).toLocaleString("en-GB") : ""]]),
      g.warnings.length > 0 && notice("warn", g.warnings.join("\n")), g.notes.length > 0 && notice("", g.notes.join("\n")),
      h("h3", null, "Functions"),
      sums.length ? table(["function", "rules#", "hit#", "never hit#"], sums.map((n) => [n.nf, count(n.rules), count(n.rules - n.never_hit), count(n.never_hit)])) : rules?.problem ? notice("bad", rules.problem) : rules ? h("p.muted", null, "no rules in switches") : busy("reading counters"),
      h("h3", null, "Synthesis"), ofSynthesis(g),
      g.removed.length > 0 && [h("h3", null, `Discarded early: ${count(g.removed.length)} rules are given to no device`), table(["rule", "why"], g.removed.slice(0, 100).map((r) => [h("span.mono", null, r.rule), r.why]))],
      h("h3", null, "Planned latency"), table(["traffic", "µs#"], Object.entries(g.latency_us).map(([n, v]) => [n, count(v)])),
      Object.keys(g.core_load).length > 0 && [h("h3", null, "Planned load of cores"), table(["core", "load#"], Object.entries(g.core_load).map(([n, v]) => [n, percent(v)]))],
      elements(g),
    ];
  }

  function ofSynthesis(g) {
    const found = synthesis[g.graph];
    if (found?.busy) return busy("compiling");
    if (found?.problem) return notice("warn", found.problem);
    if (found) return changes(found.synthesis);
    return h("button", { type: "button", id: "synthesis", onclick: () => explain(g) }, "What did it merge and discard?");
  }

  async function explain(g) {
    synthesis[g.graph] = { busy: true };
    side();
    try {
      synthesis[g.graph] = await ask(`synthesis/${encodeURIComponent(g.graph)}`, undefined, stop.signal);
    } catch (error) {
      synthesis[g.graph] = { problem: error.message };
    }
    side();
  }

  const changes = (told) => (told.length ? notice("", told.join("\n")) : h("p.muted", null, "Nothing could be merged, moved or discarded."));
  const elements = (g) => [h("h3", null, "The cut"), table(["element", "runs on", "entries#", "why"], g.stories.map((s) => [h("button.linklike", { type: "button", onclick: () => { picked = s.unit; mark(); side(); } }, s.unit), s.device, s.entries ? count(s.entries) : "", s.why]))];

  function ofPlan(g) {
    const p = plan, live = Boolean(p.network), sums = live ? Object.entries(p.changes).filter(([, n]) => n) : [];
    return [
      h("h2", null, `Plan of ${p.file}`),
      live && (p.too_full.length ? notice("bad", p.too_full.join("\n")) : !sums.length ? notice("good", "Up to date: nothing would change.") :
        notice(p.interrupts ? "warn" : "good", !p.updates ? "A new graph." : p.interrupts ? "Packets of the graph are dropped meanwhile." : p.switched_over.length ? `One entry on each of ${p.switched_over.join(", ")} puts it in force; no packet is lost.` : "It changes in place: every packet meets one change at most.")),
      g.warnings?.length > 0 && notice("warn", g.warnings.join("\n")), (p.moves || []).map((w) => notice("warn", w)),
      (p.state_lost || []).map((w) => notice("warn", `state lost: ${w}`)), (p.state_moved || []).map((w) => notice("", `state moves: ${w}`)),
      sums.length > 0 && facts(sums.map(([k, n]) => [k.replaceAll("_", " "), count(n)])),
      live && store.about.writes && sums.length > 0 && h("p", null, h("button.main", { type: "button", id: "deploy", onclick: () => deploy() }, "Deploy it")),
      live && !store.about.writes && sums.length > 0 && h("p.muted", null, "Read-only: `orchestrator deploy` applies it, or the page with --write."),
      h("h3", null, "Synthesis"), changes(p.synthesis || g.synthesis || []),
      live && Object.keys(p.devices).length > 0 && [h("h3", null, "Changes"), table(["device", "table", "add#", "change#", "delete#", "copies#"], Object.entries(p.devices).flatMap(([d, tables]) => Object.entries(tables).map(([t, c]) => [d, h("span.mono", null, t), ...["add", "change", "delete", "copies"].map((k) => c[k] || "")])))],
      live && Object.keys(p.workers).length > 0 && [h("h3", null, "Servers"), table(["worker", "added", "removed"], Object.entries(p.workers).map(([w, c]) => [w, c.add.join(", "), c.delete.join(", ")]))],
      live && p.entries.length > 0 && [h("h3", null, "Entries"), table(["", "device", "table", "match", "action", "rule"], p.entries.slice(0, 300).map((e) => [{ add: "+", change: "~", delete: "−" }[e.kind] || e.kind, e.device, h("span.mono", null, e.table), e.match, [e.action, e.before && h("div.muted", null, `was ${e.before}`)], [e.nf, e.rule].filter(Boolean).join(": ")])), p.entries.length > 300 && h("p.muted", null, "the first 300; `deploy --dry-run --verbose` lists all")],
      elements(g),
    ];
  }

  async function deploy() {
    const bar = h("p.busy.muted", { role: "status" }, "deploying");
    fill(panel, h("h2", null, `Deploying ${plan.file}`), bar);
    try {
      const done = await work("deploy", { file: Number(chosen.slice(FILE.length)) }, (p) => fill(bar, p.of ? `${p.what}: ${count(p.done)} of ${count(p.of)}` : p.what));
      await reload();
      chosen = done.graph;
      plan = null;
      said = [["good", `${done.graph} is ${done.updated ? "updated" : "deployed"} on ${done.network}.`], ...done.notes.map((n) => ["warn", n])];
      await begin();
    } catch (error) {
      fill(panel, notice("bad", error.message), h("button", { type: "button", onclick: () => begin() }, "Plan again"));
    }
  }

  begin();
  return {
    close: () => { stop.abort(); resized.disconnect(); cy.destroy(); },
    restyle: () => { cy.style(style()); if (shown()) draw(); },
    told(what, value) {
      if (what === "file" && isFile() && value.file === Number(chosen.slice(FILE.length))) begin();
      if (what === "network" && !isFile() && shown()) { list(); draw(); side(); }
    },
    key(key) {
      if (key === "f") cy.fit(undefined, 30);
      else if (key === "Escape") { picked = null; mark(); side(); } else return false;
      return true;
    },
  };
}

function style() {
  const c = Object.fromEntries(["ground", "line", "text", "muted", "accent"].map((n) => [n, colour(n)]));
  return [
    { selector: "node", style: { label: "data(label)", "text-wrap": "wrap", "text-valign": "center", "font-size": 11, "line-height": 1.25, "font-family": "system-ui, Liberation Sans, DejaVu Sans, sans-serif", color: c.text, width: 132, height: 50, shape: "round-rectangle", "background-color": "data(ground)", "border-color": "data(color)", "border-width": 1.5, "text-max-width": 126, "text-overflow-wrap": "anywhere" } },
    { selector: "node.server", style: { shape: "cut-rectangle", height: 54 } },
    { selector: "node.end", style: { width: 92, height: 38, shape: "round-rectangle", color: c.muted, "border-style": "dashed" } },
    { selector: "node.new, node.moved", style: { "border-width": 4 } },
    { selector: "node.moved", style: { "border-style": "double" } },
    { selector: "edge", style: { width: 1.6, "line-color": c.muted, "target-arrow-color": c.muted, "target-arrow-shape": "triangle", "arrow-scale": 0.9, "curve-style": "bezier" } },
    { selector: ".aside", style: { opacity: 0.28 } },
    { selector: ".marked", style: { "border-color": c.accent, "border-width": 4 } },
    { selector: "core", style: { "active-bg-opacity": 0 } },
  ];
}
