// A network drawn: devices in tiers, hosts and servers below their switch; elements and ways over it.

import { colour, h, OTHER, PALETTE } from "./dom.js";

const WIDE = 126, HIGH = 36, HOST_WIDE = 70, GAP = 26, CHIP = 18, TIER = 160, MOST_CHIPS = 4;
const MOST_LABELS = 60, MOST_WITH_CHIPS = 200;

export class NetworkMap {
  constructor(stage, { onpick = () => {}, keep = "" } = {}) {
    this.keep = keep && `positions ${keep}`;
    this.canvas = h("div.canvas", { role: "img", "aria-label": "Network" });
    stage.append(this.canvas, h("div.zoom", null,
      h("button", { type: "button", title: "Larger", onclick: () => this.zoom(1.3) }, "+"),
      h("button", { type: "button", title: "Smaller", onclick: () => this.zoom(1 / 1.3) }, "−"),
      h("button", { type: "button", title: "All of it (f)", onclick: () => this.fit() }, "⤢")));
    this.cy = cytoscape({ container: this.canvas, style: style(), minZoom: 0.05, maxZoom: 3, boxSelectionEnabled: false });
    this.cy.on("tap", (event) => {
      const of = event.target === this.cy ? null : event.target;
      onpick(of && !of.hasClass("way") ? of.data("of") || of.id() : null);
    });
    this.cy.on("dragfree", "node", () => this.remember());
    this.resized = new ResizeObserver(() => this.cy.resize());
    this.resized.observe(stage);
  }

  destroy() {
    this.resized.disconnect();
    this.cy.destroy();
  }

  restyle() {
    this.cy.style(style());
  }

  zoom(by) {
    this.cy.zoom({ level: this.cy.zoom() * by, renderedPosition: { x: this.cy.width() / 2, y: this.cy.height() / 2 } });
  }

  fit() {
    this.cy.fit(undefined, 50);
    if (this.cy.zoom() > 1.35) this.cy.zoom({ level: 1.35, renderedPosition: { x: this.cy.width() / 2, y: this.cy.height() / 2 } }), this.cy.center();
  }

  // devices, hosts and links as `status --json` has them
  show(network) {
    this.network = network;
    const nodes = [
      ...network.devices.map((d) => ({ data: { id: d.name, kind: d.kind, label: d.name }, classes: `device ${d.kind}` })),
      ...network.hosts.map((x) => ({ data: { id: x.name, kind: "host", label: x.name }, classes: "host" })),
    ];
    const known = new Set(nodes.map((n) => n.data.id));
    const seen = new Set(); // links side by side are one here
    const leaves = new Set([...network.hosts, ...network.devices.filter((d) => d.kind === "server")].map((n) => n.name));
    const edges = network.links
      .filter((l) => known.has(l.a) && known.has(l.b) && !seen.has(linkId(l)) && seen.add(linkId(l)))
      .map((l) => ({ data: { id: linkId(l), source: l.a, target: l.b, label: "", width: 1.5 }, classes: "link" + (leaves.has(l.b) ? " to" : leaves.has(l.a) ? " from" : "") }));
    const at = positions(network);
    const kept = this.keep ? JSON.parse(localStorage.getItem(this.keep) || "{}") : {};
    for (const node of nodes) node.position = kept[node.data.id] || at.get(node.data.id);
    this.cy.batch(() => {
      this.cy.elements().remove();
      this.cy.add([...nodes, ...edges]);
    });
    this.fit();
  }

  remember() {
    if (!this.keep) return;
    const at = {};
    this.cy.nodes(".device, .host").forEach((n) => { at[n.id()] = n.position(); });
    localStorage.setItem(this.keep, JSON.stringify(at));
  }

  forget() {
    if (this.keep) localStorage.removeItem(this.keep);
    this.show(this.network);
  }

  // {id: {lines: [...], state: "up"}}
  tellNodes(facts) {
    this.cy.batch(() => {
      for (const [id, fact] of Object.entries(facts)) {
        const node = this.cy.getElementById(id);
        if (node.empty()) continue;
        const mark = { down: "✕ ", suspect: "▲ " }[fact.state] || "";
        node.data("label", [mark + id, ...(fact.lines || [])].join("\n"));
        node.toggleClass("down", fact.state === "down").toggleClass("suspect", fact.state === "suspect").toggleClass("silent", fact.state === "unknown");
      }
    });
  }

