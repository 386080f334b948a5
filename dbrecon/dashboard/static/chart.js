// LP and SOL files over time, stacked by host: two panels over one axis, read by pointer, by arrow keys, or as a table.
import { clock, dateTime, duration, number, tick } from "./format.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";

const HOSTS = 7; // with a colour of their own; the others share one
const PANEL = 110;
const GAP = 34;
const LEFT = 46;
const RIGHT = 8;
const TOP = 20;
const BOTTOM = 24;
const HALF_LABEL = 18;
const PANELS = [
  { kind: "lp", title: "LP files" },
  { kind: "sol", title: "Solutions" },
];

/** data: an answer of /throughput. */
export function Chart({ data }) {
  const [box, width] = useWidth();
  const [chosen, setChosen] = useState(null); // the beginning of an interval
  const series = useMemo(() => arrange(data), [data]);
  const { hosts, times, step } = series;
  const end = times[times.length - 1] + step;
  const inner = Math.max(60, width - LEFT - RIGHT);
  const x = (at) => LEFT + ((at - times[0]) / (end - times[0])) * inner;
  const index = chosen === null ? -1 : times.indexOf(chosen);
  const reached = index < 0 ? times.length - 1 : index;
  const choose = (next) => setChosen(times[Math.max(0, Math.min(times.length - 1, next))]);
  const height = TOP + 2 * PANEL + GAP + BOTTOM;
  const point = (event) => {
    const left = event.clientX - event.currentTarget.getBoundingClientRect().left;
    choose(Math.floor(((left - LEFT) / inner) * times.length));
  };
  const key = (event) => {
    const moves = { ArrowLeft: reached - 1, ArrowRight: reached + 1, Home: 0, End: times.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  };
  const said = reading(series, reached);
  return html`
    <div class="chart" ref=${box}>
      <${Legend} hosts=${hosts} />
      <div class="plot" tabindex="0" role="slider" aria-label="Files over time: choose an interval with the arrow keys"
        aria-valuemin="0" aria-valuemax=${times.length - 1} aria-valuenow=${reached} aria-valuetext=${said.join(", ")}
        onKeyDown=${key} onPointerMove=${point} onPointerDown=${point} onPointerLeave=${() => setChosen(null)} onBlur=${() => setChosen(null)}>
        <svg width=${width} height=${height} viewBox="0 0 ${width} ${height}" aria-hidden="true">
          ${index >= 0 && html`<rect class="chosen" x=${x(chosen)} y=${TOP} width=${inner / times.length} height=${height - TOP - BOTTOM} />`}
          ${PANELS.map((panel, at) => html`<${Panel} key=${panel.kind} panel=${panel} top=${TOP + at * (PANEL + GAP)} series=${series} x=${x} width=${width} />`)}
          <${Axis} times=${times} end=${end} x=${x} y=${height - BOTTOM} width=${inner} />
        </svg>
      </div>
      <p class="reading" aria-hidden="true">${index >= 0 ? said.join("  ·  ") : `An interval is ${duration(step)}. Point at one to read it.`}</p>
      <details class="as-table"><summary>As a table</summary><${Numbers} series=${series} /></details>
    </div>`;
}

/** The rows by interval and host; hosts by what they made, the last of many together as "others". */
function arrange(data) {
  const totals = new Map();
  for (const row of data.rows) totals.set(row.host, (totals.get(row.host) ?? 0) + row.files);
  const ranked = [...totals].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([host]) => host);
  const own = ranked.slice(0, ranked.length > HOSTS + 1 ? HOSTS : HOSTS + 1).sort();
  const others = ranked.length - own.length;
  const hosts = others ? [...own, `${others} others`] : own;
  const place = new Map(ranked.map((host) => [host, own.includes(host) ? own.indexOf(host) : own.length]));
  const times = [];
  for (let at = data.start; at <= data.at; at += data.step) times.push(at);
  const empty = () => times.map(() => hosts.map(() => 0));
  const files = { lp: empty(), sol: empty() };
  for (const row of data.rows) {
    const slot = (row.at - data.start) / data.step;
    if (files[row.kind][slot]) files[row.kind][slot][place.get(row.host)] += row.files;
  }
  return { hosts, times, step: data.step, files };
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

function reading({ hosts, times, step, files }, index) {
  const at = times[index];
  const text = (kind) => {
    const parts = files[kind][index].map((value, host) => [hosts[host], value]).filter(([, value]) => value);
    return parts.length > 1 ? ` (${parts.map(([host, value]) => `${host} ${number(value)}`).join(", ")})` : "";
  };
  const day = step >= 3600 ? dateTime(at) : `${clock(at)} to ${clock(at + step)} UTC`;
  return [day, ...PANELS.map(({ kind, title }) => `${title} ${number(sum(files[kind][index]))}${text(kind)}`)];
}

const Legend = ({ hosts }) => html`
  <ul class="legend" aria-label="Hosts">${hosts.map((host, index) => html`<li key=${host}><span class=${`swatch h${index}`}></span>${host}</li>`)}</ul>`;

function Panel({ panel, top, series, x, width }) {
  const rows = series.files[panel.kind];
  const most = Math.max(1, ...rows.map(sum));
  const [step, ceiling] = scale(most);
  const y = (value) => top + PANEL - (value / ceiling) * PANEL;
  const lines = [];
  for (let value = step; value <= ceiling; value += step) lines.push(value);
  const gap = Math.min(2, (x(series.times[0] + series.step) - x(series.times[0])) * 0.15);
  return html`<g>
    <text class="title" x=${LEFT} y=${top - 7}>${panel.title}</text>
    ${lines.map((value) => html`<g key=${value}>
      <line class="grid" x1=${LEFT} x2=${width - RIGHT} y1=${y(value)} y2=${y(value)} />
      <text class="mark" x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${number(value)}</text></g>`)}
    <line class="base" x1=${LEFT} x2=${width - RIGHT} y1=${y(0)} y2=${y(0)} />
    ${series.hosts.map((host, index) => html`<path key=${host} class=${`h${index}`} d=${bars(rows, index, series, x, y, gap)} />`)}
  </g>`;
}

function bars(rows, host, series, x, y, gap) {
  return rows
    .map((row, slot) => {
      if (!row[host]) return "";
      const below = sum(row.slice(0, host));
      const [left, right] = [x(series.times[slot]) + gap / 2, x(series.times[slot] + series.step) - gap / 2];
      return `M${left.toFixed(1)} ${y(below).toFixed(1)}V${y(below + row[host]).toFixed(1)}H${right.toFixed(1)}V${y(below).toFixed(1)}z`;
    })
    .join("");
}

/** Steps of 1, 2 or 5 times a power of ten, at most four, and where they end. */
function scale(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const step = Math.max(1, [0.5, 1, 2, 5].map((factor) => factor * power).find((size) => most / size <= 4) ?? 10 * power);
  return [step, Math.ceil(most / step) * step];
}

function Axis({ times, end, x, y, width }) {
  const span = end - times[0];
  const room = Math.max(2, Math.floor(width / 74));
  const sizes = [300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 30 * 86400];
  const size = sizes.find((one) => span / one <= room) ?? sizes[sizes.length - 1];
  const marks = [];
  for (let at = Math.ceil(times[0] / size) * size; at <= end; at += size) marks.push(at);
  return html`<g>${marks.map((at) => html`<g key=${at}>
    <line class="base" x1=${x(at)} x2=${x(at)} y1=${y} y2=${y + 4} />
    <text class="mark" x=${x(at)} y=${y + 17} text-anchor=${anchor(x(at), width)}>${tick(at, span)}</text></g>`)}</g>`;
}

/** How a label stands at its mark, so that it is not cut at the chart's right end. */
const anchor = (x, width) => (x > LEFT + width + RIGHT - HALF_LABEL ? "end" : "middle");

function Numbers({ series }) {
  const rows = series.times.map((at, slot) => [at, sum(series.files.lp[slot]), sum(series.files.sol[slot])]).filter((row) => row[1] || row[2]);
  if (!rows.length) return html`<p class="empty">No files in this time.</p>`;
  return html`
    <div class="scroll" role="region" aria-label="Files over time" tabindex="0"><table>
      <caption class="hidden">Files over time</caption>
      <thead><tr><th scope="col">From (UTC)</th><th scope="col" class="number">LP files</th><th scope="col" class="number">Solutions</th></tr></thead>
      <tbody>${rows.reverse().map(([at, lp, sol]) => html`<tr key=${at}><th scope="row">${dateTime(at).replace(" UTC", "")}</th>
        <td class="number">${number(lp)}</td><td class="number">${number(sol)}</td></tr>`)}</tbody>
    </table></div>`;
}

/** A ref and the width in pixels of what it is given to. */
function useWidth() {
  const box = useRef(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return [box, width];
}
