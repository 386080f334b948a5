// County shapes for the dashboard: us-atlas's counties in the Albers projection of the United States, Puerto Rico in an inset,
// as SVG paths of whole numbers (relative, so that they are short).
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { geoAlbersUsa, geoMercator, geoPath } from "d3-geo";
import { feature, mesh } from "topojson-client";

const WIDTH = 975;
const HEIGHT = 610;
const SCALE = 20; // units of the paths per unit of the projection
const PUERTO_RICO = "72";
const INSET = [[905, 555], [970, 585]];

// Which counties there were in a census, by what has changed since the edition of 2017 that us-atlas has (Census Bureau,
// Substantial Changes to Counties, 2010s and 2020s). Bedford city, Virginia (51515), a county's equivalent until 2013, is in no package.
const CHANGED = {
  2010: { codes: { "02158": "02270", "46102": "46113" }, names: { "02270": "Wade Hampton", "46113": "Shannon" }, newer: {} },
  2020: { codes: {}, names: {}, newer: { "02261": ["02063", "02066"] } }, // split in 2019
};
const SOURCES = {
  2010: "the Census Bureau's county shapes of 2017, under the codes of 2010",
  2020: "the Census Bureau's county shapes of 2017, and of 2023 where a county was split in between",
};

/** The counties of a census's year, as features of GeoJSON with their codes then: those of 2017 save for what has changed. */
function countiesOf(year, atlas, newer) {
  const { codes, names, newer: split } = CHANGED[year];
  const renamed = (one) => ({ ...one, id: codes[one.id] ?? one.id });
  const named = (one) => ({ ...one, properties: { name: names[one.id] ?? one.properties.name } });
  const parts = new Set(Object.values(split).flat());
  const known = (one) => one.id.slice(0, 2) <= "56" || one.id.startsWith(PUERTO_RICO);
  return [...featuresOf(atlas).filter((one) => !(one.id in split)), ...featuresOf(newer).filter((one) => parts.has(one.id))]
    .filter(known).map(renamed).map(named);
}

const featuresOf = (topology) => feature(topology, topology.objects.counties).features;
const read = (folder) => JSON.parse(readFileSync(join(folder, "counties-10m.json"), "utf8"));
const sorted = (object) => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));

/** { SSCCC: name }, without "County", "Parish" and the like, of every year's counties. */
export function countyNames(atlas, newer) {
  const [old, split] = [read(atlas), read(newer)];
  const all = Object.keys(CHANGED).flatMap((year) => countiesOf(year, old, split));
  return sorted(Object.fromEntries(all.map(({ id, properties }) => [id, properties.name])));
}

/**
 * { width, height, counties: { SSCCC: path }, years: { YYYY: { source, without: [SSCCC] } }, states: { SS: [x, y, width, height] },
 * borders: path }: a year's counties are all but those that it is without.
 */
export function countyShapes(atlas, newer) {
  const [topology, split] = [read(atlas), read(newer)];
  const ofYear = Object.fromEntries(Object.keys(CHANGED).map((year) => [year, countiesOf(year, topology, split)]));
  const all = new Map(Object.values(ofYear).flat().map((one) => [one.id, one]));
  const island = { type: "FeatureCollection", features: [...all.values()].filter((one) => one.id.startsWith(PUERTO_RICO)) };
  const mainland = geoAlbersUsa().scale(1300).translate([WIDTH / 2, HEIGHT / 2]);
  const inset = geoMercator().fitExtent(INSET, island);
  const counties = {};
  const boxes = {};
  for (const [code, one] of all) {
    const projection = code.startsWith(PUERTO_RICO) ? inset : mainland;
    const pen = new Pen();
    geoPath(projection, pen)(one);
    if (!pen.text) throw new Error(`county ${code} has no shape`);
    counties[code] = pen.text;
    pen.extend((boxes[code.slice(0, 2)] ??= [Infinity, Infinity, -Infinity, -Infinity]));
  }
  const borders = new Pen();
  const known = (id) => id.slice(0, 2) <= "56";
  geoPath(mainland, borders)(mesh(topology, topology.objects.states, (a, b) => a !== b && known(a.id) && known(b.id)));
  const size = ([left, top, right, bottom]) => [left, top, right - left, bottom - top];
  const years = Object.entries(ofYear).map(([year, found]) => {
    const there = new Set(found.map((one) => one.id));
    return [year, { source: SOURCES[year], without: [...all.keys()].filter((code) => !there.has(code)).sort() }];
  });
  return {
    width: WIDTH * SCALE,
    height: HEIGHT * SCALE,
    counties: sorted(counties),
    years: Object.fromEntries(years),
    states: sorted(Object.fromEntries(Object.entries(boxes).map(([code, box]) => [code, size(box)]))),
    borders: borders.text,
  };
}

/** What geoPath draws with: writes down a path of whole numbers. */
class Pen {
  text = "";
  #x = 0;
  #y = 0;
  #begin = [0, 0];
  #fresh = true; // the next line is a path's first
  #points = [];

  moveTo(x, y) {
    const [toX, toY] = [Math.round(x * SCALE), Math.round(y * SCALE)];
    this.text += `${this.text ? "m" : "M"}${pair(toX - this.#x, toY - this.#y)}`;
    this.#at(toX, toY);
    this.#begin = [toX, toY];
    this.#fresh = true;
  }

  lineTo(x, y) {
    const [toX, toY] = [Math.round(x * SCALE), Math.round(y * SCALE)];
    if (toX === this.#x && toY === this.#y) return;
    const step = pair(toX - this.#x, toY - this.#y);
    this.text += this.#fresh ? `l${step}` : step.startsWith("-") ? step : ` ${step}`;
    this.#fresh = false;
    this.#at(toX, toY);
  }

  closePath() {
    this.text += "z";
    [this.#x, this.#y] = this.#begin;
  }

  #at(x, y) {
    [this.#x, this.#y] = [x, y];
    this.#points.push([x, y]);
  }

  /** Widens [left, top, right, bottom] to hold what was drawn. */
  extend(box) {
    for (const [x, y] of this.#points) {
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    }
  }
}

const pair = (x, y) => (y < 0 ? `${x}${y}` : `${x} ${y}`);
