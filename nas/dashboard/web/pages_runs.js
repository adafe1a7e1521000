// SPDX-License-Identifier: Apache-2.0
import { act, get, hasToken } from './store.js';
import { COLORS, check, count, date, duration, el, fixed, h1, h2, isNumber, link, note, plain, select, signed, status, table, tile, words } from './ui.js';
import { curve, scatter } from './plots.js';

export async function runsPage(box) {
  const picked = new Set();
  const compare = el('button', { text: 'Compare their best trials', disabled: true, onclick: async () => {
    const pairs = [];
    for (const run of picked) {
      const { trials } = await get(`runs/${run}/trials?since=`);
      let best = null;
      trials.id.forEach((id, i) => {
        if (trials.status[i] !== 'done' || trials.purpose[i] === 'super-net') return;
        const rank = [trials.purpose[i] === 'retrain' ? 1 : 0, trials.label[i] === 'best' ? 1 : 0, trials.score[i] ?? -1];
        if (!best || rank.join() !== best.rank.join() && rank.findIndex((v, k) => v !== best.rank[k]) >= 0 && rank.find((v, k) => v !== best.rank[k]) > best.rank.find((v, k) => v !== rank[k])) best = { id, rank };
      });
      if (best) pairs.push(`${run}:${best.id}`);
    }
    location.hash = `#/compare/${pairs.join(',')}`;
  } });
  const draw = async () => {
    const list = await get('runs');
    box.replaceChildren(h1('Runs'), list.problem ? note(list.problem) : '', el('div', { class: 'bar' }, compare, note(`${list.runs.length} runs in ${list.place}`)),
      table(['', 'run', 'data set', 'recipe', 'state', 'n:trials', 'n:score', 'n:parameters', 'budget', 'n:spent', 'begun'], list.runs.map((r) => [
        check('', picked.has(r.run), (on) => { if (on) picked.add(r.run); else picked.delete(r.run); compare.disabled = picked.size < 2 || picked.size > 5; }),
        link(`#/run/${r.run}/overview`, r.name || `run ${r.run}`), r.data, r.recipe, status(r.state), `${r.done}/${r.trials}`, fixed(r.score), count(r.parameters || null),
        r.budget, r.clock ? duration(r.clock) : '–', date(r.created_unix)])));
    for (const input of box.querySelectorAll('input[type=checkbox]')) {
      const row = input.closest('tr');
      input.setAttribute('aria-label', `Choose ${row.children[1].textContent} to compare`);
    }
  };
  await draw();
  const timer = setInterval(() => { if (!picked.size) draw().catch(() => {}); }, 5000);
  return { leave: () => clearInterval(timer) };
}

/** Best so far of a run's own trainings against what was spent. */
export function bestSoFar(rows, axis) {
  const ended = rows.filter((r) => r.status === 'done' && r.purpose !== 'retrain' && r.purpose !== 'super-net' && isNumber(r.score));
  ended.sort((a, b) => a.ended - b.ended || a.id - b.id);
  const x = [], y = [], best = [];
  let spent = 0, most = -Infinity;
  ended.forEach((r, i) => {
    spent += axis === 'steps' ? r.done : axis === 'GPU h' ? r.seconds / 3600 : 0;
    const at = axis === 'trial' ? i + 1 : axis === 'time (s)' ? r.ended : spent;
    most = Math.max(most, r.score);
    x.push(at); y.push(r.score); best.push(most);
  });
  return { x, y, best, rows: ended };
}

