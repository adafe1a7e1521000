// SPDX-License-Identifier: Apache-2.0
import { act, blob, get, hasToken, load } from './store.js';
import { bytes, check, count, duration, el, fixed, h1, h2, isNumber, link, note, plain, select, status, table, tile } from './ui.js';
import { curve } from './plots.js';
import { VirtualTable, parseFilter } from './table.js';

function columnsOf(rows) {
  const metrics = new Set();
  for (const r of rows) for (const name of Object.keys(r.metrics)) metrics.add(name);
  const number = (name, title, width, show, hidden) => ({ name, title, width, number: true, hidden, value: (r) => r[name], show: show && ((r) => show(r[name])) });
  return [number('id', 'trial', 62), { name: 'status', title: 'status', width: 84, value: (r) => r.status, show: (r) => status(r.status) },
    number('score', 'score', 78, fixed), { name: 'stage', title: 'stage', width: 96, value: (r) => r.stage },
    { name: 'label', title: 'label', width: 84, value: (r) => r.label }, number('rung', 'rung', 56), number('params', 'parameters', 96, count), number('macs', 'mult-adds', 92, count),
    number('memory', 'memory', 86, bytes, true), { name: 'done', title: 'steps', width: 96, number: true, value: (r) => r.done, show: (r) => `${r.done}/${r.steps}` },
    number('seconds', 'time', 92, duration), { name: 'worker', title: 'worker', width: 76, value: (r) => r.worker }, { name: 'purpose', title: 'purpose', width: 84, hidden: true, value: (r) => r.purpose },
    { name: 'asked_by', title: 'asked by', width: 96, hidden: true, value: (r) => r.asked_by },
    ...[...metrics].sort().map((m) => ({ name: m, title: m, width: 120, number: true, hidden: true, value: (r) => r.metrics[m], show: (r) => fixed(r.metrics[m]) })),
    { name: 'network', title: 'network', width: 460, value: (r) => r.network }, { name: 'message', title: 'message', width: 260, hidden: true, value: (r) => r.message }];
}

