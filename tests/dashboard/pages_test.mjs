// SPDX-License-Identifier: Apache-2.0
// The pages in a real browser: node pages_test.mjs VOXNAS MAKE_RUNS NODE_MODULES WORK. Exit code 77: skipped.
import { spawn, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const [voxnas, makeRuns, modules, work] = process.argv.slice(2);
const skip = (why) => { console.log(`skipped: ${why}`); process.exit(77); };
const chromium = process.env.VOXNAS_CHROMIUM || '/usr/bin/chromium';
if (!fs.existsSync(chromium)) skip(`no Chromium at ${chromium} (VOXNAS_CHROMIUM, or apt-get install chromium)`);
if (!fs.existsSync(path.join(modules, 'playwright-core'))) skip(`no playwright-core in ${modules} (make setup)`);
const require = createRequire(path.join(modules, 'x.js'));
const { chromium: browserType } = require('playwright-core');
const axeSource = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

fs.rmSync(work, { recursive: true, force: true });
fs.mkdirSync(work, { recursive: true });
let failures = 0, checks = 0;
/** A limit in milliseconds: four times as long on a machine that others keep busy. */
const within = (milliseconds) => milliseconds * (os.loadavg()[0] > 1.5 * os.cpus().length ? 4 : 1);
function expect(holds, what, found) {
  checks++;
  if (holds) return;
  failures++;
  console.log(`FAILED: ${what}${found === undefined ? '' : `; found ${JSON.stringify(found)}`}`);
}
const make = (...words) => { const done = spawnSync(makeRuns, words, { encoding: 'utf8' }); if (done.status) throw new Error(`make_runs ${words}: ${done.stderr}`); };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
async function until(test, seconds = 15) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(40)) { const found = await test(); if (found) return found; }
  return null;
}

const servers = new Set();
async function serve(place, ...words) {
  const process_ = spawn(voxnas, ['dashboard', place, ...words], { stdio: ['ignore', 'pipe', 'inherit'] });
  servers.add(process_);
  let text = '';
  process_.stdout.on('data', (data) => { text += data; });
  if (!(await until(() => text.includes('\n')))) throw new Error('voxnas dashboard says no address');
  return { url: text.trim(), process: process_, stop: () => { servers.delete(process_); process_.kill('SIGKILL'); } };
}

