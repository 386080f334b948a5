// The page of one experiment: everything of --status, and what to look at first.
import { Chart } from "./chart.js";
import { apiUrl, pageUrl, useLive } from "./live.js";
import { CountyMap } from "./map.js";
import { useCertainty } from "./results.js";
import { Loading, Missing, countyColumns, progressColumns } from "./pages.js";
import { dateTime, duration, memory, number, percent, processorTime, tablesName, worked } from "./format.js";
import { Ago, Bar, Crumbs, Empty, Errors, Section, Spark, Stat, Table, firstLine } from "./parts.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";

const REFRESH = 5;
const SLOW_REFRESH = 10; // of an experiment of many counties: the country's 3,143 are 60 kB
const MANY_COUNTIES = 500;
const RANGES = [
  ["1h", "hour"],
  ["6h", "6 hours"],
  ["1d", "day"],
  ["7d", "week"],
  ["all", "all"],
];

export function Experiment({ reident, go }) {
  const [range, setRange] = useState("1h");
  const kept = useRef(null); // while another range is on its way
  const seconds = kept.current?.counties.length > MANY_COUNTIES ? SLOW_REFRESH : REFRESH;
  const { data: newest, missing } = useLive(apiUrl(`/${reident}/page?range=${range}`), seconds); // one reading: no figure belies another
  if (newest) kept.current = newest;
  const data = kept.current;
  useEffect(() => {
    if (data) document.title = `${percent(data.people.solved, data.people.total)} ${reident} · dbrecon`;
  }, [data, reident]);
  if (missing) return html`<${Missing} text=${missing} />`;
  if (!data) return html`<${Loading} what=${reident} />`;
  return html`
    <${Crumbs} reident=${reident} />
    <h1 tabindex="-1">${reident} <span class="of">${tablesName(data.tables)} of the ${data.product_title}, registered ${dateTime(data.created)}</span></h1>
    <${Progress} data=${data} />
    <${Throughput} data=${data} range=${range} setRange=${setRange} />
    <${Places} reident=${reident} data=${data} go=${go} />
    <div class=${data.running.length ? "two" : ""}>
      <${Running} reident=${reident} data=${data} />
      <${Slowest} reident=${reident} data=${data} />
    </div>
    <${Hosts} reident=${reident} data=${data} />
    <${Quarantine} reident=${reident} data=${data} />
    <${Problems} reident=${reident} data=${data} />
    <${Counts} data=${data} />`;
}

function Progress({ data }) {
  const { files, people, quarantined, cost } = data;
  const tracts = files.sol_created + files.sol_remaining;
  const left = files.sol_remaining - quarantined.tracts;
  const solvedPastHour = Object.values(data.past_hour.sol).reduce((total, count) => total + count, 0);
  const finished = tracts > 0 && left === 0 && files.csv_remaining === 0;
  const wait = finished ? "done" : left === 0 ? "–" : !people.at_work ? "nobody is at work" : people.seconds_left === null ? "unknown" : duration(people.seconds_left);
  const bad = quarantined.tracts + quarantined.counties;
  const [worth, unit] = processorTime(cost.processor_hours);
  return html`
    <section class="card progress" aria-label="Progress">
      <div class="headline"><span class="headline-share">${percent(people.solved, people.total)}</span> of the people are solved and checked</div>
      <${Bar} big done=${people.solved} bad=${people.quarantined} all=${people.total} label="People solved" />
      <dl class="stats">
        <${Stat} label="Tracts solved" name="tracts" value=${number(files.sol_created)} note=${`of ${number(tracts)}`} />
        <${Stat} label="People solved" name="people" value=${number(people.solved)} note=${`of ${number(people.total)}`} />
        <${Stat} label="Rate" name="rate" value=${people.per_hour ? number(people.per_hour) : "–"} note=${`people an hour; ${number(solvedPastHour)} tracts in the past hour`} />
        <${Stat} label="Time left" name="left" value=${wait} note=${left > 0 ? `for ${number(left)} tracts` : ""} />
        <${Stat} label="Cost so far" name="cost" value=${worth} note=${unit} />
        <${Stat} label="Quarantined" name="quarantined" value=${number(bad)} tone=${bad ? "bad" : ""} note=${quarantined.counties ? `of them ${number(quarantined.counties)} counties` : "tracts"} />
      </dl>
    </section>`;
}

