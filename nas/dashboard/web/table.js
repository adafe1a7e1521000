// SPDX-License-Identifier: Apache-2.0
// A table of any length: only the rows that are seen exist. Sorted and filtered by what is typed.
import { el } from './ui.js';

/** "status:done score>0.8 stage:search word": all must hold. \returns a test of a row, or throws with what is wrong. */
export function parseFilter(text, columns) {
  const tests = text.trim().split(/\s+/).filter(Boolean).map((word) => {
    const found = /^([\w./-]+)(:|<=|>=|<|>|=)(.*)$/.exec(word);
    if (!found) {
      const low = word.toLowerCase();
      return (row) => columns.some((c) => String(c.value(row) ?? '').toLowerCase().includes(low));
    }
    const [, name, sign, value] = found;
    const column = columns.find((c) => c.name === name || c.title === name);
    if (!column) throw new Error(`there is no column "${name}"; known: ${columns.map((c) => c.name).join(' ')}`);
    if (sign === ':') return (row) => String(column.value(row) ?? '').toLowerCase().includes(value.toLowerCase());
    const number = Number(value);
    if (sign === '=' && (value === '' || Number.isNaN(number))) return (row) => String(column.value(row) ?? '') === value;
    if (value === '' || Number.isNaN(number)) throw new Error(`${word}: expected a number after ${sign}`);
    const compare = { '<': (v) => v < number, '>': (v) => v > number, '<=': (v) => v <= number, '>=': (v) => v >= number, '=': (v) => v === number }[sign];
    return (row) => { const v = column.value(row); return typeof v === 'number' && compare(v); };
  });
  return (row) => tests.every((test) => test(row));
}

const ROW = 26;

/** columns: [{name, title, width, number, value(row), show(row)}]. open(row) on click and Enter. */
export class VirtualTable {
  constructor(columns, { open, storage }) {
    this.all = columns; this.open = open; this.storage = storage; this.rows = []; this.shown = [];
    const kept = JSON.parse(localStorage.getItem(storage) || 'null');
    this.sort = kept?.sort || { name: 'id', down: true };
    this.hidden = new Set(kept?.hidden || columns.filter((c) => c.hidden).map((c) => c.name));
    this.filter = () => true; this.drawn = new Map(); this.focus = -1;
    this.head = el('div', { class: 'vhead', role: 'row' });
    this.space = el('div', { role: 'rowgroup' });
    this.space.style.position = 'relative';
    this.body = el('div', { class: 'vbody', tabindex: 0, role: 'grid', 'aria-label': 'Trials; arrows move, Enter opens',
      onscroll: () => this.draw(), onkeydown: (e) => this.key(e) }, this.head, this.space);
    this.node = this.body;
    new ResizeObserver(() => this.draw()).observe(this.body);
    this.drawHead();
  }
  get columns() { return this.all.filter((c) => !this.hidden.has(c.name)); }
  keep() { localStorage.setItem(this.storage, JSON.stringify({ sort: this.sort, hidden: [...this.hidden] })); }
  toggle(name, on) { if (on) this.hidden.delete(name); else this.hidden.add(name); this.keep(); this.drawHead(); this.clear(); this.draw(); }
  drawHead() {
    this.head.replaceChildren(...this.columns.map((c) => {
      const mark = this.sort.name === c.name ? (this.sort.down ? ' ▾' : ' ▴') : '';
      const b = el('button', { class: c.number ? 'n' : undefined, title: `Sort by ${c.title}`, text: c.title + mark,
        onclick: () => { this.sort = { name: c.name, down: this.sort.name === c.name ? !this.sort.down : Boolean(c.number) }; this.keep(); this.drawHead(); this.refresh(); } });
      b.style.width = `${c.width}px`;
      return el('div', { role: 'columnheader', 'aria-sort': this.sort.name !== c.name ? 'none' : this.sort.down ? 'descending' : 'ascending' }, b);
    }));
  }
  set(rows) { this.rows = rows; this.refresh(); }
  setFilter(test) { this.filter = test; this.refresh(); }
  refresh() {
    const column = this.all.find((c) => c.name === this.sort.name) || this.all[0], way = this.sort.down ? -1 : 1;
    // Keys once, not in every comparison; what has no value comes last either way.
    const keyed = [];
    for (const row of this.rows) if (this.filter(row)) keyed.push([column.value(row), row]);
    keyed.sort(([a, x], [b, y]) => {
      const none = (a === null || a === undefined || a === '') - (b === null || b === undefined || b === '');
      if (none) return none;
      const order = a < b ? -1 : a > b ? 1 : 0;
      return order ? order * way : x.id - y.id;
    });
    this.shown = keyed.map(([, row]) => row);
    this.space.style.height = `${this.shown.length * ROW}px`;
    this.clear();
    this.draw();
    this.onshown?.(this.shown.length);
  }
  clear() { for (const node of this.drawn.values()) node.remove(); this.drawn.clear(); }
  draw() {
    const top = Math.max(0, this.body.scrollTop - this.head.offsetHeight);
    const first = Math.max(0, Math.floor(top / ROW) - 4), last = Math.min(this.shown.length, Math.ceil((top + this.body.clientHeight) / ROW) + 4);
    for (const [i, node] of this.drawn) if (i < first || i >= last) { node.remove(); this.drawn.delete(i); }
    for (let i = first; i < last; i++) {
      if (this.drawn.has(i)) continue;
      const row = this.shown[i];
      const node = el('div', { class: 'vrow' + (i === this.focus ? ' picked' : ''), role: 'row', onclick: () => this.open(row) },
        this.columns.map((c) => {
          const cell = el('span', { class: c.number ? 'n' : undefined, role: 'gridcell' });
          cell.style.width = `${c.width}px`;
          const shown = c.show ? c.show(row) : c.value(row);
          cell.append(shown ?? '');
          return cell;
        }));
      node.style.top = `${i * ROW}px`;
      this.space.append(node);
      this.drawn.set(i, node);
    }
  }
  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -1e9, End: 1e9 }[event.key];
    if (event.key === 'Enter' && this.shown[this.focus] && event.target === this.body) return this.open(this.shown[this.focus]);
    if (!step || event.target !== this.body) return;
    event.preventDefault();
    this.focus = Math.max(0, Math.min(this.shown.length - 1, this.focus + step));
    const y = this.focus * ROW, view = this.body.clientHeight - this.head.offsetHeight - ROW;
    if (y < this.body.scrollTop) this.body.scrollTop = y;
    else if (y > this.body.scrollTop + view) this.body.scrollTop = y - view;
    this.clear();
    this.draw();
  }
}