const browser = await browserType.launch({ executablePath: chromium, args: ['--headless=new', '--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'] });
/** A page on which any error, failed request or request to another host is a failure. */
async function open(url, { width = 1280, height = 800, dark = false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', bypassCSP: false });
  const page = await context.newPage();
  page.strict = true;
  const host = new URL(url).host;
  page.on('console', (m) => { if (m.type() === 'error' && page.strict) expect(false, `console of ${page.url()}`, m.text()); });
  page.on('pageerror', (e) => expect(false, `error on ${page.url()}`, e.message));
  page.on('request', (r) => { if (!r.url().startsWith('data:') && !r.url().startsWith('blob:')) expect(new URL(r.url()).host === host, 'no request to another host', r.url()); });
  page.on('requestfailed', (r) => { if (page.strict && !r.failure().errorText.includes('ABORTED')) expect(false, `request ${r.url()}`, r.failure().errorText); });
  await page.goto(url);
  return page;
}
const shown = (page, hash) => until(() => page.evaluate((h) => document.body.dataset.shown === h, hash), 40);
async function go(page, hash) {
  await page.evaluate((h) => { document.body.dataset.shown = ''; if (location.hash === h) window.dispatchEvent(new HashChangeEvent('hashchange')); else location.hash = h; }, hash);
  expect(await shown(page, hash), `${hash} is shown`, await page.evaluate(() => document.body.innerText.slice(0, 300)));
}
const PAGES = ['#/', '#/run/1/overview', '#/run/1/trials', '#/run/1/trials/1', '#/run/1/trials/41', '#/run/1/pareto', '#/run/1/space', '#/run/1/story', '#/compare/1:41,1:42', '#/run/1/cases', '#/run/1/workers', '#/about'];
const nameOf = (hash) => hash.replace(/[^a-z0-9]+/gi, '_').replace(/^_|_$/g, '') || 'runs';

async function everyPage() {
  const place = path.join(work, 'finished');
  fs.mkdirSync(place);
  make(place);
  const server = await serve(path.join(place, 'run'));
  const page = await open(server.url);
  expect(await until(() => page.evaluate(() => document.querySelector('main table') !== null)), 'the first page has its table');
  for (const hash of PAGES) {
    await go(page, hash);
    if (hash.endsWith('cases')) await until(() => page.evaluate(() => document.body.dataset.volume));
    else await sleep(150);
    expect(await page.evaluate(() => document.getElementById('banner').hidden), `${hash} has no banner`, await page.evaluate(() => document.getElementById('banner').textContent));
    expect(await page.evaluate(() => document.querySelector('img[src="x"]') === null), `${hash}: names are text`);
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${hash} fits the width`);
    await page.screenshot({ path: path.join(work, `${nameOf(hash)}.png`), fullPage: true });
  }
  expect((await page.evaluate(() => fetch('/api/runs/1/cases').then((r) => r.text()))).includes('<img src=x'), 'the evil name is in the data');
  await go(page, '#/run/1/cases');
  expect(await page.evaluate(() => document.body.innerText.includes('<img src=x onerror=alert(1)>')), 'and stands there as text');
  await accessible(page);
  await agrees(page, place);
  await page.context().close();
  let fastest = Infinity;
  for (const [dark, width, height] of [[true, 1280, 800], [false, 500, 900], [true, 500, 900]]) {
    const other = await open(server.url, { dark, width, height });
    const paint = await until(() => other.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime));
    fastest = Math.min(fastest, paint);
    for (const hash of PAGES) {
      await go(other, hash);
      if (hash.endsWith('cases')) await until(() => other.evaluate(() => document.body.dataset.volume)); else await sleep(100);
      expect(await other.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${hash} fits ${width} pixels`, await other.evaluate(() => document.documentElement.scrollWidth));
      await other.screenshot({ path: path.join(work, `${nameOf(hash)}_${dark ? 'dark' : 'light'}_${width}.png`) });
    }
    await other.context().close();
  }
  // Of three new windows: the machine may be busy.
  expect(fastest < within(1000), 'first paint within 1 s', fastest);
  return server;
}

async function accessible(page) {
  for (const hash of PAGES) {
    await go(page, hash);
    await sleep(100);
    // In the page's world but not as a script of the page: the policy stays on.
    const session = await page.context().newCDPSession(page);
    await session.send('Runtime.evaluate', { expression: axeSource });
    const { result } = await session.send('Runtime.evaluate', { expression: 'axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => [v.id, v.nodes[0].html.slice(0, 160), v.nodes[0].failureSummary])))', awaitPromise: true, returnByValue: true });
    expect(result.value === '[]', `${hash}: no serious finding of axe`, result.value);
    await session.detach();
  }
}

/** The numbers of the pages are those of `voxnas report --json`. */
async function agrees(page, place) {
  const done = spawnSync(voxnas, ['report', path.join(place, 'run'), '--json'], { encoding: 'utf8', maxBuffer: 1 << 28 });
  const report = JSON.parse(done.stdout);
  const [own, trials, compared, pareto] = await page.evaluate(() => Promise.all(['report', 'trials'].map((p) => fetch('/api/runs/1/' + p).then((r) => r.json())).concat([fetch('/api/compare?trials=1:42,1:41').then((r) => r.json()), fetch('/api/runs/1/pareto').then((r) => r.json())])));
  expect(JSON.stringify(own.final) === JSON.stringify(report.final), 'final scores are the report\'s');
  expect(JSON.stringify(own.verdict) === JSON.stringify(report.verdict), 'the verdict is the report\'s');
  expect(JSON.stringify(trials.trials.score) === JSON.stringify(report.trials.map((t) => t.score)), 'scores of trials are the report\'s');
  expect(JSON.stringify(compared.pairs[0].interval) === JSON.stringify(report.comparison.interval) && compared.pairs[0].mean_difference === report.comparison.mean_difference, 'the comparison is the report\'s', compared.pairs[0]?.mean_difference);
  expect(pareto.points.every((p) => report.trials.find((t) => t.id === p.id).parameters === p.x && report.trials.find((t) => t.id === p.id).score === p.y), 'Pareto points are the report\'s');
  await go(page, '#/run/1/overview');
  expect((await page.evaluate(() => document.querySelector('main').innerText)).includes(report.final.best.score.toFixed(4)), 'the overview shows the final score');
}