  // {link id: {share, text, state}}
  tellLinks(facts) {
    const few = this.cy.edges(".link").length <= MOST_LABELS;
    this.cy.batch(() => {
      for (const [id, fact] of Object.entries(facts)) {
        const edge = this.cy.getElementById(id);
        if (edge.empty()) continue;
        const share = Math.min(1, fact.share || 0);
        edge.data({ label: fact.state === "down" ? "✕ down" : few ? fact.text || "" : "", width: 1.5 + 6 * Math.sqrt(share) });
        edge.removeClass("some much most down").addClass(fact.state === "down" ? "down" : share >= 0.7 ? "most" : share >= 0.3 ? "much" : share > 0 ? "some" : "");
      }
    });
  }

  // What runs where: [{device, text, key, changed}]; colours by key, those of `colours`.
  overlay(chips, colours) {
    this.cy.nodes(".chip").remove();
    if (this.cy.nodes(".device").length > MOST_WITH_CHIPS) return;
    const perDevice = Map.groupBy ? Map.groupBy(chips, (c) => c.device) : grouped(chips);
    this.cy.batch(() => {
      for (const [device, mine] of perDevice) {
        const at = this.cy.getElementById(device);
        if (at.empty()) continue;
        const shown = mine.length > MOST_CHIPS ? mine.slice(0, MOST_CHIPS - 1) : mine;
        const rows = shown.map((c) => [c.text, c.key, c.changed]);
        if (shown.length < mine.length) rows.push([`+ ${mine.length - shown.length} more`, null, false]);
        rows.forEach(([text, key, changed], i) => {
          const { x, y } = at.position();
          this.cy.add({
            group: "nodes", classes: "chip" + (changed ? " changed" : ""), grabbable: false,
            data: { id: `${device} chip ${i}`, of: device, label: (changed ? "→ " : "") + text, color: key === null ? OTHER : colours.get(key) || OTHER, ground: mixed(key === null ? OTHER : colours.get(key) || OTHER, changed ? 0.5 : 0.22) },
            position: { x, y: y + HIGH / 2 + 13 + i * CHIP },
          });
        });
        at.off("position.chips").on("position.chips", () => this.cy.nodes(".chip").filter((n) => n.data("of") === device).forEach((n, i) =>
          n.position({ x: at.position("x"), y: at.position("y") + HIGH / 2 + 13 + i * CHIP })));
      }
    });
  }

  // Ways: [{source, target, text, color, faint}] between neighbours or not.
  ways(steps) {
    this.cy.batch(() => {
      this.cy.edges(".way").remove();
      this.cy.elements().removeClass("aside");
      if (!steps.length) return;
      const on = new Set(steps.flatMap((s) => [s.source, s.target]));
      this.cy.nodes().forEach((n) => { if (!on.has(n.data("of") || n.id())) n.addClass("aside"); });
      this.cy.edges(".link").addClass("aside");
      const seen = new Map();
      steps.forEach((s, i) => {
        if (this.cy.getElementById(s.source).empty() || this.cy.getElementById(s.target).empty() || s.source === s.target) return;
        const pair = [s.source, s.target].sort().join(" ");
        const nth = seen.get(pair) || 0;
        seen.set(pair, nth + 1);
        this.cy.add({
          group: "edges", classes: "way" + (s.faint ? " faint" : ""),
          data: { id: `way ${i}`, source: s.source, target: s.target, label: s.text || "", color: s.color || colour("accent"), bend: 20 + 18 * Math.floor(nth / 2) },
        });
      });
    });
  }

  mark(ids) {
    this.cy.elements().removeClass("marked");
    for (const id of ids) this.cy.getElementById(id).addClass("marked");
  }
}

export const linkId = (link) => `link ${link.a}-${link.b}`;

export function coloursOf(keys) {
  return new Map([...new Set(keys)].map((key, i) => [key, i < PALETTE.length ? PALETTE[i] : OTHER]));
}

export function legend(colours, ...more) {
  const swatch = (color) => (PALETTE.includes(color) ? PALETTE.indexOf(color) : "x");
  return h("div.legend", null, [...colours].slice(0, 10).map(([key, color]) => h("span", null, h("i.swatch" + swatch(color)), key)), more);
}

