// SPDX-License-Identifier: Apache-2.0
// Elements, numbers and words. Text of the data goes into the page as text only.

/** @param {string} tag @param {any} [attributes] @param {any[]} children */
export function el(tag, attributes, ...children) {
  const svg = ['svg', 'g', 'path', 'circle', 'line', 'text', 'rect', 'polyline', 'title'].includes(tag) && tag !== 'title';
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'text') node.textContent = value;
    else if (name === 'value') node.value = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

export const isNumber = (v) => typeof v === 'number' && Number.isFinite(v);
export const fixed = (v, digits = 4) => (isNumber(v) ? v.toFixed(digits) : '–');
export const signed = (v, digits = 4) => (isNumber(v) ? (v > 0 ? '+' : '') + v.toFixed(digits) : '–');
export function count(v) {
  if (!isNumber(v)) return '–';
  for (const [size, letter] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (Math.abs(v) >= size) return `${Number((v / size).toPrecision(3))} ${letter}`;
  }
  return String(Number(v.toPrecision(6)));
}
export const bytes = (v) => (isNumber(v) ? count(v) + 'B' : '–');
export function duration(s) {
  if (!isNumber(s) || s < 0) return '–';
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`;
}
export const date = (unix) => (unix > 0 ? new Date(unix * 1000).toLocaleString() : '');
export const status = (text) => el('span', { class: 's-' + text, text });
export const plain = (v) => (v === null || v === undefined ? '–' : typeof v === 'object' ? JSON.stringify(v) : String(v));

/** Any value in words: {"steps": [22], "name": "a"} as "steps: 22, name: a". */
export function words(v) {
  if (v === null || v === undefined || v === '') return '–';
  if (Array.isArray(v)) return v.map(words).join('; ');
  if (typeof v === 'object') return Object.entries(v).map(([k, w]) => `${k.replaceAll('_', ' ')}: ${words(w)}`).join(', ');
  return isNumber(v) && Math.abs(v) >= 1e5 ? count(v) : String(v);
}

/** head: ["name", "n:number"]; rows of nodes or texts. "n:" is a column of numbers. */
export function table(head, rows, classes = []) {
  const numbers = head.map((h) => h.startsWith('n:'));
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'table' }, el('table', {},
    el('thead', {}, el('tr', {}, head.map((h, i) => el('th', { class: numbers[i] && 'n', scope: 'col', text: h.replace(/^n:/, '') })))),
    el('tbody', {}, rows.map((row, r) => el('tr', { class: classes[r] || undefined }, row.map((cell, i) => {
      const td = el('td', { class: numbers[i] && 'n' });
      td.append(cell instanceof Node ? cell : plain(cell));
      return td;
    }))))));
}
export const tile = (value, what) => el('div', {}, el('b', { text: value }), el('span', { text: what }));
export const note = (text) => el('p', { class: 'note', text });
export const h1 = (text) => el('h1', { text });
export const h2 = (text) => el('h2', { text });
export const link = (href, text) => el('a', { href, text });
export function select(label, options, value, onchange) {
  const box = el('select', { 'aria-label': label, onchange: () => onchange(box.value) },
    options.map((o) => { const [v, t] = Array.isArray(o) ? o : [o, o]; return el('option', { value: v, text: t }); }));
  for (const option of box.options) option.selected = option.value === String(value);
  return box;
}
export function check(label, value, onchange) {
  const box = el('input', { type: 'checkbox', onchange: () => onchange(box.checked) });
  box.checked = value;
  return el('label', {}, box, ' ' + label);
}
export const COLORS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8c6d31'];
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
