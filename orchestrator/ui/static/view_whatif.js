// Failures and sweeps beside the present placement. Nothing live is touched.

import { work } from "./api.js";
import { chart } from "./chart.js";
import { busy, choices, count, empty, facts, fill, h, notice, percent, rate, table } from "./dom.js";
import { coloursOf, linkId, NetworkMap } from "./map.js";
import { store } from "./store.js";
import { chipsOf, deviceOf } from "./view_network.js";

export function open(into) {
  const { network, about } = store, live = about.kind === "live";
  let found = null, picked = 0, stop = new AbortController(), colours = new Map();
  const file = h("select.grow", { id: "of", onchange: () => allow() }, choices([...(live ? [["", "the deployed graphs, as a repair would place them"]] : []), ...about.files.map((f, i) => [String(i), f])], ""));
  const devices = [...network.devices, ...network.hosts].map((d) => d.name), links = network.links.map((l) => `${l.a}-${l.b}`);
  const fail = h("input.grow", { id: "fail", list: "failing", placeholder: "fails: spine1, leaf1-spine1, …" });
  const failing = h("datalist", { id: "failing" }, [...devices, ...links].map((v) => h("option", { value: v })));
  const each = h("select", { id: "each" }, choices([["", "together"], ["node", "and each device, one by one"], ["link", "and each link, one by one"]], ""));
  const scale = h("input", { id: "scale", size: 18, placeholder: "traffic=2x" });
  const change = h("input", { id: "change", size: 22, placeholder: "server1.cores=8" });
  const sweep = h("input", { id: "sweep", size: 20, placeholder: "rate=1G..100G:10" });
  const without = h("input", { id: "without", type: "checkbox" });
  const more = h("fieldset", { id: "more" }, h("div.row", null, h("label", null, "Scale", scale), h("label", null, "Set", change)), h("div.row", null, h("label", null, "Sweep", sweep), h("label", null, without, "without offload")));
  const form = h("form.form", { onsubmit: (e) => { e.preventDefault(); run(); } },
    h("div.row", null, file), h("div.row", null, fail, failing), h("div.row", null, h("label", null, "Failures", each)), more,
    h("div.row", null, h("button.main", { type: "submit", id: "run" }, "Compare"), h("button", { type: "button", id: "stop", hidden: true, onclick: () => stop.abort() }, "Stop")));
  const result = h("div", { id: "result", "aria-live": "polite" });
  const now = h("div.stage"), then = h("div.stage");
  const nowLabel = h("div.maplabel"), thenLabel = h("div.maplabel", { id: "then" });
  into.append(h("div.split", null, h("div.pair", null, now, then), h("aside.side.wide", { "aria-label": "What if" }, form, result)));
  const maps = [new NetworkMap(now, { keep: about.name, onpick: add }), new NetworkMap(then, { keep: about.name, onpick: add })];
  now.append(nowLabel);
  then.append(thenLabel);
  for (const map of maps) map.show(network);
  const pair = now.parentElement, across = maps[0].cy.elements().boundingBox();
  pair.classList.toggle("stacked", across.w / across.h > (1.1 * pair.clientWidth) / Math.max(1, pair.clientHeight));
  for (const map of maps) { map.cy.resize(); map.fit(); }
  present();
  allow();

  function allow() {
    const repair = file.value === "";
    more.disabled = repair && live;
    more.hidden = repair && live;
    form.querySelector("#run").disabled = !live && !about.files.length;
  }

  // A click on a device or a link: it fails.
  function add(id) {
    const name = id && id.startsWith("link ") ? id.slice(5) : id;
    if (!name) return;
    const names = words(fail.value);
    fail.value = (names.includes(name) ? names.filter((n) => n !== name) : [...names, name]).join(", ");
  }

  const words = (text) => text.split(/[\s,]+/).filter(Boolean);
  const kindOf = (name) => (links.includes(name) ? `link:${name}` : /^(link|node):/.test(name) ? name : `node:${name}`);

  function question() {
    const asked = { fail: words(fail.value).map(kindOf), fail_each: each.value };
    if (file.value === "") return asked;
    return { ...asked, file: Number(file.value), scale: words(scale.value), change: words(change.value), sweep: sweep.value.trim(), without_offload: without.checked };
  }

  function present() {
    const chips = chipsOf(store.graphs);
    colours = coloursOf(chips.map((c) => c.key));
    for (const map of maps) map.overlay(chips, colours);
    fill(nowLabel, live ? "as it is now" : "as the bundle has it");
    fill(thenLabel, "choose what fails, and compare");
    if (!live && !about.files.length) fill(result, empty("A bundle is not placed anew.", "Name its graph: orchestrator ui --bundle FILE --graph graph.json"));
    else if (!store.graphs.length && !about.files.length) fill(result, empty("Nothing is deployed.", "Deploy a graph, or name a file: orchestrator ui --graph graph.json"));
    else fill(result, h("p.muted", null, "Click devices or links to let them fail. Graphs are placed anew as compile and a repair would; nothing live is touched."));
  }

  async function run() {
    stop.abort();
    stop = new AbortController();
    const halt = form.querySelector("#stop");
    halt.hidden = false;
    const bar = busy("placing");
    fill(result, bar);
    try {
      const asked = question();
      const told = await work("whatif", asked, (p) => fill(bar, p.of ? `${p.what}: ${p.done} of ${p.of}` : p.what), stop.signal);
      found = asked.file === undefined ? repairs(told) : placements(told);
      picked = Math.min(found.length - 1, found.findIndex((s) => !s.base));
      if (picked < 0) picked = 0;
      show();
    } catch (error) {
      if (error.name === "AbortError") fill(result, notice("", "Stopped."));
      else fill(result, notice("bad", error.message));
    }
    halt.hidden = true;
  }

  // `whatif --live` without a graph, and `whatif GRAPH`, as rows of one shape
  function repairs(told) {
    return told.scenarios.map((s) => {
      const graphs = Object.entries(s.graphs), lost = graphs.filter(([, g]) => !g.placed);
      return { name: s.scenario, words: lost.length ? "cannot be placed" : "placed", bad: lost.length > 0, why: lost.map(([n, g]) => `${n}: ${g.why}`).join("\n"), moves: graphs.flatMap(([, g]) => g.moves),
        latency: Math.max(0, ...graphs.flatMap(([, g]) => Object.values(g.latency_us))), chips: graphs.flatMap(([n, g]) => chipsOfPlan(n, g.stories.flatMap((x) => deviceOf(x.device).map((d) => [x.unit, d])))) };
    });
  }

  function placements(told) {
    return told.scenarios.map((s, i) => ({
      name: s.scenario, base: i === 0, words: s.slo_met ? "SLO met" : Object.keys(s.device_of).length ? "SLO missed" : "no placement", solved: s.status.toLowerCase(), bad: !s.slo_met, why: [s.why, ...Object.entries(s.missed).map(([n, share]) => `${n} misses its SLO by ${percent(share)}`)].filter(Boolean).join("\n"),
      moves: s.moved, cores: s.cores, carried: Object.values(s.rate_of).reduce((a, b) => a + b, 0), latency: Math.max(0, ...Object.values(s.latency_us)), busiest: s.busiest[0],
      chips: chipsOfPlan("", Object.entries(s.device_of)), full: true,
    }));
  }

  function chipsOfPlan(graph, places) {
    const before = new Set(store.graphs.filter((g) => !graph || g.graph === graph).flatMap((g) => g.stories.flatMap((s) => deviceOf(s.device).map((d) => `${s.unit.split(/[.@~]/)[0]} ${d}`))));
    const chips = new Map();
    for (const [unit, device] of places) {
      const nf = unit.split("/").at(-1).split(/[.@~]/)[0];
      if (nf === "deliver") continue;
      chips.set(`${nf} ${device}`, { device, text: nf, key: nf, changed: before.size > 0 && !before.has(`${nf} ${device}`) });
    }
    return [...chips.values()];
  }

  function show() {
    const s = found[picked], sweeps = found.filter((x) => /rate=|rate /.test(x.name) && x.carried !== undefined && !x.base);
    const base = found.find((x) => x.base);
    if (base) maps[0].overlay(base.chips, colours = coloursOf([...colours.keys(), ...base.chips.map((c) => c.key)]));
    fill(nowLabel, base ? base.name : live ? "as it is now" : "as the bundle has it");
    maps[1].overlay(s.chips, colours);
    const gone = s.name.split(/[,\s]+/).map((w) => w.replace(/^(node|link):/, ""));
    maps[1].tellNodes(Object.fromEntries([...network.devices, ...network.hosts].map((d) => [d.name, { state: gone.includes(d.name) ? "down" : "up", lines: gone.includes(d.name) ? ["fails"] : [] }])));
    maps[1].tellLinks(Object.fromEntries(network.links.map((l) => [linkId(l), { state: gone.includes(`${l.a}-${l.b}`) || gone.includes(l.a) || gone.includes(l.b) ? "down" : "up" }])));
    fill(thenLabel, s.name, " ", h("span.state." + (s.bad ? "down" : "up"), null, s.words));
    const full = found.some((x) => x.full);
    fill(result,
      sweeps.length > 2 && [h("h3", null, "Carried of what is offered"), plotted(sweeps)],
      h("h3", null, "Scenarios"),
      table(full ? ["scenario", "", "cores#", "carried#", "latency#", "moves#"] : ["scenario", "", "latency#", "moves#"], found.map((x, i) => {
        const name = h("button.linklike", { type: "button", "aria-pressed": String(i === picked), onclick: () => { picked = i; show(); } }, x.name);
        const status = h("span.state." + (x.bad ? "down" : "up"), null, x.words), latency = x.latency ? `${count(Math.round(x.latency))} µs` : "";
        return full ? [name, status, x.cores || "", x.carried ? rate(x.carried) : "", latency, x.base ? "" : x.moves.length] : [name, status, latency, x.moves.length];
      })),
      h("h3", null, s.name), s.why && notice(s.bad ? "bad" : "warn", s.why),
      s.full && facts([["placement", s.solved], ["busiest link", s.busiest ? `${s.busiest[0]} ${percent(s.busiest[1])}` : ""]]),
      s.moves.length ? table(["what moves"], s.moves.map((m) => [m])) : !s.base && h("p.muted", null, s.bad ? "" : "Nothing moves."));
  }

  const UNITS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  const offered = (name) => { const [, n, unit] = /rate=([\d.]+)([kMGT]?)$/.exec(name) || []; return n ? n * (UNITS[unit] || 1) : null; };

  function plotted(steps) {
    const data = [steps.map((_, i) => i + 1), steps.map((s) => s.carried), steps.map((s) => offered(s.name))];
    return chart(480, 170, data, [["carried", rate], ["offered", rate]], { times: false, x: (n) => (steps[n - 1] ? steps[n - 1].name.split("=").pop() : "") });
  }

  return {
    close: () => { stop.abort(); maps.forEach((m) => m.destroy()); },
    restyle: () => { maps.forEach((m) => m.restyle()); found ? show() : present(); },
    key(key) {
      if (key !== "f") return false;
      maps.forEach((m) => m.fit());
      return true;
    },
  };
}
