// SPDX-License-Identifier: Apache-2.0
import { get } from './store.js';
import { COLORS, count, css, el, fixed, h1, h2, isNumber, link, note, plain, select, table } from './ui.js';
import { curve, parallel, scatter } from './plots.js';
import { drawing } from './pages_trials.js';

export async function paretoPage(box, { run }) {
  let x = 'params', y = 'score', of = 'search', picked = [];
  const known = (await get(`runs/${run}`)).genes.length > 0;  // else nothing can be drawn
  const chart = el('div', {}), list = el('div', {}), side = el('div', { class: 'cols' }), bar = el('div', { class: 'bar' });
  box.append(h1('Pareto fronts'), bar, chart, side, list);
  const draw = async () => {
    const page = await get(`runs/${run}/pareto?x=${encodeURIComponent(x)}&y=${encodeURIComponent(y)}&of=${of}`);
    bar.replaceChildren('x ', select('Number along x', page.known, x, (v) => { x = v; draw(); }), ' y ', select('Number along y', page.known, y, (v) => { y = v; draw(); }), select('Trials', [['search', 'trials of the search'], ['inherited', 'with inherited weights'], ['retrain', 'final trainings']], of, (v) => { of = v; draw(); }), note('First front in orange; a click draws a network, two side by side.'));
    const front = page.points.filter((p) => p.front === 0).sort((a, b) => a.x - b.x || a.y - b.y);
    chart.replaceChildren(scatter(x, y, page.points.map((p) => ({ ...p, color: p.front === 0 ? COLORS[1] : COLORS[0], r: p.front === 0 ? 5 : 3.5, label: `trial ${p.id}` })),
      { lines: [{ points: front.map((p) => [p.x, p.y]), color: COLORS[1] }], onpick: async (p) => { picked = [...picked.filter((i) => i !== p.id), p.id].slice(-2);
        side.replaceChildren(...await Promise.all((known ? picked : []).map(async (id) => el('figure', {}, el('figcaption', {}, link(`#/run/${run}/trials/${id}`, `trial ${id}`)), await drawing(run, id))))); } }));
    list.replaceChildren(h2('First front'), table(['trial', 'n:' + x, 'n:' + y], front.map((p) => [link(`#/run/${run}/trials/${p.id}`, String(p.id)), x === 'score' ? String(p.x) : count(p.x), y === 'score' ? String(p.y) : count(p.y)])));
  };
  await draw();
  return { change: () => draw().catch(() => {}) };
}

