// A packet's way: what would happen to it, step by step along the network, beside what did.

import { ask } from "./api.js";
import { busy, choices, clock, colour, deviceClock, empty, fill, h, notice, PALETTE, table } from "./dom.js";
import { linkId, NetworkMap } from "./map.js";
import { store } from "./store.js";
import { deviceFacts, linkFacts, serverOf } from "./view_network.js";

const MOST_EVENTS = 200;
const end = (e, side) => (e[`${side}_ip`] ? (e[`${side}_port`] === undefined ? e[`${side}_ip`] : `${e[`${side}_ip`].includes(":") ? `[${e[`${side}_ip`]}]` : e[`${side}_ip`]}:${e[`${side}_port`]}`) : "");

// An EVE record: when, what, where, and in words
function ofEvent(e) {
  const says = e.alert ? `${e.alert.action}: [${e.alert.signature_id}] ${e.alert.signature}` : e.drop ? `dropped: ${e.drop.reason}` : e.nat ? `${e.nat.event}${e.nat.post_src_ip ? ` as ${e.nat.post_src_ip}:${e.nat.post_src_port ?? e.nat.post_src_id}` : ""}` : e.suppressed ? `${e.suppressed.count} events (${e.suppressed.kind}) were not told` : "";
  const flow = [e.proto, [end(e, "src"), end(e, "dest")].filter(Boolean).join(" → ")].filter(Boolean).join(" ");
  return [Date.parse(e.timestamp.replace(/([+-]\d\d)(\d\d)$/, "$1:$2")) / 1000, e.event_type, [e.nf ? `${e.nf.graph}/${e.nf.name}` : "", e.host].filter(Boolean).join(" on "), [flow, says, e.nf?.rule ? `by ${e.nf.rule}` : ""].filter(Boolean).join(" · ")];
}

