// What a reconstruction says: people by sex and age, how sure they are, how many are true. From files, so apart from how far it is.
import { apiUrl, useLive } from "./live.js";
import { number, percent } from "./format.js";
import { Empty, Section, Stat } from "./parts.js";
import { html, useMemo } from "./vendor/preact.js";

const SECONDS = 30;

/** How many of a place's people may differ in another data set with the same tables, in per cent. */
export const variability = (found) => (100 * found.differ_upper) / found.people;

/** How many of a place's people are in every such data set, in per cent. */
export const certainShare = (found) => (100 * found.certain) / found.people;

/** Classes as map.js has them: a name of the style sheet, what it means, the least per cent that it begins with. */
export const VARIABILITY = [
  ["solved", "none may differ", 0],
  ["p1", "up to 2 %", 0.000001],
  ["p2", "2 to 5 %", 2],
  ["p3", "5 to 10 %", 5],
  ["p4", "10 % and more", 10],
];
export const CERTAIN = [
  ["p4", "under 80 %", 0],
  ["p3", "80 to 90 %", 80],
  ["p2", "90 to 98 %", 90],
  ["p1", "98 % and more", 98],
  ["solved", "all are certain", 100],
];
export const UNKNOWN = ["p0", "not known"];

export const classIn = (classes, value) => classes.findLast(([, , least]) => value >= least)[0];

/** What a map can be coloured by beside progress, where certainty is known: certain is what useCertainty gives. */
export const MEASURES = [
  { name: "variability", label: "May differ", classes: VARIABILITY, value: variability, said: "may differ" },
  { name: "certain", label: "Certain", classes: CERTAIN, value: certainShare, said: "are certain" },
];

/** The counties' certainty by geoid; empty until it is known. */
export function useCertainty(reident) {
  const { data } = useLive(apiUrl(`/${reident}/certainty`), SECONDS);
  return useMemo(() => new Map((data?.counties ?? []).map((county) => [county.geoid, county])), [data]);
}

const share = (value) => `${value > 0 && value < 0.05 ? "under 0.1" : value.toFixed(1)} %`;

/** Columns of a table of places, of those whose certainty find(row) knows. */
export const certaintyColumns = (find) =>
  MEASURES.map((measure) => ({
    name: measure.name,
    label: measure.label,
    number: true,
    by: (row) => (find(row) ? measure.value(find(row)) : null),
    cell: (row) => {
      const found = find(row);
      if (!found) return html`<span class="none">–</span>`;
      return html`<span class=${`swatch map-${classIn(measure.classes, measure.value(found))}`}></span>${share(measure.value(found))}`;
    },
  }));

/** The results of a county or tract; state changes when its files may have. */
export const useResults = (path, state) => useLive(apiUrl(`${path}/results`), SECONDS, state);

export function Results({ data, missing }) {
  if (missing) return html`<${Section} title="Results"><${Empty}>${missing}<//><//>`;
  if (!data) return null;
  if (data.problem && !data.pyramid) return html`<${Section} title="Results"><${Empty}>${data.problem}<//><//>`;
  if (!data.pyramid) return null;
  return html`
    <div class="two">
      <${Section} title="People by sex and age"><${Pyramid} data=${data.pyramid} /><//>
      <div>
        <${Section} title="How sure they are">
          ${data.certainty ? html`<${Certainty} found=${data.certainty} />` : html`<${Empty}>${data.problem ?? html`Not known yet: <code>./dbrtool.py --step6</code> tells.`}<//>`}
        <//>
        <${Section} title="How many are true"><${Evaluation} found=${data.evaluation} problem=${data.evaluation_problem} /><//>
      </div>
    </div>`;
}

function Evaluation({ found, problem }) {
  if (!found) return html`<${Empty}>${problem ?? html`Not compared yet: <code>./dbrtool.py --evaluate TRUTH</code> does.`}<//>`;
  const { true_people: people, cells } = found;
  const matched = (name) => ({ value: percent(found[name], people), note: `${number(found[name])} of ${number(people)} true people` });
  return html`
    <dl class="stats">
      ${people > 0 && html`<${Stat} label="Matched, exact age" name="exact" ...${matched("exact_age")} />
      <${Stat} label="Matched, age in bins" name="binned" ...${matched("binned_age")} />`}
      ${cells !== null && html`<${Stat} label="Cells not reproduced" name="wrong" value=${number(found.wrong)} note=${`of ${number(cells)} published`} />`}
    </dl>
    <p class="note">${people === null ? html`Not compared with true people: <code>./dbrtool.py --evaluate TRUTH</code> does.` : people === 0 ? `The truth has nobody here (${found.truth.join(", ")}).` : `One to one on block, sex, age, race and origin, against ${found.truth.join(", ")}.`}</p>`;
}

function Certainty({ found }) {
  const between = found.differ_lower === found.differ_upper ? "" : `; at least ${number(found.differ_lower)}`;
  return html`
    <dl class="stats">
      <${Stat} label="May differ" name="differ" value=${share(variability(found))} note=${`at most ${number(found.differ_upper)} of ${number(found.people)} people${between}`} />
      <${Stat} label="Certain" name="certain" value=${share(certainShare(found))} note=${`${number(found.certain)} people are in every data set with these tables`} />
      <${Stat} label="Blocks without variability" name="blocks" value=${percent(found.blocks_without_variability, found.blocks)} note=${`${number(found.blocks_without_variability)} of ${number(found.blocks)} with people`} />
    </dl>
    <p class="note">Of each block, how many people may differ in another data set that has the same published tables, summed up.</p>`;
}

const ROW = 14;
const HALF = 150;
const MIDDLE = 44;

/** Two rows of bars, the youngest at the bottom; the table below has the same. */
function Pyramid({ data }) {
  const most = Math.max(1, ...data.male, ...data.female);
  const rows = data.ages.map((age, index) => ({ age, male: data.male[index], female: data.female[index], y: (data.ages.length - 1 - index) * ROW }));
  const width = 2 * HALF + MIDDLE;
  const total = (values) => number(values.reduce((sum, value) => sum + value, 0));
  const long = (value) => (HALF * value) / most;
  return html`
    <figure class="pyramid">
      <figcaption class="legend"><span><span class="swatch h0"></span>male: ${total(data.male)}</span><span><span class="swatch h1"></span>female: ${total(data.female)}</span></figcaption>
      <svg role="img" aria-label="People by sex and age; the table below has the same" viewBox=${`0 0 ${width} ${data.ages.length * ROW}`}>
        ${rows.map((row) => html`<g key=${row.age}>
          <title>${row.age}: ${number(row.male)} male, ${number(row.female)} female</title>
          <rect class="h0" x=${HALF - long(row.male)} y=${row.y + 1} width=${long(row.male)} height=${ROW - 2} />
          <text x=${HALF + MIDDLE / 2} y=${row.y + ROW - 3} text-anchor="middle">${row.age}</text>
          <rect class="h1" x=${HALF + MIDDLE} y=${row.y + 1} width=${long(row.female)} height=${ROW - 2} />
        </g>`)}
      </svg>
      <details class="as-table"><summary>As a table</summary><div class="scroll" role="region" aria-label="People by sex and age" tabindex="0"><table>
        <thead><tr><th scope="col">Age</th><th scope="col" class="number">Male</th><th scope="col" class="number">Female</th></tr></thead>
        <tbody>${rows.map((row) => html`<tr key=${row.age}><th scope="row">${row.age}</th><td class="number">${number(row.male)}</td><td class="number">${number(row.female)}</td></tr>`)}</tbody>
      </table></div></details>
    </figure>`;
}
