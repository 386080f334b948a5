// The counties, coloured by how far they are. For the eye and the pointer: the table beside it has the same for everyone.
import { useFile } from "./live.js";
import { number, percent } from "./format.js";
import { MEASURES, UNKNOWN, classIn } from "./results.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 0.06;

export const CLASSES = [
  ["p0", "not begun"],
  ["p1", "under a quarter"],
  ["p2", "under half"],
  ["p3", "under three quarters"],
  ["p4", "under all"],
  ["solved", "all solved"],
  ["written", "people written"],
  ["bad", "some quarantined"],
  ["empty", "nobody lives there"],
];

/** How far a county is, as one of CLASSES. */
export function classOf(county) {
  if (county.tracts_quarantined || county.status === "quarantined") return "bad";
  if (county.status === "written") return "written";
  if (!county.tracts) return "empty";
  const share = county.tracts_solved / county.tracts;
  return share === 1 ? "solved" : share === 0 ? "p0" : `p${1 + Math.floor(share * 4)}`;
}

const PROGRESS = { name: "progress", label: "Progress", classes: CLASSES, classOf };

/** A measure of certainty as the map takes it. */
function coloured(measure, certainty) {
  const find = (county) => certainty.get(county.geoid);
  return {
    ...measure,
    classes: [...measure.classes, UNKNOWN],
    classOf: (county) => (find(county) ? classIn(measure.classes, measure.value(find(county))) : UNKNOWN[0]),
    tell: (county) => (find(county) ? `${measure.value(find(county)).toFixed(2)} % of the people ${measure.said}` : "certainty is not known"),
  };
}

/**
 * counties: those of the answer that are shown; year: of the census, whose counties are drawn; onChoose(county) when one is clicked;
 * certainty: what is known of it, by geoid.
 */
export function CountyMap({ counties, year, onChoose, label, certainty = new Map() }) {
  const [chosen, setChosen] = useState(PROGRESS.name);
  const measures = [PROGRESS, ...(certainty.size ? MEASURES.map((measure) => coloured(measure, certainty)) : [])];
  const measure = measures.find(({ name }) => name === chosen) ?? PROGRESS;
  const atlas = useFile("vendor/counties.json");
  const shapes = useMemo(() => atlas && ofYear(atlas, year), [atlas, year]);
  const svg = useRef(null);
  const [whole, setWhole] = useState(false);
  const [pointed, setPointed] = useState(null);
  const known = useMemo(() => new Map(counties.map((county) => [county.geoid, county])), [counties]);
  const states = useMemo(() => [...new Set(counties.map((county) => county.geoid.slice(0, 2)))].sort(), [counties]);
  const view = useMemo(() => shapes && around(shapes, whole ? Object.keys(shapes.states) : states), [shapes, whole, states.join()]);
  useEffect(() => shapes && draw(svg.current, shapes), [shapes]);
  useEffect(() => {
    if (!shapes) return;
    for (const path of svg.current.querySelectorAll("path[data-county]")) {
      const county = known.get(path.dataset.county);
      const name = county ? `${measure.classOf(county)}${county.tracts_running ? " running" : ""}` : "outside";
      if (path.getAttribute("class") === name) continue;
      path.setAttribute("class", name);
      if (county?.tracts_running) svg.current.lastChild.before(path); // over its neighbours' edges
    }
  }, [shapes, known, measure.name, certainty]);
  const find = (event) => known.get(event.target.dataset?.county) ?? null;
  const move = (event) => {
    const county = find(event);
    const box = event.currentTarget.getBoundingClientRect();
    setPointed(county && { geoid: county.geoid, left: event.clientX - box.left, top: event.clientY - box.top, width: box.width });
  };
  const unseen = shapes ? counties.filter((county) => !(county.geoid in shapes.counties)) : [];
  const county = pointed && known.get(pointed.geoid);
  const national = view && isNational(view, shapes);
  return html`
    <figure class=${national || whole ? "map national" : "map"}>
      ${measures.length > 1 && html`<div class="choice map-choice" role="group" aria-label="Colour by">${measures.map(
        ({ name, label: text }) => html`<button key=${name} type="button" aria-pressed=${name === measure.name} onClick=${() => setChosen(name)}>${text}</button>`
      )}</div>`}
      <div class="map-box" onPointerMove=${move} onPointerLeave=${() => setPointed(null)}
        onClick=${(event) => find(event) && onChoose(find(event))}>
        <svg ref=${svg} role="img" aria-label=${label} viewBox=${(view ?? [0, 0, 975, 610]).join(" ")} preserveAspectRatio="xMidYMid meet"></svg>
        ${county && html`<${Tip} county=${county} at=${pointed} measure=${measure} />`}
      </div>
      <figcaption>
        <${Legend} counties=${counties} national=${national || whole} measure=${measure} />
        ${shapes && !national && html`<button type="button" class="plain" aria-pressed=${whole} onClick=${() => setWhole(!whole)}>Whole country</button>`}
        <p class="note">${shapes && html`Drawn with ${shapes.source}.`}${unseen.length > 0 && html` Not among them: ${unseen.map((one) => `${one.name || "county"} (${one.geoid})`).join(", ")}.`}</p>
      </figcaption>
    </figure>`;
}

