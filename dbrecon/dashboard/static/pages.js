// The pages of a state, a county and a tract, and the list of experiments.
import { apiUrl, pageUrl, useLive } from "./live.js";
import { CountyMap } from "./map.js";
import { dateTime, number, percent, tablesName, tractName, worked, memory } from "./format.js";
import { Results, certaintyColumns, useCertainty, useResults } from "./results.js";
import { Ago, Bar, Crumbs, Empty, Errors, Files, Moment, Section, Stat, Status, Table } from "./parts.js";
import { html, useMemo } from "./vendor/preact.js";

const REFRESH = 5;

export const Loading = ({ what }) => html`<p class="loading" role="status">Loading ${what} …</p>`;

export const Missing = ({ text }) => html`
  <h1 tabindex="-1">Not found</h1><p>${text}.</p><p><a href=${pageUrl()}>All experiments</a></p>`;

/** All experiments, newest first. */
export function Index({ data }) {
  const rows = [...data.experiments].reverse();
  return html`
    <h1 tabindex="-1">Reconstructions</h1>
    ${rows.length === 0 && html`<${Empty}>No experiment is registered yet: <code>./dbrtool.py --register R</code> makes one.<//>`}
    <ul class="experiments">${rows.map((one) => html`
      <li key=${one.reident} class="card" data-reident=${one.reident}>
        <h2><a href=${pageUrl(one.reident)}>${one.reident}</a></h2>
        <p class="note">${tablesName(one.tables)}, registered ${dateTime(one.created)}</p>
        <${Bar} done=${one.people_solved} bad=${one.people_quarantined} all=${one.people} label=${`People of ${one.reident} solved`} />
        <p>${number(one.tracts_solved)} of ${number(one.tracts)} tracts, ${number(one.people_solved)} of ${number(one.people)} people
          (${percent(one.people_solved, one.people)})</p>
        <p data-work=${workOf(one).name}><span class=${`beat ${workOf(one).name}`}>${workOf(one).text}</span>${quarantined(one) && html`, <strong class="bad-text">${quarantined(one)} quarantined</strong>`}</p>
      </li>`)}</ul>`;
}

/** Whether anybody works on an experiment. */
function workOf(one) {
  if (one.tracts_running) {
    const hosts = one.hosts.length > 3 ? `${number(one.hosts.length)} hosts` : one.hosts.join(", ");
    return { name: "working", text: `${number(one.tracts_running)} ${one.tracts_running === 1 ? "tract" : "tracts"} in work on ${hosts}` };
  }
  if (!one.tracts) return { name: "left", text: "no state is loaded yet" };
  const left = one.tracts - one.tracts_solved - one.tracts_quarantined;
  if (!left && !one.counties_to_write) return { name: "done", text: one.tracts_quarantined || one.counties_quarantined ? "nothing is left but quarantine" : "done" };
  return { name: "left", text: "nobody works on it" };
}

function quarantined(one) {
  const some = [[one.tracts_quarantined, "tract", "tracts"], [one.counties_quarantined, "county", "counties"]];
  return some.filter(([count]) => count).map(([count, name, names]) => `${number(count)} ${count === 1 ? name : names}`).join(" and ");
}

export const progressColumns = (place, solved = (row) => row.tracts_solved) => [
  place,
  {
    name: "progress",
    label: "Solved",
    by: (row) => (row.tracts ? solved(row) / row.tracts : -1),
    cell: (row) => html`<span class="in-cell"><${Bar} done=${solved(row)} bad=${row.tracts_quarantined} all=${row.tracts} label="Tracts solved" />
      <span class="share">${percent(solved(row), row.tracts)}</span></span>`,
  },
  { name: "tracts", label: "Tracts", number: true, by: (row) => row.tracts, cell: (row) => `${number(solved(row))} / ${number(row.tracts)}` },
  { name: "running", label: "In work", number: true, by: (row) => row.tracts_running, cell: (row) => number(row.tracts_running) },
  { name: "bad", label: "Quarantined", number: true, by: (row) => row.tracts_quarantined, cell: (row) => number(row.tracts_quarantined) },
  { name: "people", label: "People", number: true, by: (row) => row.pop, cell: (row) => number(row.pop) },
];

export const countyColumns = (reident, stusab, certainty = new Map()) => {
  const [place, progress, ...others] = progressColumns({
    name: "county",
    label: "County",
    by: (row) => row.name || row.county,
    cell: (row) => html`<a href=${pageUrl(reident, stusab, row.county)}>${row.name || "county"} <span class="note">${row.county}</span></a>`,
  });
  const sure = certainty.size ? certaintyColumns((row) => certainty.get(row.geoid)) : [];
  const status = { name: "status", label: "People file", by: (row) => row.status, cell: (row) => html`<${Status} status=${row.status} />` };
  return [place, progress, ...sure, ...others, status];
};

/** One state: its counties on the map and in a table. */
export function State({ reident, stusab, go }) {
  const { data, missing } = useLive(apiUrl(`/${reident}/counties?stusab=${stusab}`), REFRESH);
  const certainty = useCertainty(reident);
  if (missing) return html`<${Missing} text=${missing} />`;
  if (!data) return html`<${Loading} what="the state" />`;
  const counties = data.counties;
  const sum = (name) => counties.reduce((total, county) => total + county[name], 0);
  const columns = countyColumns(reident, stusab, certainty);
  const name = data.state_names[stusab] ?? stusab.toUpperCase();
  const written = counties.filter((county) => county.status === "written").length;
  return html`
    <${Crumbs} reident=${reident} stusab=${stusab} names=${{ state: name }} />
    <h1 tabindex="-1">${name} <span class="of">in ${reident}</span></h1>
    <section class="card progress" aria-label="Progress">
      <${Bar} big done=${sum("people_solved")} bad=${sum("people_quarantined")} all=${sum("pop")} label="People solved" />
      <dl class="stats">
        <${Stat} label="Tracts solved" name="tracts" value=${number(sum("tracts_solved"))} note=${`of ${number(sum("tracts"))}`} />
        <${Stat} label="People solved" name="people" value=${number(sum("people_solved"))} note=${`of ${number(sum("pop"))}`} />
        <${Stat} label="Counties written" name="counties" value=${number(written)} note=${`of ${number(counties.filter((one) => one.pop).length)} with people`} />
        <${Stat} label="Quarantined" name="quarantined" value=${number(sum("tracts_quarantined"))} tone=${sum("tracts_quarantined") ? "bad" : ""} note="tracts" />
      </dl>
    </section>
    <${Section} title="Counties">
      <div class="map-and-table">
        <${CountyMap} counties=${counties} year=${data.county_shapes} certainty=${certainty} onChoose=${(county) => go(pageUrl(reident, stusab, county.county))}
          label=${`Map of ${counties.length} counties by progress; the table beside it has the same`} />
        <${Table} caption="Counties" columns=${columns} rows=${counties} rowKey=${(row) => row.geoid} first=${{ name: "county", down: false }} />
      </div>
    <//>`;
}

