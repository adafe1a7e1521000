// SPDX-License-Identifier: Apache-2.0
import { comparePage, overviewPage, runsPage, workersPage } from './pages_runs.js';
import { trialPage, trialsPage } from './pages_trials.js';
import { paretoPage, spacePage, storyPage } from './pages_search.js';
import { casesPage } from './pages_cases.js';
import { aboutPage } from './pages_about.js';
import { follow, get, load, onChange } from './store.js';
import { el } from './ui.js';

const PAGES = { overview: ['Overview', overviewPage], trials: ['Trials', trialsPage], pareto: ['Pareto', paretoPage], space: ['Space', spacePage],
  story: ['Search story', storyPage], cases: ['Cases and volumes', casesPage], workers: ['Workers and cost', workersPage] };
const content = document.getElementById('content'), tabs = document.getElementById('tabs'), banner = document.getElementById('banner');
const where = document.getElementById('where');
let page = null, turn = 0, names = new Map();

export function problem(text) { banner.hidden = !text; banner.textContent = text || ''; }

/** #/  #/about  #/compare/1:2,1:3  #/run/1/trials/4 */
async function show() {
  const mine = ++turn, here = location.hash || '#/', parts = here.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  page?.leave?.();
  page = null;
  problem('');
  const run = parts[0] === 'run' ? Number(parts[1]) : 0;
  follow(run ? [run] : []);
  const name = run ? parts[2] || 'overview' : '';
  tabs.replaceChildren(...(run ? Object.entries(PAGES).map(([key, [title]]) =>
    el('a', { href: `#/run/${run}/${key}`, text: title, 'aria-current': name === key ? 'page' : undefined })) : []),
  el('a', { href: '#/about', text: 'About', 'aria-current': parts[0] === 'about' ? 'page' : undefined }));
  const box = el('div', {});
  content.replaceChildren(box);
  try {
    if (run && !names.has(run)) for (const r of (await get('runs')).runs) names.set(r.run, `${r.name} · ${r.data || 'no data set'} · ${r.recipe}`);
    where.textContent = run ? names.get(run) || `run ${run}` : '';
    document.title = run ? `${where.textContent} · VoxNAS` : 'VoxNAS';
    const state = run ? await load(run) : null;
    if (mine !== turn) return;
    if (state) problem(state.problem);
    const build = !parts[0] ? runsPage : parts[0] === 'about' ? aboutPage : parts[0] === 'compare' ? comparePage
      : run && name === 'trials' && parts[3] ? trialPage : run && PAGES[name] ? PAGES[name][1] : null;
    if (!build) throw new Error('there is no such page');
    const made = await build(box, { run, state, parts });
    if (mine !== turn) return made?.leave?.();
    page = made;
    content.focus({ preventScroll: true });
    document.body.dataset.shown = here;
  } catch (error) {
    if (mine !== turn) return;
    problem(error.message);
    document.body.dataset.shown = here;
    if (error.status === 0) setTimeout(() => { if (mine === turn) show(); }, 5000);
  }
}

let waiting = null;
onChange((state) => {
  problem(state.problem);
  if (!page?.change || waiting) return;
  // At most a few times a second, however fast trials end.
  waiting = setTimeout(() => { waiting = null; page?.change?.(state); }, 200);
});
addEventListener('hashchange', show);
document.querySelector('.skip').addEventListener('click', (e) => { e.preventDefault(); content.focus(); });
show();