// A colour over the panel's.
export function mixed(color, share) {
  const parts = (c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16));
  const [over, under] = [parts(color), parts(colour("panel"))];
  return `rgb(${over.map((v, i) => Math.round(v * share + under[i] * (1 - share))).join(",")})`;
}

function grouped(chips) {
  const found = new Map();
  for (const chip of chips) found.set(chip.device, [...(found.get(chip.device) || []), chip]);
  return found;
}

// Tiers by the distance from hosts and servers; those hang below their switch, many of them in rows.
function positions(network) {
  const near = new Map(), kind = new Map();
  for (const d of network.devices) kind.set(d.name, d.kind === "server" ? "leaf" : "switch");
  for (const x of network.hosts) kind.set(x.name, "leaf");
  for (const l of network.links) {
    if (!kind.has(l.a) || !kind.has(l.b)) continue;
    near.set(l.a, [...(near.get(l.a) || []), l.b]);
    near.set(l.b, [...(near.get(l.b) || []), l.a]);
  }
  const names = [...kind.keys()], level = new Map();
  const switches = names.filter((n) => kind.get(n) === "switch");
  const below = new Map(switches.map((s) => [s, []]));
  const loose = [];
  for (const leaf of names.filter((n) => kind.get(n) === "leaf")) {
    const home = (near.get(leaf) || []).find((n) => below.has(n));
    if (home) below.get(home).push(leaf); else loose.push(leaf);
  }
  let tier = switches.filter((s) => below.get(s).length);
  if (!tier.length) tier = [...switches];
  tier.forEach((s) => level.set(s, 0));
  for (let n = 1; tier.length; n++) {
    tier = [...new Set(tier.flatMap((s) => near.get(s) || []))].filter((s) => below.has(s) && !level.has(s));
    tier.forEach((s) => level.set(s, n));
  }
  switches.filter((s) => !level.has(s)).forEach((s) => level.set(s, 0));
  const at = new Map();
  const access = switches.filter((s) => level.get(s) === 0);
  const block = (s) => {
    const leaves = below.get(s), columns = leaves.length <= 4 ? Math.max(1, leaves.length) : Math.ceil(Math.sqrt(leaves.length * 1.6));
    const step = leaves.some((n) => network.devices.some((d) => d.name === n)) && leaves.length <= 4 ? WIDE + 8 : HOST_WIDE + 14;
    return { leaves, columns, step, width: Math.max(WIDE, columns * step) + GAP, rows: Math.ceil(leaves.length / columns) };
  };
  const blocks = new Map(access.map((s) => [s, block(s)]));
  const area = [...blocks.values()].reduce((sum, b) => sum + b.width * (TIER + 60 * b.rows + 60), 0);
  const most = access.length <= 12 ? Infinity : Math.max(1200, Math.sqrt(area * 2.2));
  let x = 0, y = 0, deepest = 0, widest = 0;
  for (const s of access) {
    const b = blocks.get(s);
    if (x && x + b.width > most) { x = 0; y += deepest; deepest = 0; }
    at.set(s, { x: x + b.width / 2, y });
    b.leaves.forEach((leaf, i) => at.set(leaf, {
      x: x + b.width / 2 + (i % b.columns - (Math.min(b.columns, b.leaves.length) - 1) / 2) * b.step, y: y + TIER + 58 * Math.floor(i / b.columns),
    }));
    x += b.width;
    widest = Math.max(widest, x);
    deepest = Math.max(deepest, TIER + 58 * b.rows + 70);
  }
  loose.forEach((leaf, i) => at.set(leaf, { x: i * WIDE, y: y + deepest + TIER }));
  for (let n = 1, top = -TIER * 0.95; ; n++, top -= TIER * 0.95) {
    const mine = switches.filter((s) => level.get(s) === n);
    if (!mine.length) return at;
    const wish = (s) => {
      const down = (near.get(s) || []).filter((d) => at.has(d)).map((d) => at.get(d).x);
      return down.reduce((sum, v) => sum + v, 0) / (down.length || 1);
    };
    mine.sort((a, b) => wish(a) - wish(b) || a.localeCompare(b, "en", { numeric: true }));
    const rowLength = Math.max(1, Math.floor(Math.max(widest, WIDE * 2) / (WIDE + GAP)));
    const rows = Math.ceil(mine.length / rowLength);
    mine.forEach((s, i) => {
      const row = Math.floor(i / rowLength), many = Math.min(rowLength, mine.length - row * rowLength);
      const step = Math.max(WIDE + GAP, widest / many), left = widest / 2 - (step * (many - 1)) / 2;
      at.set(s, { x: left + (i % rowLength) * step, y: top - (rows - 1 - row) * 70 });
    });
    top -= (rows - 1) * 70;
  }
}

