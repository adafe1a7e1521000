// SPDX-License-Identifier: Apache-2.0
// What is known of the runs: one table of columns each, kept up to date by one stream of changes.

const token = (() => {
  const found = /[#&]t=([^&]+)/.exec(location.hash);
  if (found) {
    sessionStorage.setItem('voxnas-token', found[1]);
    history.replaceState(null, '', location.pathname + '#/');
  }
  return sessionStorage.getItem('voxnas-token') || '';
})();

export class ApiError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

/** @returns {Record<string,string>} */
const headers = () => (token ? { 'X-VoxNAS-Token': token } : {});

/** Of /api/...; throws ApiError with what the server says. */
export async function get(path) {
  let answer;
  try {
    answer = await fetch('/api/' + path, { headers: headers(), cache: 'no-store' });
  } catch {
    throw new ApiError(0, 'the dashboard does not answer; it is asked again');
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, body.error || `status ${answer.status}`);
  return body;
}

/** A file of the API as an address for <img> and links: needs the token, so it is fetched. */
export async function blob(path) {
  const answer = await fetch('/api/' + path, { headers: headers(), cache: 'no-store' });
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new ApiError(answer.status, body.error || `status ${answer.status}`);
  }
  return answer;
}

export async function act(run, verb, body) {
  const answer = await fetch(`/api/runs/${run}/actions/${verb}`, {
    method: 'POST', headers: { ...headers(), 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, said.error || `status ${answer.status}`);
  return said;
}
export const hasToken = () => token !== '';

/** @typedef {{run:number, rev:string, state:string, clock:number, problem:string, rows:any[], byId:Map<number,any>, events:any[]}} RunState */
/** @type {Map<number, RunState>} */
const runs = new Map();
/** @type {Set<(run: RunState) => void>} */
const listeners = new Set();
let source = null, followed = '', pollTimer = 0, streamState = '';

export function onChange(listener) { listeners.add(listener); return () => listeners.delete(listener); }

/** A delta as the server sends it. */
function merge(run, delta) {
  const known = runs.get(run);
  const state = delta.whole || !known
    ? { run, rev: '', state: '', clock: 0, problem: '', rows: [], byId: new Map(), events: [] } : known;
  const columns = delta.trials, names = Object.keys(columns).filter((n) => n !== 'metrics');
  const metrics = Object.keys(columns.metrics);
  for (let i = 0; i < columns.id.length; i++) {
    const row = {};
    for (const name of names) row[name] = columns[name][i];
    row.metrics = {};
    for (const name of metrics) if (columns.metrics[name][i] !== null) row.metrics[name] = columns.metrics[name][i];
    const old = state.byId.get(row.id);
    if (old) Object.assign(old, row);
    else { state.byId.set(row.id, row); state.rows.push(row); }
  }
  for (const event of delta.events) {
    if (!state.events.length || event.id > state.events[state.events.length - 1].id) state.events.push(event);
  }
  Object.assign(state, { rev: delta.rev, state: delta.state, clock: delta.clock, problem: delta.problem });
  runs.set(run, state);
  for (const listener of listeners) listener(state);
}

/** Everything that changed since we looked. */
export async function load(run) {
  const known = runs.get(run);
  merge(run, await get(`runs/${run}/trials?since=${known ? known.rev : ''}`));
  return runs.get(run);
}

export const live = () => streamState;
function setLive(text) {
  streamState = text;
  document.getElementById('live').textContent = text;
}

/** Follows these runs; one stream for the page. Where there are too many pages, or the token is needed, it asks. */
export function follow(numbers) {
  const wanted = numbers.join(',');
  if (wanted === followed) return;
  followed = wanted;
  if (source) source.close();
  source = null;
  clearInterval(pollTimer);
  if (!numbers.length) return setLive('');
  const ask = async () => {
    try {
      for (const run of numbers) await load(run);
      if (!source) setLive('asked every 5 s');
    } catch (error) { setLive(error.message); }
  };
  const poll = () => { ask(); clearInterval(pollTimer); pollTimer = window.setInterval(ask, 5000); };
  if (token && !window.EventSource) return poll();
  source = new EventSource('/api/events?runs=' + wanted);
  source.addEventListener('hello', () => { setLive('live'); ask(); });
  source.addEventListener('lost', ask);
  source.addEventListener('change', (event) => {
    const delta = JSON.parse(event.data), known = runs.get(delta.run);
    if (delta.whole || (known && known.rev === delta.before)) merge(delta.run, delta);
    else if (!known || known.rev !== delta.rev) load(delta.run).catch((error) => setLive(error.message));
  });
  source.onerror = () => {
    setLive('connecting …');
    if (source.readyState === EventSource.CLOSED) { source = null; poll(); }  // refused: full, or token
  };
}
