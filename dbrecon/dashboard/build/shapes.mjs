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

// us-atlas has the counties of 2017; the 2010 Census had these codes (Census Bureau, Substantial Changes to Counties, 2010s).
const CODE_OF_2010 = { "02158": "02270", "46102": "46113" };

const NAME_OF_2010 = { "02270": "Wade Hampton", "46113": "Shannon" };

/** { SSCCC: name }, without "County", "Parish" and the like. */
export function countyNames(folder) {
  const topology = JSON.parse(readFileSync(join(folder, "counties-10m.json"), "utf8"));
  const names = topology.objects.counties.geometries.map(({ id, properties }) => [CODE_OF_2010[id] ?? id, properties.name]);
  return Object.fromEntries(names.map(([code, name]) => [code, NAME_OF_2010[code] ?? name]).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** { width, height, counties: { SSCCC: path }, states: { SS: [x, y, width, height] }, borders: path }. */
export function countyShapes(folder) {
  const topology = JSON.parse(readFileSync(join(folder, "counties-10m.json"), "utf8"));
  const known = (id) => id.slice(0, 2) <= "56" || id.startsWith(PUERTO_RICO);
  const all = feature(topology, topology.objects.counties).features.filter((one) => known(one.id));
  const island = { type: "FeatureCollection", features: all.filter((one) => one.id.startsWith(PUERTO_RICO)) };
  const mainland = geoAlbersUsa().scale(1300).translate([WIDTH / 2, HEIGHT / 2]);
  const inset = geoMercator().fitExtent(INSET, island);
  const counties = {};
  const boxes = {};
  for (const one of all) {
    const projection = one.id.startsWith(PUERTO_RICO) ? inset : mainland;
    const pen = new Pen();
    geoPath(projection, pen)(one);
    const code = CODE_OF_2010[one.id] ?? one.id;
    if (!pen.text) throw new Error(`county ${one.id} has no shape`);
    counties[code] = pen.text;
    pen.extend((boxes[code.slice(0, 2)] ??= [Infinity, Infinity, -Infinity, -Infinity]));
  }
  const borders = new Pen();
  const states = topology.objects.states;
  geoPath(mainland, borders)(mesh(topology, states, (a, b) => a !== b && known(a.id) && known(b.id)));
  const sorted = (object) => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
  const size = ([left, top, right, bottom]) => [left, top, right - left, bottom - top];
  return {
    width: WIDTH * SCALE,
    height: HEIGHT * SCALE,
    counties: sorted(counties),
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