export async function overviewPage(box, { run, state }) {
  let axis = localStorage.getItem('voxnas-axis') || 'trial', head = null, report = null;
  const top = el('div', {}), chart = el('div', {}), events = el('div', {}), lanes = el('div', {}), rest = el('div', {});
  const refreshHead = async () => { head = await get(`runs/${run}`); };
  const drawTop = () => {
    const counts = {};
    for (const r of state.rows) counts[r.status] = (counts[r.status] || 0) + 1;
    const active = head.stages.find((s) => s.status === 'running');
    const done = state.rows.filter((r) => active && r.stage === active.name && !['queued', 'running'].includes(r.status)).length;
    const all = active ? Math.max(active.trials || 0, state.rows.filter((r) => r.stage === active.name).length) : 0;
    const line = !state.rows.length ? `Preparing: ${state.events.at(-1)?.text || 'no trial yet'}`
      : active ? `Stage ${active.name}: trial ${done} of ${all} ended` : `The run is ${state.state || 'of an earlier version'}`;
    const scored = state.rows.filter((r) => r.status === 'done' && r.purpose === 'search' && isNumber(r.score));
    const best = scored.reduce((a, r) => (!a || r.rung > a.rung || (r.rung === a.rung && r.score > a.score) ? r : a), null);
    top.replaceChildren(h1(line), el('div', { class: 'tiles' }, tile(state.state || '–', 'state'), tile(String(state.rows.length), `trials: ${Object.entries(counts).map(([k, v]) => `${v} ${k}`).join(', ')}`),
      tile(best ? fixed(best.score) : '–', best ? `best of the search, trial ${best.id}` : 'best of the search'),
      ...(report ? Object.entries(report.final).map(([label, t]) => tile(fixed(t.score), `${label}, held-out Dice`)) : []),
      tile(state.clock ? duration(state.clock) : count(state.rows.reduce((a, r) => a + r.done, 0)) + ' steps', `spent, of ${head.budget.text}`),
      tile(duration(state.rows.reduce((a, r) => a + r.seconds, 0)), 'in trainings')),
    report ? el('p', { text: report.verdict }) : '',
    h2('Stages'), el('div', { class: 'shares' }, head.stages.map((s) => {
      const share = Math.max(1, s.seconds || s.effort || s.steps || 1);
      const d = el('div', { class: s.status, title: `${s.name}: ${s.status}`, text: `${s.name} (${Object.entries(s.counts).map(([k, v]) => `${v} ${k}`).join(', ') || 'no trials'})` });
      d.style.flex = String(share);
      return d;
    })));
  };
  const drawChart = () => {
    const began = performance.now(), b = bestSoFar(state.rows, axis);
    if (!b.x.length) return chart.replaceChildren(note('No scored trial yet.'));
    const base = b.rows.find((r) => r.label === 'baseline');
    const box2 = curve(axis, 'score', [b.x, b.y, b.best, ...(base ? [b.x.map(() => base.score)] : [])],
      [{ label: 'trial', width: 0, points: true, color: COLORS[0] }, { label: 'best so far', color: COLORS[1], width: 2 }, ...(base ? [{ label: 'individual 0', color: COLORS[2], dash: [6, 4], step: false }] : [])],
      { step: true, onpick: (i) => { location.hash = `#/run/${run}/trials/${b.rows[i].id}`; } });
    chart.replaceChildren(box2);
    chart.dataset.milliseconds = String(performance.now() - began);
  };
  const drawEvents = () => {
    events.replaceChildren(table(['n:at', 'n:trial', 'what', ''], state.events.slice(-20).reverse().map((e) => [duration(e.at), e.trial ? link(`#/run/${run}/trials/${e.trial}`, String(e.trial)) : '', e.kind, e.text])));
  };
  const drawLanes = () => {
    const byWorker = new Map();
    for (const r of state.rows) if (r.started || r.ended) byWorker.set(r.worker || 'leader', [...(byWorker.get(r.worker || 'leader') || []), r]);
    if (!byWorker.size) return lanes.replaceChildren(note('With a budget in steps the run has no clock, so nothing is drawn over time.'));
    const end = Math.max(state.clock, ...state.rows.map((r) => r.ended)), begin = Math.max(0, end - 3600), W = 720;
    const svg = el('svg', { class: 'chart', viewBox: `0 0 ${W} ${byWorker.size * 24 + 22}`, role: 'img', 'aria-label': 'What each worker ran in the last hour' });
    [...byWorker].forEach(([name, rows], lane) => {
      svg.append(el('text', { x: 2, y: lane * 24 + 15, text: name }));
      for (const r of rows.filter((t) => (t.ended || end) >= begin)) {
        const x = 62 + ((Math.max(begin, r.started) - begin) / (end - begin || 1)) * (W - 66), w = Math.max(1, (((r.ended || end) - Math.max(begin, r.started)) / (end - begin || 1)) * (W - 66));
        svg.append(el('rect', { x, y: lane * 24 + 3, width: w, height: 17, rx: 2, fill: r.status === 'done' ? COLORS[0] : r.status === 'running' ? COLORS[2] : COLORS[1], opacity: 0.8 }));
      }
    });
    svg.append(el('text', { x: 62, y: byWorker.size * 24 + 16, text: duration(begin) }), el('text', { x: W - 4, y: byWorker.size * 24 + 16, 'text-anchor': 'end', text: duration(end) }));
    lanes.replaceChildren(svg);
  };
  const loadReport = async () => { try { report = await get(`runs/${run}/report`); } catch { report = null; } };
  await Promise.all([refreshHead(), loadReport()]);
  box.append(top, el('div', { class: 'cols' }, el('section', {}, h2('Best so far'), el('div', { class: 'bar' }, select('Against', ['trial', 'time (s)', 'steps', 'GPU h'], axis, (v) => { axis = v; localStorage.setItem('voxnas-axis', v); drawChart(); })), chart,
    h2('Workers, the last hour'), lanes), el('section', {}, h2('Events'), events)), rest);
  if (hasToken()) rest.append(h2('Actions'), runActions(run));
  rest.append(h2('To repeat it'), el('pre', { text: head.command }));
  drawTop(); drawChart(); drawEvents(); drawLanes();
  let last = Date.now();
  return { change: async (now) => { state = now;
    if (Date.now() - last > 2000 || state.state === 'done') { last = Date.now(); await Promise.all([refreshHead(), loadReport()]).catch(() => {}); }
    drawTop(); drawChart(); drawEvents(); drawLanes(); } };
}

