// Numbers, times and sizes as people read them. Times are Unix time in seconds, shown in UTC as --status does.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));

/** A share as --status tells it: cut off after the tenth, so that it says 100 % only when all is done, and 0 % only when nothing is. */
export function percent(part, all) {
  if (!all) return "–";
  if (part === 0) return "0 %";
  const tenths = Math.floor((1000 * part) / all);
  return tenths >= 1000 ? "100 %" : tenths < 1 ? "<0.1 %" : `${(tenths / 10).toFixed(1)} %`;
}

/** Seconds in at most two units: 42 s, 3 min 5 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

const two = (a, big, b, small) => (b ? `${a} ${big} ${b} ${small}` : `${a} ${big}`);

/** Seconds of work, as exact as they are worth: 0.084 s, 12.3 s, 4 min 10 s. */
export function worked(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "none";
  if (seconds < 1) return `${seconds.toFixed(3)} s`;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : duration(seconds);
}

const iso = (at) => new Date(at * 1000).toISOString();
export const isoTime = iso;
export const clock = (at) => iso(at).slice(11, 19);
export const dateTime = (at) => `${iso(at).slice(0, 10)} ${clock(at)} UTC`;

/** What stands under a chart's axis: the time of day, or the day where the chart is longer. */
export const tick = (at, span) => (span > 2 * 86400 ? iso(at).slice(5, 10) : iso(at).slice(11, 16));

export function bytes(value) {
  if (value === null) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  let rest = value;
  while (rest >= 1000 && unit < units.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return `${unit && rest < 100 ? rest.toFixed(1) : Math.round(rest)} ${units[unit]}`;
}

export function memory(mib) {
  if (mib === null) return "–";
  return mib < 1024 ? `${whole.format(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

/** [number, unit] of a cost, in processor-hours unless it is less than a minute. */
export function processorTime(hours) {
  if (hours > 0 && hours < 1 / 60) return [String(Number((hours * 3600).toPrecision(2))), "processor-seconds"];
  return [hours >= 100 ? whole.format(hours) : hours.toFixed(hours >= 10 || hours === 0 ? 1 : hours >= 1 ? 2 : 3), "processor-hours"];
}

/** A tract's six digits as the Census Bureau writes them: 977100 is 9771, 000102 is 1.02. */
export function tractName(tract) {
  const main = String(Number(tract.slice(0, 4)));
  return tract.slice(4) === "00" ? main : `${main}.${tract.slice(4)}`;
}

/** An experiment's tables in words. */
export const tablesName = (tables) => ({ all: "all tables", block: "block tables" })[tables] ?? `tables ${tables}`;