export function open(into, asked) {
  const hosts = store.network.hosts.map((x) => x.name), live = store.about.kind === "live";
  let told = null, journey = 0, hop = -1, traced = null, samples = null, sample = 0, kind = "", stop = new AbortController();
  const source = h("select", { id: "source" }, choices([["", "whoever it is from"], ...hosts], asked.source || hosts[0]));
  const target = h("select", { id: "target" }, choices(hosts, asked.target || hosts.at(-1)));
  const port = h("input", { id: "port", size: 6, inputMode: "numeric", placeholder: "port", value: "80" });
  const protocol = h("select", { id: "protocol" }, choices([["", "tcp"], ["udp", "udp"], ["icmp", "icmp echo"], ["6tcp", "tcp over IPv6"]], ""));
  const frame = h("textarea", { id: "frame", placeholder: "or a frame: hex, or words as  udp 10.0.1.11:1 > 198.51.100.13:53 ttl=3" });
  const whyNot = h("input.grow", { id: "why-not", list: "goals", placeholder: "why not: an NF, a host, SWITCH:PORT" });
  const goals = h("datalist", { id: "goals" }, [...new Set([...store.graphs.flatMap((g) => g.stories.map((s) => s.unit.split(/[.@~]/)[0])), ...hosts])].map((v) => h("option", { value: v })));
  const doTrace = h("button", { type: "button", id: "trace", disabled: !live || !store.about.writes, onclick: trace, title: !live ? "A bundle does not run." : store.about.writes ? "Send a real packet and compare" : "Read-only: it sends a packet; start the page with --write" }, "Trace");
  const doListen = h("button", { type: "button", id: "samples", disabled: !live, onclick: hear, title: live ? "Listen for sampled packets" : "A bundle does not run." }, "Listen");
  const form = h("form.form", { onsubmit: (e) => { e.preventDefault(); explain(); } },
    h("div.row", null, h("label", null, "from", source), h("label", null, "to", target), port, protocol), frame, h("div.row", null, whyNot, goals),
    h("div.row", null, h("button.main", { type: "submit", id: "explain" }, "Explain"), doTrace, doListen));
  const result = h("div", { id: "result", "aria-live": "polite" });
  const types = h("select", { id: "types", "aria-label": "Events", onchange: tellEvents }, choices([["", "all events"], "alert", "drop", "nat", "suppressed", ["network", "devices and graphs"]], ""));
  const stage = h("div.stage"), panel = h("aside.side.wide", { "aria-label": "The packet" }, form, result), list = h("div", { id: "events", role: "log", "aria-label": "Events" }), news = h("div.news.tall", null, h("div.row", null, types), list);
  into.append(h("div.split", null, stage, panel), news);
  const map = new NetworkMap(stage, { keep: store.about.name, onpick: (id) => toHop(id) });
  map.show(store.network);
  tell();
  fill(result, h("p.muted", null, "Explain runs a packet through a copy of the network in the server: nothing is sent. Trace sends a real one, Listen shows packets that are sampled anyway."));

  const aim = () => (protocol.value === "icmp" ? `${target.value}/icmp` : `${target.value}${port.value.trim() ? `:${port.value.trim()}` : ""}${protocol.value ? `/${protocol.value}` : ""}`);

  async function doing(what, work) {
    stop.abort();
    stop = new AbortController();
    fill(result, busy(what));
    map.ways([]);
    told = traced = samples = null;
    try {
      await work(stop.signal);
    } catch (error) {
      if (error.name !== "AbortError") fill(result, notice("bad", error.message));
    }
  }

  function explain() {
    const question = frame.value.trim() ? { source: source.value, packet: frame.value.trim() } : { source: source.value, target: aim() };
    return doing("running it through a copy of the network", async (signal) => {
      told = await ask("explain", { ...question, why_not: whyNot.value.trim() }, signal);
      [journey, hop, kind] = [0, -1, "explain"];
      show();
    });
  }

  function trace() {
    return doing("sending it, and listening", async (signal) => {
      traced = await ask("trace", { source: source.value, target: aim() }, signal);
      told = traced.predicted;
      [journey, hop, kind] = [0, -1, "trace"];
      show();
    });
  }

  function hear() {
    return doing("listening for sampled packets, 5 s at most", async (signal) => {
      samples = (await ask("samples", {}, signal)).trajectories;
      [sample, kind] = [0, "samples"];
      show();
    });
  }

  const journeys = () => [told, ...(told.answers || [])];

  function show() {
    if (kind === "samples") return showSamples();
    const now = journeys()[journey];
    draw(now);
    fill(result,
      kind === "trace" && verdict(),
      told.why_not && notice(told.why_not.reached ? "good" : "warn", `${told.why_not.reached ? "" : "not "}${told.why_not.goal}: ${told.why_not.where}: ${told.why_not.why}`),
      journeys().length > 1 && h("div.tabs2", null, journeys().map((j, i) => h("button", { type: "button", "aria-pressed": String(i === journey), onclick: () => { journey = i; hop = -1; show(); } }, i ? `the answer of ${j.from}` : `from ${j.from}`))),
      h("p", null, h("b", null, now.from), " sends ", h("span.mono", null, now.frame)),
      h("ol.hops", { id: "hops" }, now.hops.map((x, i) => ofHop(x, i))),
      h("p", { id: "verdict" }, notice(now.delivered.length ? "good" : "bad", now.verdict)));
    result.querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
  }

  function verdict() {
    const open = [...traced.reported];
    const rows = traced.expected.map((e) => {
      const at = open.findIndex((r) => r.device === e.device && r.what === e.what);
      const found = at < 0 ? null : open.splice(at, 1)[0];
      return [e.device, e.what, found ? h("span.state.up", null, "reported") : h("span.state.down", null, "not reported"), found ? deviceClock(found.device_us) : ""];
    });
    rows.push(...open.map((r) => [r.device, r.what, h("span.state.suspect", null, "not predicted"), deviceClock(r.device_us)]));
    return [
      notice(traced.agrees ? "good" : "bad", traced.agrees ? "The network does what explain predicts." : traced.disagreements.join("\n")),
      traced.notes.map((n) => notice("", n)),
      h("h3", null, "Predicted and seen"), table(["device", "what", "seen", "its clock#"], rows),
      h("p", null, traced.delivered === null ? "" : traced.delivered.length ? `Happened: ${traced.delivered.map((d) => `${d.host} receives ${d.frame}`).join("; ")}` : "Happened: no host received it."),
      h("h3", null, "The way that was predicted"),
    ];
  }

  function ofHop(x, i) {
    const open = i === hop;
    const says = x.kind === "host" ? `receives ${x.frame}` : x.verdict || "";
    return h("li" + (open ? ".chosen" : ""), null,
      h("button.head", { type: "button", "aria-expanded": String(open), onclick: () => { hop = open ? -1 : i; show(); } }, h("i.number", null, String(x.hop)), h("b", null, x.device), h("span" + (x.dropped ? ".drop" : ""), null, says)),
      open && h("ul", null, h("li.mono", null, x.frame, x.tag ? ` (${x.tag})` : ""), (x.steps || []).map(ofStep), (x.calls || []).map((c) => h("li", null, h("span.table", null, c.nf), ` entered by ${c.entered}, `, c.dropped ? h("span.drop", null, `drops it: ${c.reason || "no reason given"}`) : `leaves by ${c.left}`)),
        (x.sent || []).map((s) => h("li.muted", null, [s.to && `to ${s.to}: `, s.frame || s.text || ""]))));
  }

  function ofStep(s) {
    const effects = (s.effects || []).filter((e) => !/^(meta\.|standard_|nsh\.)/.test(e)).join("; ");
    if (s.kind === "parser" || (s.table && !s.hit && !effects)) return null;
    if (!s.table) {
      const words = [s.kind === "effect" && !effects ? "" : s.text, effects].filter(Boolean).join(": ");
      return words && h("li" + (s.kind === "outcome" && s.text.includes("drop") ? ".drop" : ".muted"), null, words);
    }
    return h("li", null, h("span.table", null, s.table), s.hit ? [": ", [s.rule, s.nf && `of ${s.nf}`, s.graph && `(${s.graph})`].filter(Boolean).join(" "), h("span.muted", null, ` [${s.match}]`)] : ": no entry", ` → ${s.action}`, effects && h("div.muted", null, effects));
  }

  function draw(now) {
    const byNumber = new Map(now.hops.map((x) => [x.hop, x]));
    const dropped = colour("down"), way = colour("accent");
    map.ways(now.hops.map((x, i) => ({
      source: serverOf(x.after ? byNumber.get(x.after).device : now.from), target: serverOf(x.device), text: String(x.hop),
      color: i === hop ? PALETTE[1] : x.dropped ? dropped : way, faint: hop >= 0 && i > hop,
    })));
    map.mark(hop >= 0 ? [serverOf(now.hops[hop].device)] : []);
  }

  function toHop(id) {
    const now = told && journeys()[journey];
    const at = now ? now.hops.findIndex((x) => serverOf(x.device) === id) : -1;
    if (at >= 0) { hop = at; show(); }
  }

  function showSamples() {
    if (!samples.length) return fill(result, empty("No sampled packet was seen.", "Is traffic flowing, and verification.sampling_rate above 0?"));
    const one = samples[sample];
    map.ways(one.points.slice(1).map((p, i) => ({ source: serverOf(one.points[i].device), target: serverOf(p.device), text: String(i + 1) })));
    map.mark([...new Set(one.points.map((p) => serverOf(p.device)))]);
    fill(result, h("h3", null, `${samples.length} trajectories`),
      h("div.tabs2", null, samples.map((t, i) => h("button", { type: "button", "aria-pressed": String(i === sample), onclick: () => { sample = i; show(); } }, t.label))),
      h("p", null, `Label ${one.label}, graph ${one.graph || "?"}`),
      table(["device", "seen at", "its clock#", "SPI#", "SI#", "bytes#"], one.points.map((p) => [p.device, p.what, deviceClock(p.device_us), p.spi, p.si || "", p.bytes])),
      h("p.muted", null, "Each device has its own clock; those of different devices are not compared."));
  }

  function tell() {
    map.tellNodes(deviceFacts(store.network));
    map.tellLinks(Object.fromEntries(Object.entries(linkFacts(store.network)).map(([id, f]) => [id, { ...f, share: 0, text: "" }])));
    tellEvents();
  }

  // What NFs on servers tell (`events`), among what becomes of devices.
  function tellEvents() {
    const wanted = types.value;
    const said = wanted && wanted !== "network" ? [] : store.news.map((n) => [n.at, "network", "", n.text]);
    const told = wanted === "network" ? [] : store.events.slice(0, MOST_EVENTS).filter((e) => !wanted || e.event_type === wanted).map(ofEvent);
    const rows = [...said, ...told].sort((a, b) => b[0] - a[0]).slice(0, MOST_EVENTS);
    fill(list, rows.length ? rows.map(([at, what, where, text]) => h("div.line", null, h("time", null, clock(at)), h("b", null, what), where && h("span.muted", null, where), h("span", null, text)))
      : h("div.muted", null, live ? "Alerts, drops and mappings of functions on servers, and what becomes of devices, are told here." : "A bundle: nothing happens here."));
  }

  return {
    told(what) { if (what === "event") tellEvents(); if (["conditions", "top", "news", "network"].includes(what)) tell(); },
    close: () => { stop.abort(); map.destroy(); },
    restyle: () => { map.restyle(); if (told) draw(journeys()[journey]); },
    key(key) {
      if (key === "f") map.fit();
      else if (key === "Escape") { hop = -1; if (told) show(); } else if (told && (key === "ArrowDown" || key === "ArrowUp")) {
        const many = journeys()[journey].hops.length;
        hop = Math.max(0, Math.min(many - 1, hop + (key === "ArrowDown" ? 1 : -1)));
        show();
      } else return false;
      return true;
    },
  };
}