function Throughput({ data, range, setRange }) {
  const shown = useMemo(() => ({ ...data.throughput, at: data.at }), [data]);
  const buttons = html`<div class="choice" role="group" aria-label="How far back">${RANGES.map(
    ([value, text]) => html`<button key=${value} type="button" aria-pressed=${range === value} onClick=${() => setRange(value)}>${text}</button>`
  )}</div>`;
  return html`<${Section} title="Files over time" aside=${buttons} id="throughput">
    <${Chart} data=${shown} /><//>`;
}

function Places({ reident, data, go }) {
  const states = data.state_list;
  const certainty = useCertainty(reident);
  const columns = useMemo(
    () => [
      ...progressColumns({
        name: "state",
        label: "State",
        by: (row) => row.name,
        cell: (row) => html`<a href=${pageUrl(reident, row.stusab)}>${row.name}</a>`,
      }),
      { name: "counties", label: "Counties", number: true, by: (row) => row.counties_written, cell: (row) => `${number(row.counties_written)} / ${number(row.counties_with_people)}` },
    ],
    [reident]
  );
  if (!data.counties.length)
    return html`<${Section} title="States and counties"><${Empty}>No state is loaded yet: <code>./dbrtool.py --reident ${reident} --step1 --step2</code> does it.<//><//>`;
  const single = states.length === 1;
  const only = states[0].stusab;
  const choose = (county) => go(single ? pageUrl(reident, county.stusab, county.county) : pageUrl(reident, county.stusab));
  return html`
    <${Section} title="States and counties" id="places">
      <div class="map-and-table">
        <${CountyMap} counties=${data.counties} year=${data.county_shapes} certainty=${certainty} onChoose=${choose}
          label=${`Map of ${number(data.counties.length)} counties by progress; the table beside it leads to the same numbers`} />
        ${
          single
            ? html`<div><p class="only"><a href=${pageUrl(reident, only)}>${states[0].name}</a>: ${`${number(states[0].counties_written)} of ${number(states[0].counties_with_people)}`} counties written</p>
                <${Table} key="counties" caption="Counties" columns=${countyColumns(reident, only, certainty)} rows=${data.counties} rowKey=${(row) => row.geoid} first=${{ name: "county", down: false }} /></div>`
            : html`<${Table} key="states" caption="States" columns=${columns} rows=${states} rowKey=${(row) => row.stusab} first=${{ name: "state", down: false }} />`
        }
      </div>
    <//>`;
}

const place = (reident) => ({
  name: "tract",
  label: "Tract",
  cell: (row) => html`<a href=${pageUrl(reident, row.stusab, row.county, row.tract)}>${row.stusab} ${row.county} ${row.tract}</a>`,
});

function Running({ reident, data }) {
  const columns = [
    place(reident),
    { name: "step", label: "Step", cell: (row) => (row.step === "lp" ? "LP" : "SOL") },
    { name: "people", label: "People", number: true, cell: (row) => number(row.pop) },
    { name: "host", label: "Host", cell: (row) => row.host },
    { name: "age", label: "Held for", number: true, cell: (row) => html`<${Ago} at=${row.since} suffix="" />` },
  ];
  const note = html`<span class="note">${number(data.running_tracts)} in work</span>`;
  return html`<${Section} title="Running longest" aside=${note} id="running">${
    data.running.length
      ? html`<${Table} caption="Tracts in work, longest first" columns=${columns} rows=${data.running} limit=${10} rowKey=${(row) => `${row.stusab}${row.county}${row.tract}`} />`
      : html`<${Empty}>No tract is in work just now.<//>`
  }<//>`;
}

function Slowest({ reident, data }) {
  const columns = [
    place(reident),
    { name: "people", label: "People", number: true, cell: (row) => number(row.pop) },
    { name: "variables", label: "Variables", number: true, cell: (row) => number(row.variables) },
    { name: "host", label: "Host", cell: (row) => row.sol_host ?? "–" },
    { name: "time", label: "Solved in", number: true, cell: (row) => worked(row.solve_seconds) },
  ];
  return html`<${Section} title="Slowest solved" id="slowest">${
    data.slowest.length
      ? html`<${Table} caption="Solved tracts that took longest" columns=${columns} rows=${data.slowest} limit=${data.running.length ? Math.min(10, Math.max(5, data.running.length)) : 10} rowKey=${(row) => `${row.stusab}${row.county}${row.tract}`} />`
      : html`<${Empty}>No tract is solved yet.<//>`
  }<//>`;
}