function runActions(run) {
  const said = el('span', { role: 'status' });
  const go = (verb, body) => act(run, verb, body).then((a) => { said.textContent = a.done; }, (e) => { said.textContent = e.message; });
  const genotype = el('input', { type: 'text', 'aria-label': 'Genotype to try next', placeholder: 'gene=value gene=value …' });
  return el('div', { class: 'bar' }, el('button', { text: 'Stop with checkpoints', onclick: () => go('stop', {}) }), genotype,
    el('button', { text: 'Try next', onclick: () => go('enqueue', { genotype: genotype.value }) }), said);
}

export async function workersPage(box, { run, state }) {
  const main = el('div', {});
  box.append(main);
  const draw = async () => {
    const [head, report] = await Promise.all([get(`runs/${run}`), get(`runs/${run}/report`)]);
    const said = el('span', { role: 'status' });
    const wish = (verb, worker) => el('button', { text: verb, disabled: !hasToken(), title: hasToken() ? '' : 'needs --actions', onclick: () => act(run, verb, { worker }).then((a) => { said.textContent = a.done; }, (e) => { said.textContent = e.message; }) });
    const count_of = (s) => state.rows.filter((r) => r.status === s).length;
    const seconds = state.rows.reduce((a, r) => a + r.seconds, 0), wait = state.rows.reduce((a, r) => a + (r.metrics.wait_seconds || 0), 0);
    main.replaceChildren(h1('Workers and cost'), el('div', { class: 'tiles' }, tile(String(count_of('queued')), 'queued'), tile(String(count_of('running')), 'running'),
      tile((seconds / 3600).toFixed(3), 'GPU hours in trainings'), tile(seconds ? `${((100 * wait) / seconds).toFixed(1)} %` : '–', 'of it waiting for data'), tile(state.clock ? duration(state.clock) : '–', `spent of ${head.budget.text}`)),
    h2('Workers'), head.workers.length ? table(['worker', 'host', 'device', 'state', 'wish', 'n:done', 'heard', ''], head.workers.map((w) => [w.name, w.host, w.device, status(w.state), w.wish, w.done, duration(w.heard) + ' ago', el('span', {}, wish('suspend', w.name), ' ', wish('resume', w.name))])) : note('The leader trains itself: there are no other workers.'), said,
    h2('Stages'), table(['stage', 'status', 'n:trials', 'n:steps', 'n:time in trainings', 'n:share'], head.stages.map((s) => { const own = state.rows.filter((r) => r.stage === s.name); const t = own.reduce((a, r) => a + r.seconds, 0);
      return [s.name, s.status, own.length, count(own.reduce((a, r) => a + r.done, 0)), duration(t), seconds ? `${((100 * t) / seconds).toFixed(0)} %` : '–']; })),
    h2('Forecast'), forecastTable(report.forecast));
  };
  await draw();
  return { change: (now) => { state = now; draw().catch(() => {}); } };
}
function forecastTable(forecast) {
  if (!forecast || typeof forecast !== 'object') return note('The run recorded no forecast.');
  return table(['what', 'forecast'], Object.entries(forecast).filter(([, v]) => !Array.isArray(v) || v.length).map(([k, v]) => [k.replaceAll('_', ' '), words(v)]));
}

