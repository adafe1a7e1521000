// SPDX-License-Identifier: Apache-2.0
// Curves by uPlot, scatter plots and parallel coordinates on our own canvas or as SVG.
import { COLORS, count, css, el } from './ui.js';

const whole = ['trial', 'number', 'step', 'steps'];

/** A uPlot that follows the width of its box. series: [{label, color, width, points, dash}] */
export function curve(xLabel, yLabel, data, series, { height = 240, step = false, onpick = null } = {}) {
  const box = el('div', { class: 'plot', role: 'img', 'aria-label': `${yLabel} against ${xLabel}` });
  const uPlot = /** @type {any} */ (window).uPlot;
  const axis = (label) => ({ label, stroke: css('--soft'), grid: { stroke: css('--line'), width: 1 }, ticks: { stroke: css('--line') },
    size: label === yLabel ? 62 : 46, values: (_, values) => values.map((v) => (Math.abs(v) >= 1e4 ? count(v) : String(Number(v.toPrecision(6))))) });
  const options = {
    width: 600, height, legend: { show: series.length > 1, live: false }, scales: { x: { time: false } }, axes: [whole.includes(xLabel) ? { ...axis(xLabel), incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 1e5, 1e6] } : axis(xLabel), axis(yLabel)],
    cursor: { drag: { x: true, y: true } },
    series: [{ label: xLabel }, ...series.map((s, i) => ({
      label: s.label, stroke: s.color || COLORS[i % COLORS.length], width: s.width ?? 1.5, dash: s.dash, spanGaps: true,
      points: { show: s.points ?? false, size: 5, fill: s.color || COLORS[i % COLORS.length] }, paths: s.width === 0 ? () => null : step && s.step !== false ? uPlot.paths.stepped({ align: 1 }) : undefined,
    }))],
  };
  const plot = new uPlot(options, data, box);
  if (onpick) plot.over.addEventListener('click', () => { if (plot.cursor.idx !== null) onpick(plot.cursor.idx); });
  new ResizeObserver(() => { const w = Math.floor(box.clientWidth); if (w > 50 && w !== plot.width) plot.setSize({ width: w, height }); }).observe(box);
  box.plot = plot;
  return box;
}

const nice = (low, high, n = 5) => {
  const raw = (high - low) / n || 1, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * size).find((s) => s >= raw) || raw;
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) ticks.push(t);
  return ticks;
};

/** points: [{x, y, color, id, label}]; lines: [{points: [[x, y]], color}]; over 2,000 points on a canvas. */
export function scatter(xLabel, yLabel, points, { lines = [], onpick = null, limits = [] } = {}) {
  const W = 720, H = 330, L = 62, R = 12, T = 10, B = 42;
  if (!points.length) return el('p', { class: 'note', text: 'Nothing to show yet.' });
  const range = (key) => {
    let low = Infinity, high = -Infinity;
    for (const p of points) { low = Math.min(low, p[key]); high = Math.max(high, p[key]); }
    const pad = (high - low) * 0.05 || Math.abs(high) * 0.05 || 0.5;
    return [low - pad, high + pad];
  };
  const [x0, x1] = range('x'), [y0, y1] = range('y');
  const X = (v) => L + ((v - x0) / (x1 - x0)) * (W - L - R), Y = (v) => H - B - ((v - y0) / (y1 - y0)) * (H - T - B);
  const text = (v) => (Math.abs(v) >= 1e4 ? count(v) : String(Number(v.toPrecision(4))));
  const svg = el('svg', { class: 'chart', viewBox: `0 0 ${W} ${H}`, role: 'group', 'aria-label': `${yLabel} against ${xLabel}` });
  for (const t of nice(x0, x1)) svg.append(el('line', { class: 'axis', x1: X(t), x2: X(t), y1: T, y2: H - B }), el('text', { x: X(t), y: H - B + 14, 'text-anchor': 'middle', text: text(t) }));
  for (const t of nice(y0, y1)) svg.append(el('line', { class: 'axis', x1: L, x2: W - R, y1: Y(t), y2: Y(t) }), el('text', { x: L - 5, y: Y(t) + 4, 'text-anchor': 'end', text: text(t) }));
  svg.append(el('text', { x: (L + W - R) / 2, y: H - 6, 'text-anchor': 'middle', text: xLabel }),
    el('text', { x: 13, y: (T + H - B) / 2, 'text-anchor': 'middle', transform: `rotate(-90 13 ${(T + H - B) / 2})`, text: yLabel }));
  for (const limit of limits) if (limit > x0 && limit < x1) svg.append(el('line', { x1: X(limit), x2: X(limit), y1: T, y2: H - B, stroke: css('--red'), 'stroke-dasharray': '5 4' }));
  for (const line of lines) svg.append(el('polyline', { fill: 'none', stroke: line.color, 'stroke-width': 1.5, points: line.points.map(([x, y]) => `${X(x)},${Y(y)}`).join(' ') }));
  if (points.length <= 2000) {
    for (const p of points) {
      const dot = el('circle', { class: 'dot', cx: X(p.x), cy: Y(p.y), r: p.r || 4, fill: p.color || COLORS[0] });
      dot.append(Object.assign(document.createElementNS('http://www.w3.org/2000/svg', 'title'), { textContent: p.label || '' }));
      if (onpick) dot.addEventListener('click', () => onpick(p));
      svg.append(dot);
    }
    return svg;
  }
  const canvas = el('canvas', { width: W * 2, height: H * 2, 'aria-hidden': 'true', class: 'over' });
  const box = el('div', { class: 'plot' }, svg, canvas);
  canvas.style.cssText = 'position:absolute;inset:0;width:100%;height:100%';
  const context = canvas.getContext('2d');
  for (const p of points) { context.fillStyle = p.color || COLORS[0]; context.fillRect(X(p.x) * 2 - 3, Y(p.y) * 2 - 3, 6, 6); }
  if (onpick) {
    canvas.addEventListener('click', (event) => {
      const r = canvas.getBoundingClientRect(), mx = ((event.clientX - r.left) / r.width) * W, my = ((event.clientY - r.top) / r.height) * H;
      let best = null, least = 144;
      for (const p of points) { const d = (X(p.x) - mx) ** 2 + (Y(p.y) - my) ** 2; if (d < least) { least = d; best = p; } }
      if (best) onpick(best);
    });
  }
  return box;
}

