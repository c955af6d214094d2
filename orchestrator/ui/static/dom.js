// Elements and words. Text from outside only ever becomes text: nothing here, or anywhere, parses HTML.

export function h(name, given, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(given || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  put(made, ...children);
  return made;
}

export function put(into, ...children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    into.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return into;
}

export function fill(into, ...children) {
  into.replaceChildren();
  return put(into, ...children);
}

export function table(columns, rows, pick) {
  const heads = columns.map((c) => h("th" + (c.endsWith("#") ? ".num" : ""), null, c.replace(/#$/, "")));
  const made = rows.map((row) => {
    const cells = row.map((cell, i) => h("td" + (columns[i].endsWith("#") ? ".num" : ""), null, cell));
    if (!pick) return h("tr", null, cells);
    return h("tr.pick", { tabIndex: 0, onclick: () => pick(row), onkeydown: (e) => e.key === "Enter" && pick(row) }, cells);
  });
  return h("table.plain", null, h("thead", null, h("tr", null, heads)), h("tbody", null, made));
}

export const facts = (pairs) =>
  h("dl.facts", null, pairs.filter(([, v]) => v !== "" && v !== null && v !== undefined).map(([k, v]) => [h("dt", null, k), h("dd", null, v)]));

export const state = (of, why) => h("span.state." + (of || "unknown"), { title: why || "" }, of || "unknown");
export const notice = (kind, text) => h("p.notice." + kind, null, text);
export const empty = (what, why) => h("div.empty", null, h("strong", null, what), why || "");
export const busy = (what) => h("p.busy.muted", { role: "status" }, what);
export const choices = (values, chosen) =>
  values.map((v) => {
    const [value, text] = Array.isArray(v) ? v : [v, v];
    return h("option", { value, selected: value === chosen }, text);
  });

export function rate(bits) {
  if (bits === null || bits === undefined) return "";
  for (const [unit, size] of [["Gbit/s", 1e9], ["Mbit/s", 1e6], ["kbit/s", 1e3]])
    if (bits >= size) return `${+(bits / size).toPrecision(3)} ${unit}`;
  return `${Math.round(bits)} bit/s`;
}
export const count = (n) => (n === null || n === undefined ? "" : n.toLocaleString("en"));
export const percent = (share) => (share === null || share === undefined ? "" : `${share > 0 && share < 0.01 ? "<1" : Math.round(share * 100)} %`);
// Time since start for switches, wall clock for workers
export const deviceClock = (us) => (us < 1e15 ? `+${(us / 1e6).toFixed(6)} s` : `${new Date(us / 1000).toISOString().slice(11, 19)}.${String(us % 1e6).padStart(6, "0")}`);
export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
export const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8a6fc4"];
export const OTHER = "#8894a1";
