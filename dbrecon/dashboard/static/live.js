// Data that keep themselves up to date: one poll for each address in use, none while nobody looks at the page.
import { useEffect, useMemo, useRef, useState } from "./vendor/preact.js";

const root = document.documentElement.dataset.root;
const TIMEOUT = 30_000;
const SLOWEST_RETRY = 30_000;

export const apiUrl = (path) => `${root}/api/v1/experiments${path}`;
export const pageUrl = (...place) => `${root}/${place.length ? ["re-recon", ...place].join("/") : "re-recon.html"}`;
export const rootUrl = root;

/** What is known of the way to the data. failingSince: since when the server has not answered; silentSince: the database. */
export const connection = { offset: 0, failingSince: null, problem: null, silentSince: null, at: null, answered: false };
const watchers = new Set();
const tell = () => watchers.forEach((watch) => watch());

/** The server's time in seconds. */
export const serverNow = () => (Date.now() + connection.offset) / 1000;

async function load(url, signal) {
  const response = await fetch(url, { signal, cache: "no-cache", headers: { Accept: "application/json" } });
  const date = Date.parse(response.headers.get("Date"));
  if (!Number.isNaN(date)) connection.offset = date - Date.now();
  const body = await response.json();
  if (response.ok) return body;
  throw Object.assign(new Error(body.detail ?? response.statusText), { status: response.status });
}

function heard(body) {
  connection.failingSince = null;
  connection.problem = null;
  // Answers come from several caches: one that has not heard yet that the database is back must not take that back.
  if (body.database?.answers) connection.silentSince = null;
  else if (body.database && body.database.silent_since > (connection.at ?? 0)) connection.silentSince = body.database.silent_since;
  if (body.database?.answers && body.at) connection.at = Math.max(connection.at ?? 0, body.at);
  else connection.at ??= body.at ?? null;
  tell();
}

/** The server has answered, though not with data. */
function answered() {
  connection.failingSince = null;
  connection.problem = null;
  connection.answered = true;
  tell();
}

function failed(error) {
  if (error.status && error.status !== 503 && error.status < 500) return; // an answer, though not the one we hoped for
  connection.failingSince ??= serverNow();
  connection.problem = error.status ? error.message : "the dashboard's server does not answer";
  tell();
}

/**
 * The newest answer of an address, asked for every `seconds`, and soon when `changed` does (a text that stands for what it depends on),
 * but not within `least` seconds of the last time.
 * Gives { data, missing }: data stay while newer ones fail; missing is the sentence of a 404.
 */
export function useLive(url, seconds, changed = "", least = 5) {
  const [answer, setAnswer] = useState({ url: null, data: null, missing: null });
  const nudge = useRef(null);
  useEffect(() => {
    if (!url) return undefined;
    let timer = null;
    let failures = 0;
    let running = null;
    let last = 0;
    const later = (wait) => {
      clearTimeout(timer);
      timer = document.hidden ? null : setTimeout(ask, wait);
    };
    async function ask() {
      if (running) return;
      const control = new AbortController();
      running = control;
      const limit = setTimeout(() => control.abort(), TIMEOUT);
      last = Date.now();
      try {
        const data = await load(url, control.signal);
        failures = 0;
        if (running !== control) return;
        setAnswer({ url, data, missing: null });
        heard(data);
      } catch (error) {
        if (running !== control) return;
        failures += 1;
        if (error.status === 404) {
          setAnswer({ url, data: null, missing: error.message });
          answered();
        }
        else failed(error);
      } finally {
        clearTimeout(limit);
        if (running === control) {
          running = null;
          later(failures ? Math.min(SLOWEST_RETRY, 2000 * 2 ** Math.min(failures, 5)) * (0.8 + 0.4 * Math.random()) : seconds * 1000);
        }
      }
    }
    const seen = () => (document.hidden ? clearTimeout(timer) : later(Math.max(0, last + 2000 - Date.now())));
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("online", seen);
    nudge.current = () => later(Math.max(0, last + least * 1000 - Date.now()));
    ask();
    return () => {
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("online", seen);
      clearTimeout(timer);
      const control = running;
      running = null;
      control?.abort();
    };
  }, [url, seconds, least]);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) nudge.current?.();
    first.current = false;
  }, [changed]);
  return answer.url === url ? answer : { url, data: null, missing: null };
}

/** One answer, when `url` is first not null. */
export function useOnce(url) {
  const [answer, setAnswer] = useState({ url: null, data: null, problem: null });
  useEffect(() => {
    if (!url) return undefined;
    const control = new AbortController();
    load(url, control.signal).then(
      (data) => setAnswer({ url, data, problem: null }),
      (error) => control.signal.aborted || setAnswer({ url, data: null, problem: error.message })
    );
    return () => control.abort();
  }, [url]);
  return answer.url === url ? answer : { url, data: null, problem: null };
}

/** Draws its component again when the way to the data changes. */
export function useConnection() {
  const [, draw] = useState(0);
  useEffect(() => {
    const watch = () => draw((count) => count + 1);
    watchers.add(watch);
    return () => watchers.delete(watch);
  }, []);
  return connection;
}

const clocks = new Set();
setInterval(() => document.hidden || clocks.forEach((draw) => draw((count) => count + 1)), 1000);

/** The server's time, drawn again every second. */
export function useNow() {
  const [, draw] = useState(0);
  useEffect(() => {
    clocks.add(draw);
    return () => clocks.delete(draw);
  }, []);
  return serverNow();
}

/** A static file, loaded once for all. */
const files = new Map();
export function useFile(name) {
  const [, draw] = useState(0);
  const file = useMemo(() => {
    if (!files.has(name)) {
      const entry = { data: null, waiting: [] };
      files.set(name, entry);
      fetch(`${root}/static/${name}`).then(
        async (response) => {
          if (!response.ok) return files.delete(name);
          entry.data = await response.json();
          return entry.waiting.forEach((ready) => ready());
        },
        () => files.delete(name)
      );
    }
    return files.get(name);
  }, [name]);
  useEffect(() => {
    const ready = () => draw((count) => count + 1);
    file.waiting.push(ready);
    return () => file.waiting.splice(file.waiting.indexOf(ready), 1);
  }, [file]);
  return file.data;
}