/** The atlas with the counties of a year alone, and what stands in for their shapes. */
function ofYear(atlas, year) {
  const { source, without } = atlas.years[year] ?? atlas.years[Math.max(...Object.keys(atlas.years))];
  const there = Object.entries(atlas.counties).filter(([geoid]) => !without.includes(geoid));
  return { ...atlas, source, counties: Object.fromEntries(there) };
}

const Tip = ({ county, at, measure }) => html`
  <div class="tip" style=${{ left: `${Math.min(at.left, Math.max(0, at.width - 190))}px`, top: `${at.top + 16}px` }}>
    <strong>${county.name || county.geoid}</strong>, ${county.stusab.toUpperCase()}<br />
    ${county.tracts ? html`${number(county.tracts_solved)} of ${number(county.tracts)} tracts solved (${percent(county.tracts_solved, county.tracts)})` : "nobody lives there"}
    ${county.tracts_quarantined > 0 && html`<br />${number(county.tracts_quarantined)} quarantined`}
    ${county.status === "written" && html`<br />people written`}
    ${measure.tell && html`<br />${measure.tell(county)}`}
  </div>`;

function Legend({ counties, national, measure }) {
  const counts = new Map();
  for (const county of counties) counts.set(measure.classOf(county), (counts.get(measure.classOf(county)) ?? 0) + 1);
  const shown = measure.classes.filter(([name]) => counts.has(name));
  const running = counties.filter((county) => county.tracts_running).length;
  return html`<ul class="legend" aria-label=${`Counties: ${measure.label}`}>${shown.map(
    ([name, text]) => html`<li key=${name}><span class=${`swatch map-${name}`}></span>${text}: ${number(counts.get(name))}</li>`
  )}${running > 0 && !national && html`<li><span class="swatch map-running"></span>in work: ${number(running)}</li>`}</ul>`;
}

/** The box around states, with a margin; the whole country where it would show most of it, with the rest cut off. */
function around(shapes, states) {
  const some = boxAround(shapes, states);
  return isNational(some, shapes) ? boxAround(shapes, Object.keys(shapes.states)) : some;
}

const isNational = ([, , width, height], shapes) => Math.max(width / shapes.width, height / shapes.height) > 0.5;

function boxAround(shapes, states) {
  const boxes = states.map((state) => shapes.states[state]).filter(Boolean);
  if (!boxes.length) return [0, 0, shapes.width, shapes.height];
  const left = Math.min(...boxes.map((box) => box[0]));
  const top = Math.min(...boxes.map((box) => box[1]));
  const width = Math.max(...boxes.map((box) => box[0] + box[2])) - left;
  const height = Math.max(...boxes.map((box) => box[1] + box[3])) - top;
  const margin = MARGIN * Math.max(width, height);
  return [left - margin, top - margin, width + 2 * margin, height + 2 * margin];
}

function draw(svg, shapes) {
  const counties = Object.entries(shapes.counties).map(([geoid, path]) => {
    const shape = document.createElementNS(SVG, "path");
    shape.setAttribute("d", path);
    shape.dataset.county = geoid;
    return shape;
  });
  const borders = document.createElementNS(SVG, "path");
  borders.setAttribute("d", shapes.borders);
  borders.setAttribute("class", "borders");
  svg.replaceChildren(...counties, borders);
}