async function volumes(server) {
  const page = await open(server.url);
  await go(page, '#/run/1/cases');
  expect(await until(() => page.evaluate(() => document.body.dataset.volume?.includes('image reference a error'))), 'four layers are loaded', await page.evaluate(() => [document.body.dataset.volume, document.querySelector('[role=status].note')?.textContent]));
  expect(await page.evaluate(() => document.querySelector('main').innerText.includes('1 connected errors')), 'one error is counted', await page.evaluate(() => document.querySelector('p[role=status]')?.textContent));
  await page.keyboard.press('n');
  expect(await page.evaluate(() => /Error 1 of 1: missed/.test(document.querySelector('p[role=status]').textContent)), 'n goes to the error', await page.evaluate(() => document.querySelector('p[role=status]').textContent));
  const colours = await page.evaluate(() => {
    const nv = window.voxnasViewer, gl = nv.gl;
    nv.setSliceType(0);
    nv.opts.crosshairWidth = 0;
    nv.drawScene();
    const [w, h] = [gl.drawingBufferWidth, gl.drawingBufferHeight], pixels = new Uint8Array(w * h * 4);
    gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let red = 0, blue = 0;
    const seen = new Set();
    for (let i = 0; i < pixels.length; i += 4) {
      const [r, g, b] = [pixels[i], pixels[i + 1], pixels[i + 2]];
      if (r > 120 && g < 90 && b < 90) red++;
      if (b > 150 && r < 100 && g < 130) blue++;
      seen.add((r << 16) | (g << 8) | b);
    }
    return { red, blue, different: seen.size };
  });
  expect(colours.different > 20, 'the canvas shows something', colours);
  expect(colours.red > 50, 'what was missed is red', colours);
  expect(colours.blue === 0, 'and nothing is extra', colours);
  await page.keyboard.press(']');  // one that is no longer in the data set
  expect(await until(() => page.evaluate(() => document.querySelector('p[role=status]').textContent.includes('is not in the data set'))), 'a case without an image says so');
  await page.keyboard.press(']');
  expect(await until(() => page.evaluate(() => !document.body.dataset.volume?.includes('_001 '))), ']: the next case');
  await page.screenshot({ path: path.join(work, 'volume_next.png') });
  await page.context().close();
}

async function liveRun() {
  const place = path.join(work, 'live');
  fs.mkdirSync(place);
  make(place, 'many', '112');  // the last 100 are queued
  let server = await serve(path.join(place, 'run'));
  const port = new URL(server.url).port;
  const page = await open(server.url);
  await go(page, '#/run/1/trials');
  const ended = () => page.evaluate(() => window.voxnasGrid?.rows.filter((r) => ['done', 'failed'].includes(r.status)).length ?? 0);
  expect(await ended() === 12, 'twelve have ended', await ended());
  const writer = spawn(makeRuns, [place, 'live'], { stdio: ['ignore', 'pipe', 'inherit'] });
  servers.add(writer);
  let lines = 0, worst = 0;
  const times = [];
  writer.stdout.on('data', (data) => { for (const c of String(data)) if (c === '\n') { lines++; times.push(Date.now()); } });
  for (let i = 0; i < 8; i++) {
    if (!(await until(() => lines > i, 5))) break;
    const want = 12 + i + 1;
    await until(async () => (await ended()) >= want, 4);
    worst = Math.max(worst, Date.now() - times[i]);
  }
  expect(lines >= 8 && worst < within(1000), 'each ended trial is in the table within a second', worst);
  server.stop();
  page.strict = false;  // the server is gone on purpose
  await sleep(1200);
  server = await serve(path.join(place, 'run'), '--port', port);
  const enough = 12 + lines;
  expect(await until(async () => (await ended()) >= enough, 15), 'after a restart of the server nothing is missing', [await ended(), enough]);
  writer.kill();
  servers.delete(writer);
  await page.context().close();
  server.stop();
}