export async function comparePage(box, { parts }) {
  const page = await get(`compare?trials=${encodeURIComponent(parts[1] || '')}`);
  const name = (t) => `run ${t.run}, trial ${t.id}${t.label ? ` (${t.label})` : ''}`;
  box.append(h1('Comparison'), table(['', 'trial', 'stage', 'status', 'n:score', 'n:parameters', 'n:multiply-adds', 'network'], page.trials.map((t, i) => [
    el('b', { class: 'c' + i, text: '●' }), link(`#/run/${t.run}/trials/${t.id}`, name(t)), t.stage, status(t.status), fixed(t.score), count(t.params), count(t.macs), t.network])));
  page.pairs.forEach((pair, i) => {
    const title = `${name(page.trials[i + 1])} against ${name(page.trials[0])}`;
    if (!pair) return box.append(h2(title), note('One of them has no scores per case.'));
    box.append(h2(title), el('p', { text: `Mean difference ${signed(pair.mean_difference)}, 95 % interval [${signed(pair.interval[0])}, ${signed(pair.interval[1])}] over ${pair.pairs} cases: ${pair.verdict}.` }),
      scatter('Dice of the first', 'Dice of the other', pair.cases.filter((c) => isNumber(c.best) && isNumber(c.baseline)).map((c) => ({ x: c.baseline, y: c.best, label: `${c.id}: ${signed(c.difference)}`, color: COLORS[(i + 1) % 7] }))));
  });
  const all = page.trials.flatMap((t, i) => t.curves.map((c) => ({ ...c, i, t })));
  if (all.length) {
    const xs = [...new Set(all.flatMap((c) => c.steps))].sort((a, b) => a - b);
    box.append(h2('Curves'), curve('step', 'reported', [xs, ...all.map((c) => { const m = new Map(c.steps.map((s, k) => [s, c.values[k]])); return xs.map((x) => m.get(x) ?? null); })], all.map((c) => ({ label: `${c.name}, ${name(c.t)}`, color: COLORS[c.i], points: true }))));
  }
  box.append(h2('Settings that differ'), page.settings.length ? table(['setting', ...page.trials.map((t) => name(t))], page.settings.map((s) => [s.name, ...s.values.map(plain)])) : note('None.'));
}
