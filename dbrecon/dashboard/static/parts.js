// Pieces that several pages use.
import { apiUrl, pageUrl, useLive, useNow, useOnce } from "./live.js";
import { bytes, dateTime, duration, isoTime, number, percent } from "./format.js";
import { html, useId, useMemo, useState } from "./vendor/preact.js";

/** How long ago, with the moment itself for those who ask. */
export function Ago({ at, suffix = " ago" }) {
  const now = useNow();
  if (!at) return html`<span class="none">–</span>`;
  return html`<time datetime=${isoTime(at)} title=${dateTime(at)}>${duration(now - at)}${suffix}</time>`;
}

export const Moment = ({ at }) =>
  at ? html`<time datetime=${isoTime(at)}>${dateTime(at)}</time>` : html`<span class="none">–</span>`;

/** A number with its name. */
export const Stat = ({ label, value, note, tone, name }) => html`
  <div class=${`stat ${tone ?? ""}`} data-stat=${name}>
    <dt>${label}</dt>
    <dd><span class="value">${value}</span>${note && html`<span class="note">${note}</span>`}</dd>
  </div>`;

/** A bar of what is done, in quarantine, and left. */
export function Bar({ done, bad = 0, all, label, big }) {
  const share = (part) => (all ? `${(100 * part) / all}%` : "0%");
  return html`
    <div class=${big ? "bar big" : "bar"} role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
      aria-valuenow=${all ? Math.floor((100 * done) / all) : 0} aria-valuetext=${`${percent(done, all)}`}>
      <span class="done" style=${{ width: share(done) }}></span><span class="bad" style=${{ width: share(bad) }}></span>
    </div>`;
}

export const Section = ({ title, aside, children, id }) => {
  const heading = useId();
  return html`
    <section class="card" id=${id} aria-labelledby=${heading}>
      <header class="card-head"><h2 id=${heading}>${title}</h2>${aside}</header>
      ${children}
    </section>`;
};

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** Where we are, from the experiment down. */
export const Crumbs = ({ reident, stusab, county, tract, names = {} }) => {
  const steps = [[reident, pageUrl(reident)]];
  if (stusab) steps.push([names.state ?? stusab.toUpperCase(), pageUrl(reident, stusab)]);
  if (county) steps.push([names.county ?? `county ${county}`, pageUrl(reident, stusab, county)]);
  if (tract) steps.push([`tract ${tract}`, pageUrl(reident, stusab, county, tract)]);
  return html`
    <nav class="crumbs" aria-label="Place"><ol>
      <li><a href=${pageUrl()}>All experiments</a></li>
      ${steps.map(([text, href], index) => html`<li key=${href}>
        ${index === steps.length - 1 ? html`<span aria-current="page">${text}</span>` : html`<a href=${href}>${text}</a>`}</li>`)}
    </ol></nav>`;
};

/**
 * A table that can be sorted by its headings. columns: { name, label, cell(row), by(row), number, wide }; by is what it sorts by, and
 * without it the column cannot be sorted. The order stays as the reader chose it while the rows change.
 */
export function Table({ caption, columns, rows, rowKey, first, limit = 400 }) {
  const [order, setOrder] = useState(first ?? { name: null, down: false });
  const [whole, setWhole] = useState(false);
  const sorted = useMemo(() => {
    const by = columns.find((column) => column.name === order.name)?.by;
    if (!by) return rows;
    const sign = order.down ? -1 : 1;
    return [...rows].sort((a, b) => sign * compare(by(a), by(b)));
  }, [rows, order.name, order.down]);
  const shown = whole ? sorted : sorted.slice(0, limit);
  const turn = (column) => setOrder({ name: column.name, down: order.name === column.name ? !order.down : Boolean(column.number) });
  const direction = (column) => (order.name === column.name ? (order.down ? "descending" : "ascending") : undefined);
  return html`
    <div class="scroll" role="region" aria-label=${caption} tabindex="0">
      <table class=${columns.some((column) => column.wide) ? "records" : ""}>
        <caption class="hidden">${caption}</caption>
        <thead><tr>${columns.map((column) => html`
          <th key=${column.name} scope="col" class=${column.number ? "number" : ""} aria-sort=${direction(column)}>
            ${column.by ? html`<button type="button" onClick=${() => turn(column)}>${column.label}</button>` : column.label}
          </th>`)}</tr></thead>
        <tbody>${shown.map((row) => html`
          <tr key=${rowKey(row)} data-key=${rowKey(row)}>${columns.map((column, index) =>
            index === 0
              ? html`<th key=${column.name} scope="row">${column.cell(row)}</th>`
              : html`<td key=${column.name} data-label=${column.label} class=${column.number ? "number" : column.wide ? "wide" : ""}>${column.cell(row)}</td>`
          )}</tr>`)}</tbody>
      </table>
      ${shown.length < sorted.length &&
      html`<button type="button" class="more" onClick=${() => setWhole(true)}>Show all ${number(sorted.length)}</button>`}
    </div>`;
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return a < b ? -1 : 1;
}