export async function spacePage(box, { run, state }) {
  const [head, report] = await Promise.all([get(`runs/${run}`), get(`runs/${run}/report`)]);
  const done = state.rows.filter((r) => r.status === 'done' && r.purpose !== 'retrain' && isNumber(r.score) && r.genes.length);
  box.append(h1('Space'));
  if (!head.genes.length || !done.length) return void box.append(note(head.genes.length ? 'No scored trial yet.' : 'The space of this run is not known to this version.'));
  const varied = head.genes.map((g, i) => ({ ...g, i })).filter((g) => new Set(done.map((r) => r.genes[g.i])).size > 1);
  const low = Math.min(...done.map((r) => r.score)), high = Math.max(...done.map((r) => r.score));
  const scale = (r) => (high > low ? (r.score - low) / (high - low) : 1);
  const axes = varied.slice(0, 24).map((g) => { const values = done.map((r) => r.genes[g.i]), a = Math.min(...values), b = Math.max(...values);
    return { name: g.name, i: g.i, low: a, high: b, text: (t) => g.texts[t ? b : a] ?? '' }; });
  box.append(h2('Parallel coordinates'), note(`${varied.length} of ${head.genes.length} genes were varied${varied.length > 24 ? '; the first 24 are drawn' : ''}. Drag along an axis to select, click to clear.`),
    parallel([...axes, { name: 'score', text: (t) => fixed(t ? high : low) }], done.map((r) => ({ score: scale(r), values: [...axes.map((a) => (a.high > a.low ? (r.genes[a.i] - a.low) / (a.high - a.low) : 0.5)), scale(r)] }))));
  const best = done.reduce((a, r) => (r.score > a.score ? r : a));
  let gene = varied[0]?.i ?? 0;
  const slice = el('div', {});
  const drawSlice = () => slice.replaceChildren(scatter(head.genes[gene].name, 'score', done.map((r) => ({ x: r.genes[gene], y: r.score, color: r.id === best.id ? COLORS[1] : COLORS[0], r: r.id === best.id ? 7 : 4, label: `trial ${r.id}: ${head.genes[gene].texts[r.genes[gene]] ?? ''}`, id: r.id })), { onpick: (p) => { location.hash = `#/run/${run}/trials/${p.id}`; } }));
  if (varied.length) { box.append(h2('Slice'), el('div', { class: 'bar' }, select('Gene', varied.map((g) => [g.i, g.name]), gene, (v) => { gene = Number(v); drawSlice(); }), note('The best so far in orange.')), slice); drawSlice(); }
  box.append(h2('Importance'));
  const stages = report.stages.filter((s) => Array.isArray(s.importance));
  if (!stages.length) box.append(note('Too few scored trials of one rung.'));
  for (const s of stages) box.append(table(['gene', 'n:share', '95 % interval', ''], [...s.importance].sort((a, b) => b.share - a.share).map((g) => { const bar = el('div', {}); bar.style.cssText = `width:${Math.max(0, g.share || 0) * 12}rem;height:.8rem;background:${COLORS[0]}`; return [g.gene, fixed(g.share, 3), `${fixed(g.interval[0], 3)} to ${fixed(g.interval[1], 3)}`, bar]; })));
  box.append(h2('Coverage'), table(['gene', 'group', 'n:values tried', 'n:of'], head.genes.map((g, i) => [g.name, g.group, new Set(done.map((r) => r.genes[i])).size, g.count])));
}

const TITLES = { best_after: 'Best after each trial', log_improvement: 'Logarithm of the expected improvement', entropy: 'Entropy' };

function storyOf(story, run, state) {
  const parts = [];
  if (Array.isArray(story.rungs)) {
    parts.push(h2('Rungs'), table(['n:rung', ...Object.keys(story.rungs[0] || {}).map((k) => 'n:' + k)], story.rungs.map((r, i) => [i, ...Object.values(r).map((v) => (Array.isArray(v) ? v.length : plain(v)))])));
  }
  if (Array.isArray(story.contestants)) {
    parts.push(h2('Contestants'), table(['network', ...['score', 'expected', 'effort'].map((k) => 'n:' + k), 'why it ended'], story.contestants.map((c) => [c.network || c.genotype, fixed(c.score), fixed(c.expected), count(c.effort), c.reason || c.why || ''])));
  }
  for (const [key, value] of Object.entries(story)) {
    if (Array.isArray(value) && value.length > 1 && value.every((v) => v === null || isNumber(v))) {
      parts.push(h2(TITLES[key] || key.replaceAll('_', ' ')), curve('number', key.replaceAll('_', ' '), [value.map((_, i) => i + 1), value], [{ label: key, points: value.length < 60 }], { height: 180 }));
    } else if (Array.isArray(value) && value.length && value.every((v) => v && typeof v === 'object' && !Array.isArray(v)) && !['rungs', 'contestants'].includes(key)) {
      const keys = [...new Set(value.flatMap((v) => Object.keys(v)))].filter((k) => value.some((v) => typeof v[k] !== 'object')).slice(0, 8);
      parts.push(h2(key.replaceAll('_', ' ')), table(keys.map((k) => (value.some((v) => isNumber(v[k])) ? 'n:' : '') + k), value.slice(0, 40).map((v) => keys.map((k) => (k === 'trial' && v[k] ? link(`#/run/${run}/trials/${v[k]}`, String(v[k])) : isNumber(v[k]) ? count(v[k]) : plain(v[k]))))));
    }
  }
  return parts;
}