function style() {
  const c = Object.fromEntries(["ground", "panel", "raised", "line", "text", "muted", "accent", "up", "suspect", "down"].map((n) => [n, colour(n)]));
  const text = { "font-family": "system-ui, Liberation Sans, DejaVu Sans, sans-serif", color: c.text };
  return [
    { selector: "node", style: { ...text, label: "data(label)", "text-valign": "center", "text-halign": "center", "text-wrap": "wrap", "font-size": 11, "line-height": 1.25, width: WIDE, height: HIGH, shape: "round-rectangle", "background-color": c.panel, "border-width": 1.5, "border-color": c.muted } },
    { selector: "node.server", style: { shape: "cut-rectangle", "background-color": c.raised } },
    { selector: "node.nic", style: { shape: "tag" } },
    { selector: "node.host", style: { shape: "round-rectangle", width: HOST_WIDE, height: 22, "border-color": c.line, "background-color": c.ground, color: c.muted, "font-size": 10 } },
    { selector: "node.chip", style: { width: WIDE - 4, height: 15, shape: "round-rectangle", "font-size": 9.5, "background-color": "data(ground)", "border-width": 1, "border-color": "data(color)", "text-max-width": WIDE - 12, "text-wrap": "ellipsis" } },
    { selector: "node.chip.changed", style: { "border-width": 2.5, "font-weight": "bold" } },
    { selector: "node.silent", style: { "border-style": "dotted" } },
    { selector: "node.suspect", style: { "border-color": c.suspect, "border-width": 3, "border-style": "dashed", color: c.suspect } },
    { selector: "node.down", style: { "border-color": c.down, "border-width": 3, "border-style": "double", color: c.down } },
    { selector: "edge", style: { ...text, "curve-style": "straight", width: "data(width)", "line-color": c.line, label: "data(label)", "font-size": 9.5, color: c.muted, "text-background-color": c.ground, "text-background-opacity": 0.9, "text-background-padding": 2 } },
    { selector: "edge.link.to", style: { label: "", "target-label": "data(label)", "target-text-offset": 38 } },
    { selector: "edge.link.from", style: { label: "", "source-label": "data(label)", "source-text-offset": 38 } },
    { selector: "edge.some", style: { "line-color": "#56b4e9" } },
    { selector: "edge.much", style: { "line-color": "#e69f00" } },
    { selector: "edge.most", style: { "line-color": "#d55e00" } },
    { selector: "edge.down", style: { "line-color": c.down, "line-style": "dashed", color: c.down, width: 2.5 } },
    { selector: "edge.way", style: { "curve-style": "unbundled-bezier", "control-point-distances": "data(bend)", "control-point-weights": 0.5, "line-color": "data(color)", "target-arrow-color": "data(color)", "target-arrow-shape": "triangle", "arrow-scale": 1.1, width: 3, "font-size": 12, "font-weight": "bold", color: c.text, "text-background-color": c.panel, "text-background-padding": 3, "text-background-shape": "round-rectangle", "z-index": 9 } },
    { selector: "edge.way.faint", style: { "line-style": "dashed", opacity: 0.75 } },
    { selector: ".aside", style: { opacity: 0.38 } },
    { selector: "edge.link.aside", style: { "text-opacity": 0 } },
    { selector: ".marked", style: { "border-color": c.accent, "border-width": 3.5, "overlay-color": c.accent, "overlay-opacity": 0.12, "overlay-padding": 4 } },
    { selector: "edge.marked", style: { "line-color": c.accent } },
    { selector: "core", style: { "active-bg-opacity": 0 } },
  ];
}