async function manyTrials() {
  const place = path.join(work, 'many');
  fs.mkdirSync(place);
  make(place, 'many', '10000');
  const server = await serve(path.join(place, 'run'));
  const page = await open(server.url);
  const size = await page.evaluate(() => fetch('/api/runs/1/trials').then((r) => r.text()).then((t) => t.length));
  const transfer = await page.evaluate(() => performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/trials')).map((e) => e.encodedBodySize)[0]);
  await go(page, '#/run/1/trials');
  const figures = await page.evaluate(async () => {
    const grid = window.voxnasGrid, frame = () => new Promise((r) => requestAnimationFrame(() => r()));
    let rows = 0;
    for (let y = 0; y < 260000; y += 6500) { grid.body.scrollTop = y; await frame(); rows = Math.max(rows, document.querySelectorAll('.vrow').length); }
    const began = performance.now();
    grid.sort = { name: 'score', down: true };
    grid.refresh();
    return { rows, sort: performance.now() - began, first: grid.shown[0].score, shown: grid.shown.length };
  });
  await page.screenshot({ path: path.join(work, 'many.png') });
  await go(page, '#/run/1/overview');
  const redraw = await page.evaluate(() => Number(document.querySelector('[data-milliseconds]').dataset.milliseconds));
  const memory = Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${server.process.pid}/status`, 'utf8'))[1]) / 1024;
  const all = { size, transfer, ...figures, redraw, memory };
  console.log('10,000 trials:', JSON.stringify(all));
  expect(figures.shown === 10000, 'all are there', figures);
  expect(figures.rows > 5 && figures.rows < 60, 'few rows exist', figures);
  expect(figures.sort < within(100), 'sorted within 100 ms', figures);
  expect(redraw < within(30), 'redrawn within 30 ms', redraw);
  expect(memory < 150, 'server below 150 MB', memory);
  expect(size < 2.6e6 && transfer < 700e3, 'the table as JSON', [size, transfer]);
  await page.context().close();
  server.stop();
}

async function actions() {
  const place = path.join(work, 'acted');
  fs.mkdirSync(place);
  make(place, 'many', '103');
  const server = await serve(path.join(place, 'run'), '--actions');
  const page = await open(server.url);
  expect(!(await page.evaluate(() => location.href)).includes('#t='), 'the token leaves the address');
  await go(page, '#/run/1/trials/50');
  const button = page.getByRole('button', { name: 'Skip' });
  await button.focus();
  await page.keyboard.press('Enter');
  expect(await until(() => page.evaluate(() => document.querySelector('main').innerText.includes('will not be begun'))), 'skip by keyboard says what it did', await page.evaluate(() => document.querySelector('main').innerText.slice(0, 400)));
  await go(page, '#/run/1/overview');
  expect(await until(() => page.evaluate(() => document.querySelector('main').innerText.includes('skip by dashboard'))), 'and stands in the events');
  await page.context().close();
  server.stop();
}

try {
  const server = await everyPage();
  await volumes(server);
  server.stop();
  await liveRun();
  await manyTrials();
  await actions();
} catch (error) {
  failures++;
  console.log(error.stack);
}
await browser.close();
for (const one of servers) one.kill('SIGKILL');
console.log(`${checks} checks, ${failures} failed; pictures in ${work}`);
process.exit(failures ? 1 : 0);