const download = async (path, name) => {
  const url = URL.createObjectURL(await (await blob(path)).blob());
  el('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};

export async function trialsPage(box, { run, state }) {
  const columns = columnsOf(state.rows);
  const grid = new VirtualTable(columns, { storage: 'voxnas-trials', open: (row) => { location.hash = `#/run/${run}/trials/${row.id}`; } });
  const wrong = el('span', { class: 'note', role: 'status' }), number = el('span', { class: 'note' });
  grid.onshown = (n) => { number.textContent = `${n} of ${state.rows.length}`; };
  const filter = el('input', { type: 'search', 'aria-label': 'Filter trials', placeholder: 'status:done score>0.8 stage:search …', oninput: () => {
    sessionStorage.setItem('voxnas-filter', filter.value);
    try { grid.setFilter(parseFilter(filter.value, columns)); wrong.textContent = ''; } catch (error) { wrong.textContent = error.message; }
  } });
  filter.value = sessionStorage.getItem('voxnas-filter') || '';
  const chooser = el('details', {}, el('summary', { text: 'Columns' }), el('div', { class: 'bar' }, columns.map((c) => check(c.title, !grid.hidden.has(c.name), (on) => grid.toggle(c.name, on)))));
  box.append(h1('Trials'), el('div', { class: 'bar' }, filter, number, el('button', { text: 'CSV', onclick: () => download(`runs/${run}/export.csv`, 'trials.csv') }),
    el('button', { text: 'JSON', onclick: () => { const url = URL.createObjectURL(new Blob([JSON.stringify(grid.shown)], { type: 'application/json' })); el('a', { href: url, download: 'trials.json' }).click(); } })), wrong, chooser, grid.node);
  grid.set(state.rows);
  if (filter.value) filter.dispatchEvent(new Event('input'));
  window.voxnasGrid = grid;  // for the tests
  return { change: (now) => { state = now; grid.set(state.rows); }, leave: () => { delete window.voxnasGrid; } };
}

export async function drawing(run, id) {
  const holder = el('div', { class: 'drawing' }, note('drawing …'));
  blob(`runs/${run}/trials/${id}/graph.svg`).then((a) => a.text()).then((text) => {
    holder.replaceChildren(el('img', { alt: `Network of trial ${id}`, src: 'data:image/svg+xml;base64,' + btoa(unescape(encodeURIComponent(text))) }));
  }, (error) => holder.replaceChildren(note(`No drawing: ${error.message}`)));
  return holder;
}

export async function trialPage(box, { run, state, parts }) {
  const id = Number(parts[3]);
  const [t, curves, log] = await Promise.all([get(`runs/${run}/trials/${id}`), get(`runs/${run}/trials/${id}/curves?points=500`), get(`runs/${run}/trials/${id}/log?tail=65536`)]);
  const said = el('span', { role: 'status' });
  const go = (verb, body) => act(run, verb, body).then((a) => { said.textContent = a.done; return load(run); }, (e) => { said.textContent = e.message; });
  const comment = el('input', { type: 'text', 'aria-label': 'Note', placeholder: 'a note about this trial' });
  const other = el('input', { type: 'text', 'aria-label': 'Trial to compare with', placeholder: 'trial', size: 6 });
  box.append(h1(`Trial ${id}${t.label ? ` (${t.label})` : ''}`), el('div', { class: 'bar' }, status(t.status), note(`${t.purpose} of stage ${t.stage}, rung ${t.rung}; ${t.how || ''}`)),
    el('div', { class: 'tiles' }, tile(fixed(t.score), 'score'), tile(count(t.params), 'parameters'), tile(count(t.macs), 'multiply-adds a patch'), tile(bytes(t.memory), 'memory, forecast'), tile(`${t.done}/${t.steps}`, 'steps'), tile(duration(t.seconds), `time, ${t.attempts} attempt(s)${t.worker ? `, ${t.worker}` : ''}`)),
    t.message ? el('p', { text: t.message }) : '',
    el('div', { class: 'bar' }, other, el('button', { text: 'Compare', onclick: () => { location.hash = `#/compare/${run}:${id},${run}:${Number(other.value) || 1}`; } }),
      t.source ? link(`#/run/${run}/trials/${t.source}`, `weights from trial ${t.source}`) : '', t.individual_0 && t.individual_0 !== id ? link(`#/run/${run}/trials/${t.individual_0}`, `individual 0: trial ${t.individual_0}`) : '',
      ...t.children.slice(0, 20).map((c) => link(`#/run/${run}/trials/${c}`, `goes on in ${c}`))));
  if (hasToken()) box.append(el('div', { class: 'bar' }, el('button', { text: 'Abort', disabled: !['queued', 'running', 'stopped'].includes(t.status), onclick: () => go('abort', { trial: id }) }),
    el('button', { text: 'Skip', disabled: t.status !== 'queued', onclick: () => go('skip', { trial: id }) }), comment, el('button', { text: 'Note', onclick: () => go('note', { trial: id, text: comment.value }) }), said));
  for (const a of t.annotations) box.append(note(`${a.key}: ${a.value} (${a.by})`));
  const left = el('section', {}), right = el('section', {});
  if (curves.curves.length) {
    left.append(h2('Curves'));
    for (const c of curves.curves) left.append(curve('step', c.name, [c.steps, c.values], [{ label: c.name, points: c.steps.length < 60 }], { height: 180 }));
  } else left.append(h2('Curves'), note('Nothing was reported on the way: this stage asks for no scores before the end.'));
  if (Array.isArray(t.cases) && t.cases.length) {
    const labels = t.cases[0].classes.map((k) => k.label);
    const mean = (c) => { const d = c.classes.map((k) => k.dice).filter(isNumber); return d.length ? d.reduce((a, v) => a + v, 0) / d.length : null; };
    left.append(h2('Scores per case'), table(['case', 'n:Dice', ...labels.map((l) => 'n:' + l)], [...t.cases].sort((a, b) => (mean(a) ?? 9) - (mean(b) ?? 9)).map((c) => [c.id, fixed(mean(c)), ...c.classes.map((k) => fixed(k.dice))])));
  }
  left.append(h2('Metrics'), table(['metric', 'n:value'], Object.entries(t.metrics).map(([k, v]) => [k, String(v)])));
  if (log.log) left.append(h2('Log'), el('pre', { tabindex: 0, text: log.log }));
  if (t.gene_values) right.append(h2('Genes'), table(['gene', 'value', 'planned'], t.gene_values.map((g) => [g.gene, g.value, g.planned]), t.gene_values.map((g) => (g.differs ? 'differs' : ''))));
  else right.append(h2('Genotype'), el('pre', { text: t.network }));
  right.append(h2('Settings'), table(['setting', 'value', 'individual 0'], t.settings.map((s) => [s.name, plain(s.value), s.differs ? plain(s.planned) : '']), t.settings.map((s) => (s.differs ? 'differs' : ''))));
  box.append(el('div', { class: 'cols' }, left, right), h2('Network'), t.gene_values ? await drawing(run, id) : note('The space of this run is not known to this version, so its networks cannot be drawn.'));
  return { change: (now) => { const row = now.byId.get(id); if (row && row.status !== t.status) { box.replaceChildren(); trialPage(box, { run, state: now, parts }); t.status = row.status; } } };
}