function Hosts({ reident, data }) {
  const columns = useMemo(
    () => [
      { name: "host", label: "Host", by: (row) => row.host, cell: (row) => row.host },
      { name: "heard", label: "Last report", by: (row) => row.last_report, cell: (row) => html`<${Heartbeat} host=${row} />` },
      { name: "held", label: "Tracts held", number: true, by: (row) => row.tracts_held, cell: (row) => (row.tracts_locked ? html`${number(row.tracts_held)} <span class="note">and ${number(row.tracts_locked)} locked</span>` : number(row.tracts_held)) },
      { name: "sol", label: "SOL past hour", number: true, by: (row) => row.sol_past_hour, cell: (row) => html`${number(row.sol_past_hour)} <${Spark} bars values=${row.history.sol} label=${`Solutions in the past hour, ${number(row.sol_past_hour)} in all`} />` },
      { name: "lp", label: "LP past hour", number: true, by: (row) => row.lp_past_hour, cell: (row) => html`${number(row.lp_past_hour)} <${Spark} bars values=${row.history.lp} label=${`LP files in the past hour, ${number(row.lp_past_hour)} in all`} />` },
      { name: "load", label: "Load", number: true, by: (row) => row.load1, cell: (row) => html`${row.load1 === null ? "–" : row.load1.toFixed(1)} <${Spark} values=${row.history.load1} label="Load in the past hour" />` },
      { name: "memory", label: "Free memory", number: true, by: (row) => row.free_memory_mib, cell: (row) => html`${memory(row.free_memory_mib)}${row.total_memory_mib !== null && html` <span class="note">of ${memory(row.total_memory_mib)}</span>`} <${Spark} values=${row.history.free_memory_mib} label="Free memory in the past hour" />` },
    ],
    []
  );
  return html`<${Section} title="Hosts" id="hosts">${
    data.hosts.length
      ? html`<${Table} caption="Hosts" columns=${columns} rows=${data.hosts} rowKey=${(row) => row.host} first=${{ name: "host", down: false }} />`
      : html`<${Empty}>No host is at work on ${reident}, or was in the past hour: <code>./dbrtool.py --reident ${reident} --run</code> or <code>./scheduler.py</code> begins.<//>`
  }<//>`;
}

const HOST_STATES = { working: "at work", idle: "no tract just now", lost: "silent, and holds tracts", left: "has left" };

/** What a host does, and when it was heard of last. */
function Heartbeat({ host }) {
  const heard = host.last_report === null ? html`<span class="none">no report</span>` : html`<${Ago} at=${host.last_report} />`;
  return html`<span class=${`beat ${host.state}`}>${HOST_STATES[host.state]}, ${heard}</span>`;
}

function Quarantine({ reident, data }) {
  const total = data.quarantined.tracts + data.quarantined.counties;
  if (!total) return null;
  const href = (row) => (row.tract ? pageUrl(reident, row.stusab, row.county, row.tract) : pageUrl(reident, row.stusab, row.county));
  const columns = [
    { name: "place", label: "Place", cell: (row) => html`<a href=${href(row)}>${row.stusab} ${row.county} ${row.tract || "(county)"}</a> <span class="note">${row.name}</span>` },
    { name: "people", label: "People", number: true, cell: (row) => number(row.pop) },
    { name: "attempts", label: "Attempts", number: true, cell: (row) => number(row.attempts) },
    { name: "error", label: "Why", wide: true, cell: (row) => firstLine(row.error) },
  ];
  const note = html`<span class="note">mend the cause, then <code>./dbrtool.py --reident ${reident} --retry_quarantined</code></span>`;
  return html`<${Section} title=${`Quarantined: ${number(total)}`} aside=${note} id="quarantine">
    <${Table} caption="Tracts and counties in quarantine" columns=${columns} rows=${data.quarantine} limit=${20} rowKey=${(row) => `${row.stusab}${row.county}${row.tract}`} /><//>`;
}

function Problems({ reident, data }) {
  return html`<${Section} title="Errors" id="errors">${
    data.errors.length
      ? html`<${Errors} reident=${reident} errors=${data.errors} />`
      : html`<${Empty}>None are recorded.<//>`
  }<//>`;
}

const COUNT_NAMES = ["lp_created", "lp_remaining", "lp_in_process", "lp_hostlocked", "sol_created", "sol_remaining", "sol_ready", "csv_completed", "csv_remaining"];

function Counts({ data }) {
  return html`<${Section} title="As in --status" id="counts">
    <dl class="counts">${COUNT_NAMES.map((name) => html`<div key=${name}><dt><code>${name}</code></dt><dd data-count=${name}>${number(data.files[name])}</dd></div>`)}</dl>
    <p class="note">Completed states: ${data.completed_states.length ? data.completed_states.join(" ") : "none yet"}. Counts are of tracts with people.</p><//>`;
}