/** One county: its tracts and files. */
export function County({ reident, stusab, county: code }) {
  const path = `/${reident}/states/${stusab}/counties/${code}`;
  const { data, missing } = useLive(apiUrl(path), REFRESH);
  const results = useResults(path, data?.county.status);
  const sure = results.data?.tracts ?? [];
  const columns = useMemo(() => tractColumns(reident, stusab, code, sure), [reident, stusab, code, results.data]);
  if (missing) return html`<${Missing} text=${missing} />`;
  if (!data) return html`<${Loading} what="the county" />`;
  const { county, tracts } = data;
  const solved = tracts.filter((tract) => tract.status === "solved");
  const people = solved.reduce((total, tract) => total + tract.pop, 0);
  const bad = tracts.reduce((total, tract) => total + (tract.status === "quarantined" ? tract.pop : 0), 0);
  const seconds = tracts.reduce((total, tract) => total + (tract.solve_seconds ?? 0) + (tract.lp_seconds ?? 0), 0);
  return html`
    <${Crumbs} reident=${reident} stusab=${stusab} county=${code} names=${{ county: county.name }} />
    <h1 tabindex="-1">${county.name || `County ${code}`} <span class="of">${stusab.toUpperCase()}, ${county.geoid}, in ${reident}</span></h1>
    <${Inside} place=${results.data?.place} />
    <section class="card progress" aria-label="Progress">
      <${Bar} big done=${people} bad=${bad} all=${county.pop} label="People solved" />
      <dl class="stats">
        <${Stat} label="Tracts solved" name="tracts" value=${number(solved.length)} note=${`of ${number(county.tracts)}`} />
        <${Stat} label="People solved" name="people" value=${number(people)} note=${`of ${number(county.pop)}`} />
        <${Stat} label="People file" name="status" value=${html`<${Status} status=${county.status} held=${county.held} />`} note=${county.csv_end ? `${dateTime(county.csv_end)}, on ${county.csv_host}` : ""} />
        <${Stat} label="Work so far" name="work" value=${worked(seconds)} note="of a processor, building and solving" />
      </dl>
      ${county.error && html`<pre class="failure" tabindex="0">${county.error}</pre>`}
    </section>
    <${Results} data=${results.data} missing=${results.missing} />
    <${Section} title="Tracts"><${Table} caption="Tracts" columns=${columns} rows=${tracts} rowKey=${(row) => row.tract} first=${{ name: "tract", down: false }} /><//>
    <${Section} title="Files"><${Files} path=${path} changed=${county.status} /><//>`;
}