const FILE_NAMES = {
  sf1_block: "Block tables (step 2)",
  sf1_tract: "Tract tables (step 2)",
  synth_out: "People (step 5)",
  certainty: "Certainty by block (step 6)",
  people_certainty: "Certainty of each person (step 6)",
  evaluation: "Evaluation (--evaluate)",
  lp: "Integer program (step 3)",
  sol: "Solution (step 4)",
  ilp: "Conflicting constraints (where it is infeasible)",
};

/** The files of a place: are they there, how big, and where. */
export function Files({ path, changed }) {
  const { data, missing } = useLive(apiUrl(`${path}/files`), 60, changed);
  if (missing) return html`<${Empty}>${missing}<//>`;
  if (!data) return html`<${Empty}>Looking at the storage …<//>`;
  const columns = [
    { name: "what", label: "File", cell: (file) => FILE_NAMES[file.name] },
    { name: "size", label: "Size", number: true, cell: (file) => (file.problem ? "?" : file.bytes === null ? "not there" : bytes(file.bytes)) },
    { name: "path", label: "Path", wide: true, cell: (file) => html`<code class="path">${file.path}</code>${file.problem && html`<br />${file.problem}`}` },
  ];
  return html`<${Table} caption="Files" columns=${columns} rows=${data.files} rowKey=${(file) => file.name} />`;
}

/** Errors, each with its stack once it is opened. */
export function Errors({ reident, errors, place = true, limit = 10 }) {
  const [whole, setWhole] = useState(false);
  const shown = whole ? errors : errors.slice(0, limit);
  return html`
  <ul class="errors">${shown.map((error) => html`<${OneError} key=${error.id} reident=${reident} error=${error} place=${place} />`)}</ul>
  ${shown.length < errors.length && html`<button type="button" class="more" onClick=${() => setWhole(true)}>Show all ${number(errors.length)}</button>`}`;
}

function OneError({ reident, error, place }) {
  const [open, setOpen] = useState(false);
  const { data, problem } = useOnce(open ? apiUrl(`/${reident}/errors/${error.id}`) : null);
  const whole = data?.error;
  const where = [error.stusab, error.county, error.tract].filter(Boolean);
  return html`
    <li><details data-error=${error.id} onToggle=${(event) => event.currentTarget.open && setOpen(true)}>
      <summary>
        <span class="error-head"><${Ago} at=${error.at} /> on ${error.host || "an unknown host"}${place && where.length > 0 && `, ${where.join(" ")}`}</span>
        <span class="error-text">${firstLine(error.message)}</span>
      </summary>
      ${open && html`<div class="error-body">
        ${place && where.length === 3 && html`<p><a href=${pageUrl(reident, ...where)}>Tract ${where.join(" ")}</a></p>`}
        <p><${Moment} at=${error.at} />, process ${error.pid}${error.file && html`, <code>${error.file}:${error.line}</code>`}</p>
        ${problem && html`<p>${problem}</p>`}
        ${whole ? html`<pre tabindex="0">${whole.message}${whole.stack && `\n\n${whole.stack}`}</pre>` : !problem && html`<p>Loading …</p>`}
      </div>`}
    </details></li>`;
}

export const firstLine = (text) => text.trim().split("\n", 1)[0] || "no message";

/** A line of values over time, drawn small. Gaps are where nothing is known. */
export function Spark({ values, label, bars }) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return html`<span class="none">–</span>`;
  const [width, height] = [96, 22];
  const top = Math.max(...known, 1e-9);
  const x = (index) => (values.length < 2 ? 0 : (index * width) / values.length);
  const y = (value) => height - 1 - (value / top) * (height - 3);
  const few = known.length < 3 && !bars;
  const shapes = bars
    ? html`<path class="area" d=${values.map((v, i) => (v ? `M${x(i)} ${height}V${y(v)}h${width / values.length - 0.8}V${height}z` : "")).join("")} />`
    : few
      ? values.map((value, index) => value !== null && html`<circle class="area" cx=${Math.min(width - 2, x(index) + 2)} cy=${Math.max(2, y(value))} r="2" />`)
      : html`<path class="line" d=${line(values, x, y)} />`;
  return html`<svg class="spark" width=${width} height=${height} viewBox="0 0 ${width} ${height}" role="img" aria-label=${label}><path class="floor" d=${`M0 ${height - 0.5}H${width}`} />${shapes}</svg>`;
}

function line(values, x, y) {
  let pen = "M";
  let path = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const next = values.slice(index + 1, index + 4).some((later) => later !== null);
    path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    if (pen === "M" && !next) path += "h2";
    pen = next ? "L" : "M";
  });
  return path;
}

export const STATUS_NAMES = {
  empty: "nobody lives there",
  new: "needs its LP",
  lp: "LP made, to be solved",
  solved: "solved",
  quarantined: "quarantined",
  open: "not written yet",
  written: "people written",
};

export const Status = ({ status, held }) => html`<span class=${`status ${status}`}>${held ? "in work" : STATUS_NAMES[status]}</span>`;
