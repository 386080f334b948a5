// Which page is shown, and the frame around it: name, theme, and whether the data are what they should be.
import { Experiment } from "./experiment.js";
import { apiUrl, pageUrl, rootUrl, useConnection, useLive, useNow } from "./live.js";
import { County, Index, Loading, State, Tract } from "./pages.js";
import { clock, dateTime, duration } from "./format.js";
import { html, render, useCallback, useEffect, useRef, useState } from "./vendor/preact.js";

const STALE = 30; // seconds after which data are called old

function placeOf(pathname) {
  const [, ...parts] = pathname.slice(rootUrl.length).split("/");
  if (parts[0] !== "re-recon") return {};
  const [reident, stusab, county, tract] = parts.slice(1).map(decodeURIComponent);
  return { reident, stusab, county, tract };
}

function App() {
  const [path, setPath] = useState(location.pathname);
  const main = useRef(null);
  const go = useCallback((href) => {
    if (href === location.pathname) return;
    history.pushState(null, "", href);
    setPath(href);
    window.scrollTo(0, 0);
  }, []);
  useEffect(() => {
    const back = () => setPath(location.pathname);
    window.addEventListener("popstate", back);
    return () => window.removeEventListener("popstate", back);
  }, []);
  const follow = (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.hash || !/\/re-recon(\.html|\/|$)/.test(link.pathname)) return;
    event.preventDefault();
    go(link.pathname);
  };
  const first = useRef(true);
  useEffect(() => {
    // A reader by ear is led to the new page's heading; the eye is there already.
    if (!first.current) requestAnimationFrame(() => main.current?.focus({ preventScroll: true }));
    first.current = false;
  }, [path]);
  return html`
    <div onClick=${follow}>
      <header class="top">
        <a class="brand" href=${pageUrl()}><img src=${`${rootUrl}/static/icon.svg`} alt="" width="22" height="22" />dbrecon</a>
        <${Freshness} />
        <${Theme} />
      </header>
      <${Warning} />
      <main id="main" tabindex="-1" ref=${main}><${Page} key=${path} ...${placeOf(path)} go=${go} /></main>
      <footer><a href=${`${rootUrl}/api/re-recon`}>Data as JSON</a> · <a href=${`${rootUrl}/api/openapi.json`}>API</a> · times are UTC</footer>
    </div>`;
}

function Page({ reident, stusab, county, tract, go }) {
  useEffect(() => {
    document.title = `${[tract, county, stusab, reident].filter(Boolean).join(" ") || "Reconstructions"} · dbrecon`;
  }, []);
  if (tract) return html`<${Tract} ...${{ reident, stusab, county, tract }} />`;
  if (county) return html`<${County} ...${{ reident, stusab, county }} />`;
  if (stusab) return html`<${State} ...${{ reident, stusab, go }} />`;
  if (reident) return html`<${Experiment} ...${{ reident, go }} />`;
  return html`<${Start} go=${go} />`;
}

/** The list of experiments; where there is one alone, its page at once. */
function Start({ go }) {
  const { data } = useLive(apiUrl(""), 15);
  if (!data) return html`<${Loading} what="the experiments" />`;
  if (data.experiments.length === 1) return html`<${Experiment} reident=${data.experiments[0].reident} go=${go} />`;
  return html`<${Index} data=${data} />`;
}

/** What is wrong with the data, if something is: { kind, text }. */
function trouble({ failingSince, problem, silentSince, at }, now) {
  const shown = at ? ` What you see is of ${dateTime(at)}.` : "";
  if (failingSince !== null && problem && at === null) return { kind: "away", text: `No data: ${problem}. This page goes on trying.` };
  if (failingSince !== null) return { kind: "away", text: `No connection since ${clock(failingSince)} UTC: ${problem}.${shown} This page goes on trying.` };
  if (silentSince !== null) return { kind: "away", text: `The database is away: it has not answered since ${clock(silentSince)} UTC.${shown} This page goes on trying.` };
  if (at !== null && now - at > STALE) return { kind: "stale", text: `These data are old.${shown}` };
  return null;
}

function Warning() {
  const state = useConnection();
  const found = trouble(state, useNow());
  return html`<div class="warning-room" role="alert">${found && html`<p class=${`warning ${found.kind}`}>${found.text}</p>`}</div>`;
}

function Freshness() {
  const state = useConnection();
  const now = useNow();
  const found = trouble(state, now);
  const text = found ? (found.kind === "stale" ? "Stale" : state.silentSince !== null ? "Database away" : "No connection") : state.at !== null ? "Live" : state.answered ? "Connected" : "Loading";
  const age = state.at === null ? "" : `, ${duration(Math.max(0, now - state.at))} old`;
  return html`<span class=${`fresh ${found ? found.kind : state.at === null && !state.answered ? "wait" : "live"}`}><span class="dot"></span>${text}<span class="age">${age}</span></span>`;
}

const THEMES = { auto: "System", light: "Light", dark: "Dark" };

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "auto");
  const choose = (event) => {
    const value = event.currentTarget.value;
    setTheme(value);
    if (value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
    localStorage.setItem("theme", value);
  };
  return html`<select class="theme" aria-label="Theme" value=${theme} onChange=${choose}>
    ${Object.entries(THEMES).map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}</select>`;
}

render(html`<${App} />`, document.getElementById("app"));
