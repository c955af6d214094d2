// Small charts of numbers over time, or over the steps of a sweep.

import { colour, h, PALETTE } from "./dom.js";

// data: [xs, ys, ...]; series: [[name, format]]; times: xs are seconds since 1970
export function chart(width, height, data, series, { times = true, x = null } = {}) {
  const into = h("div.chart", { "aria-hidden": "true" });
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 0.5 }, ticks: { show: false }, font: "11px sans-serif", size: 26 };
  const made = new uPlot({
    width, height, legend: { show: series.length > 1, live: false }, cursor: { show: true, y: false, drag: { x: false, y: false } },
    scales: { x: { time: times } },
    axes: [
      { ...axis, space: 70, values: times ? (_, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB")) : x ? (_, ticks) => ticks.map(x) : undefined },
      { ...axis, size: 66, values: (_, ticks) => ticks.map(series[0][1]) },
    ],
    series: [{ label: times ? "at" : "" }, ...series.map(([label], i) => ({ label, stroke: i ? PALETTE[i % PALETTE.length] : colour("accent"), width: 1.8, spanGaps: false, points: { show: !times } }))],
  }, data, into);
  into.update = (next) => made.setData(next);
  return into;
}