/** Trials of each rung, and how many of them were seen again on the next. */
function promotions(rows) {
  const rungs = new Map();
  for (const r of rows) if (r.purpose === 'search') rungs.set(r.rung, [...(rungs.get(r.rung) || []), r]);
  if (rungs.size < 2) return [];
  const levels = [...rungs.keys()].sort((a, b) => a - b), W = 720, H = 170, most = Math.max(...[...rungs.values()].map((v) => v.length));
  const svg = el('svg', { class: 'chart', viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': 'Promotions from rung to rung' });
  const X = (i) => 40 + (i * (W - 130)) / (levels.length - 1), h = (n) => Math.max(2, (n / most) * (H - 50));
  levels.forEach((rung, i) => {
    const n = rungs.get(rung).length, next = levels[i + 1] !== undefined ? rungs.get(levels[i + 1]).length : 0;
    if (next) svg.append(el('path', { d: `M${X(i) + 14},25 C${(X(i) + X(i + 1)) / 2},25 ${(X(i) + X(i + 1)) / 2},25 ${X(i + 1)},25 L${X(i + 1)},${25 + h(next)} C${(X(i) + X(i + 1)) / 2},${25 + h(next)} ${(X(i) + X(i + 1)) / 2},${25 + h(next)} ${X(i) + 14},${25 + h(next)} Z`, fill: COLORS[0], opacity: 0.3 }));
    svg.append(el('rect', { x: X(i), y: 25, width: 14, height: h(n), fill: COLORS[0] }), el('text', { x: X(i), y: 16, text: `rung ${rung}: ${n}` }), el('text', { x: X(i), y: 25 + h(n) + 14, text: i + 1 < levels.length ? `${next} go on` : '' }));
  });
  return [h2('Promotions'), svg];
}

export async function storyPage(box, { run, state }) {
  const main = el('div', {});
  box.append(main);
  const draw = async () => {
    const report = await get(`runs/${run}/report`);
    main.replaceChildren(h1('Search story'));
    for (const s of report.stages) {
      const rows = state.rows.filter((r) => r.stage === s.name);
      main.append(h2(`Stage ${s.name} (${s.kind || 'kind not known'}): ${s.status}`));
      if (s.winner) main.append(el('p', { text: `Chose ${s.winner.network} (${fixed(s.winner.score)}): ${s.winner.how}` }));
      main.append(...promotions(rows));
      const clusters = s.story?.clusters;
      if (Array.isArray(s.story?.points) && Array.isArray(s.story.points[0])) main.append(h2('Candidates in the plane'), scatter('', '', s.story.points.map((p, i) => ({ x: p[0], y: p[1], color: COLORS[(clusters?.[i] ?? 0) % 7], label: `candidate ${i}` }))));
      const inherited = rows.filter((r) => r.purpose === 'inherited' && isNumber(r.score)), own = new Map(rows.filter((r) => r.purpose === 'search' && isNumber(r.score)).map((r) => [r.network, r]));
      const both = inherited.filter((r) => own.has(r.network));
      if (both.length) main.append(h2('Inherited weights against own training'), scatter('score with inherited weights', 'own score', both.map((r) => ({ x: r.score, y: own.get(r.network).score, label: r.network }))));
      main.append(...storyOf(s.story || {}, run, state));
      if (!Object.keys(s.story || {}).length) main.append(note(s.status === 'done' ? 'This stage has no story of its own.' : 'Told when the stage ends.'));
    }
    for (const net of report.super_networks || []) main.append(...alphas(net));
  };
  await draw();
  let last = '';
  return { change: (now) => { state = now; const key = now.events.length + now.state; if (key !== last) { last = key; draw().catch(() => {}); } } };
}

/** Probabilities of each decision over the steps, as rows of a heat map; last: the mean entropy. */
function alphas(net) {
  const history = net.details?.history || net.details?.alpha;
  if (!Array.isArray(net.details?.decisions) || !Array.isArray(history)) return [];
  const parts = [h2(`Super-network, trial ${net.id}`)];
  const entropy = history.map((h) => h.entropy).filter(isNumber);
  if (entropy.length === history.length) parts.push(curve('step', 'mean entropy', [history.map((h) => h.step), entropy], [{ label: 'entropy' }], { height: 160 }));
  return parts;
}