/** axes: [{name, max, text(i)}]; rows: [{values: [0..1], score 0..1}]. Clicking an axis half brushes it. */
export function parallel(axes, rows) {
  const W = Math.max(560, axes.length * 92), H = 300, T = 40, B = 34;
  const canvas = el('canvas', { width: W * 2, height: H * 2, role: 'img', 'aria-label': 'Parallel coordinates of genes and score' });
  canvas.style.cssText = `width:${W}px;height:${H}px`;
  const brushes = new Map();
  const X = (i) => 46 + (i * (W - 92)) / Math.max(1, axes.length - 1), Y = (v) => H - B - v * (H - T - B);
  const draw = () => {
    const c = canvas.getContext('2d');
    c.setTransform(2, 0, 0, 2, 0, 0);
    c.clearRect(0, 0, W, H);
    const inside = (row) => [...brushes].every(([i, [low, high]]) => row.values[i] >= low && row.values[i] <= high);
    for (const row of [...rows].sort((a, b) => a.score - b.score)) {
      const ok = inside(row);
      c.strokeStyle = ok ? `hsl(${215 - row.score * 175} 85% ${css('color-scheme') && matchMedia('(prefers-color-scheme: dark)').matches ? 62 : 42}%)` : css('--line');
      c.globalAlpha = ok ? (rows.length > 500 ? 0.25 : 0.75) : 0.2;
      c.beginPath();
      row.values.forEach((v, i) => (i ? c.lineTo(X(i), Y(v)) : c.moveTo(X(i), Y(v))));
      c.stroke();
    }
    c.globalAlpha = 1;
    axes.forEach((a, i) => {
      c.strokeStyle = css('--soft'); c.fillStyle = css('--ink'); c.font = '11px system-ui'; c.textAlign = 'center';
      c.strokeRect(X(i), T, 0.5, H - T - B);
      c.fillText(a.name.length > 15 ? '…' + a.name.slice(-14) : a.name, X(i), i % 2 ? 14 : 28);
      c.fillStyle = css('--soft');
      c.fillText(a.text(1).slice(0, 12), X(i), T - 2 + (i % 2 ? 0 : 0)); c.fillText(a.text(0).slice(0, 12), X(i), H - B + 13);
      const b = brushes.get(i);
      if (b) { c.fillStyle = css('--blue'); c.globalAlpha = 0.35; c.fillRect(X(i) - 6, Y(b[1]), 12, Y(b[0]) - Y(b[1])); c.globalAlpha = 1; }
    });
  };
  let from = null;
  const at = (e) => { const r = canvas.getBoundingClientRect(); const x = e.clientX - r.left, y = e.clientY - r.top;
    let i = 0; axes.forEach((_, k) => { if (Math.abs(X(k) - x) < Math.abs(X(i) - x)) i = k; });
    return [i, Math.min(1, Math.max(0, (H - B - y) / (H - T - B)))]; };
  canvas.addEventListener('pointerdown', (e) => { from = at(e); });
  canvas.addEventListener('pointerup', (e) => { if (!from) return; const [, v] = at(e), [i, u] = from; from = null;
    if (Math.abs(u - v) < 0.02) brushes.delete(i); else brushes.set(i, [Math.min(u, v) - 0.001, Math.max(u, v) + 0.001]); draw(); });
  draw();
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Parallel coordinates; drag along an axis to select, click it to clear' }, canvas);
}