const tractColumns = (reident, stusab, county, sure) => [
  {
    name: "tract",
    label: "Tract",
    by: (row) => row.tract,
    cell: (row) => html`<a href=${pageUrl(reident, stusab, county, row.tract)}>${row.tract}</a>`,
  },
  { name: "status", label: "Status", by: (row) => row.status, cell: (row) => html`<${Status} status=${row.status} held=${row.held} />` },
  { name: "pop", label: "People", number: true, by: (row) => row.pop, cell: (row) => number(row.pop) },
  ...(sure.length ? certaintyColumns((row) => sure.find((found) => found.tract === row.tract)) : []),
  { name: "variables", label: "Variables", number: true, by: (row) => row.variables, cell: (row) => number(row.variables) },
  { name: "lp", label: "Built in", number: true, by: (row) => row.lp_seconds, cell: (row) => worked(row.lp_seconds) },
  { name: "sol", label: "Solved in", number: true, by: (row) => row.solve_seconds, cell: (row) => worked(row.solve_seconds) },
  { name: "host", label: "Host", by: (row) => row.sol_host ?? row.claimed_host, cell: (row) => row.sol_host ?? row.claimed_host ?? "–" },
  { name: "at", label: "Solved", by: (row) => row.sol_end, cell: (row) => html`<${Ago} at=${row.sol_end} />` },
  { name: "attempts", label: "Failures", number: true, by: (row) => row.attempts, cell: (row) => number(row.attempts) },
];

/** One tract: what is known of it. */
export function Tract({ reident, stusab, county, tract: code }) {
  const path = `/${reident}/states/${stusab}/counties/${county}/tracts/${code}`;
  const { data, missing } = useLive(apiUrl(path), REFRESH);
  const results = useResults(path, data?.tract.status);
  if (missing) return html`<${Missing} text=${missing} />`;
  if (!data) return html`<${Loading} what="the tract" />`;
  const { tract, errors } = data;
  return html`
    <${Crumbs} reident=${reident} stusab=${stusab} county=${county} tract=${code} />
    <h1 tabindex="-1">Tract ${tractName(code)} <span class="of">${tract.geoid}, in ${reident}</span></h1>
    <${Inside} place=${results.data?.place} />
    <section class="card progress" aria-label="Where it stands">
      <dl class="stats">
        <${Stat} label="Status" name="status" value=${html`<${Status} status=${tract.status} held=${tract.held} />`}
          note=${tract.held ? html`since <${Ago} at=${tract.claimed_at} suffix="" />, on ${tract.claimed_host}` : ""} />
        <${Stat} label="People" name="people" value=${number(tract.pop)} />
        <${Stat} label="Failed attempts" name="attempts" value=${number(tract.attempts)} tone=${tract.attempts ? "bad" : ""} note=${tract.lost ? `and ${number(tract.lost)} workers lost` : ""} />
      </dl>
      ${tract.error && html`<pre class="failure" tabindex="0">${tract.error}</pre>`}
    </section>
    <${Results} data=${results.data} missing=${results.missing} />
    <div class="two">
      <${Section} title="Integer program (step 3)"><${Facts} rows=${[
        ["Made", html`<${Moment} at=${tract.lp_end} />`],
        ["By", tract.lp_host ?? "–"],
        ["Time to build and write", worked(tract.lp_seconds)],
        ["Variables", number(tract.variables)],
        ["Constraints", number(tract.constraints)],
        ["Non-zeros", number(tract.nonzeros)],
      ]} /><//>
      <${Section} title="Solution (step 4)"><${Facts} rows=${[
        ["Solved and checked", html`<${Moment} at=${tract.sol_end} />`],
        ["By", tract.sol_host ?? "–"],
        ["Time to solve, check and write", worked(tract.solve_seconds)],
        ["Solver", tract.solver ?? "–"],
        ["Peak memory of the worker", memory(tract.memory_mib)],
      ]} /><//>
    </div>
    <${Section} title="Files"><${Files} path=${path} changed=${tract.status} /><//>
    <${Section} title="Errors">${
      errors.length ? html`<${Errors} reident=${reident} errors=${errors} place=${false} />` : html`<${Empty}>None are recorded of this tract.<//>`
    }<//>`;
}

/** A place's name and a point inside it, as published. */
const Inside = ({ place }) =>
  place?.latitude != null &&
  html`<p class="note" data-point>${place.name}; a point inside it: latitude ${place.latitude.toFixed(5)}, longitude ${place.longitude.toFixed(5)}</p>`;

const Facts = ({ rows }) => html`<dl class="facts">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
