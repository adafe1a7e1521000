// SPDX-License-Identifier: Apache-2.0
import { blob, get } from './store.js';
import { check, el, fixed, h1, h2, note, select, table } from './ui.js';

const base = new URL('.', import.meta.url).href;
let library = null;
/** NiiVue is large: it comes when the first volume is looked at. */
function niivue() {
  library ||= new Promise((resolve, reject) => {
    const script = el('script', { src: base + 'niivue.js', onload: () => resolve(/** @type {any} */ (window).niivue), onerror: () => reject(new Error('the viewer could not be loaded')) });
    document.head.append(script);
  });
  return library;
}
const hasWebGl = (() => { let found = null; return () => (found ??= Boolean(document.createElement('canvas').getContext('webgl2'))); })();

// Okabe and Ito, as in the reports.
const CLASSES = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]];
const ERRORS = [[220, 30, 30], [40, 90, 255], [255, 150, 0]];
const colormap = (colors, names) => ({ R: [0, ...colors.map((c) => c[0])], G: [0, ...colors.map((c) => c[1])], B: [0, ...colors.map((c) => c[2])], A: [0, ...colors.map(() => 255)], I: [0, ...colors.map((_, i) => i + 1)], labels: ['', ...names] });
const css = (c) => `rgb(${c.join(',')})`;
const kSlowVoxels = 1e6, volume = (v) => v.hdr.dims[1] * v.hdr.dims[2] * v.hdr.dims[3];
const WINDOWS = { 'CT brain': [0, 80], 'CT soft tissue': [-160, 240], 'CT lung': [-1350, 150], 'CT bone': [-450, 1050] };

export async function casesPage(box, { run }) {
  const page = await get(`runs/${run}/cases`);
  box.append(h1('Cases and volumes'));
  if (page.problem) box.append(note(`Images cannot be shown: ${page.problem}`));
  if (!page.cases.length) return void box.append(note('Cases appear when a final training has been scored.'));
  const layers = page.layers.map((l) => l.label), names = (page.labels || []).slice(1), channels = page.channels?.length ? page.channels : ['image'];
  const s = { id: page.cases[0].id, channel: 0, a: page.delivered || layers[0], b: '', reference: true, error: true, opacity: 0.5, window: 'percentiles', view: 'planes', radiological: true, errors: [], at: -1, loading: 0 };
  const list = el('div', { class: 'case-list', tabindex: 0, role: 'region', 'aria-label': 'Cases, worst first' }), controls = el('div', { class: 'bar' }), said = el('p', { class: 'note', role: 'status' });
  const canvasBox = el('div', { class: 'canvas-box' }), scores = el('div', {}), legend = el('p', { class: 'note' });
  box.append(el('div', { class: 'viewer' }, el('section', {}, list), el('section', {}, controls, canvasBox, legend, said, scores)));
  let nv = null, api = null, slow = '', left = false, range = [0, 1];

  const drawList = () => list.replaceChildren(...[table(['case', ...layers.map((l) => 'n:' + l)], page.cases.map((c) => [
    el('button', { text: c.id, 'aria-pressed': String(c.id === s.id), onclick: () => choose(c.id) }), ...layers.map((l) => fixed(c.scores?.[l]))]), page.cases.map((c) => (c.id === s.id ? 'differs' : '')))]);
  const drawScores = () => {
    const c = page.cases.find((one) => one.id === s.id);
    const rows = [];
    for (const l of layers) for (const k of c.classes?.[l] || []) rows.push([l, k.label, fixed(k.dice), fixed(k.hd95_mm, 2), fixed(k.nsd), String(k.predicted_voxels ?? '–'), String(k.reference_voxels ?? '–')]);
    scores.replaceChildren(h2(s.id), table(['of', 'class', 'n:Dice', 'n:HD95 mm', 'n:NSD', 'n:voxels', 'n:reference'], rows));
  };
  const button = (text, onclick, title) => el('button', { text, onclick, title });
  const drawControls = () => {
    const there = (l) => page.cases.find((c) => c.id === s.id)?.files?.[l];
    const predictions = layers.map((l) => [l, there(l) ? l : `${l} (not kept)`]);
    controls.replaceChildren(select('Image channel', channels.map((c, i) => [i, c]), s.channel, (v) => { s.channel = Number(v); show(); }),
      select('Prediction A', [['', 'no prediction A'], ...predictions.map(([v, t]) => [v, 'A: ' + t])], s.a, (v) => { s.a = v; show(); }),
      select('Prediction B', [['', 'no prediction B'], ...predictions.map(([v, t]) => [v, 'B: ' + t])], s.b, (v) => { s.b = v; show(); }),
      check('reference', s.reference, (on) => { s.reference = on; apply(); }), check('errors of A', s.error, (on) => { s.error = on; apply(); }),
      select('View', [['planes', 'planes and 3D'], ['three planes', 'three planes'], ['axial', 'axial'], ['coronal', 'coronal'], ['sagittal', 'sagittal'], ['3D', '3D']], s.view, (v) => { s.view = v; apply(); }),
      select('Window', ['percentiles', 'whole range', ...Object.keys(WINDOWS)], s.window, (v) => { s.window = v; apply(); }),
      el('label', {}, 'opacity ', el('input', { type: 'range', min: 0, max: 1, step: 0.05, value: s.opacity, oninput: (e) => { s.opacity = Number(e.target.value); apply(); } })),
      check('left is right', s.radiological, (on) => { s.radiological = on; apply(); }),
      button('◂ error', () => jump(-1), 'previous error (p)'), button('error ▸', () => jump(1), 'next error (n)'), button('Channels', montage, 'all channels side by side'),
      button('Picture', () => { if (nv) nv.saveScene(`${s.id}.png`); }, 'save what is seen as PNG'));
  };
  const drawLegend = () => {
    const swatch = (color, text) => { const mark = el('span', { class: 'swatch' }); mark.style.background = css(color); return [mark, text]; };
    legend.replaceChildren(...names.flatMap((n, i) => swatch(CLASSES[i % 7], n)), ' | errors of A:', ...swatch(ERRORS[0], 'missed'), ...swatch(ERRORS[1], 'extra'), ...swatch(ERRORS[2], 'other class'));
  };
  const path = (layer) => `runs/${run}/cases/${encodeURIComponent(s.id)}/volume/${layer}.nii.gz`;
  const classMap = () => colormap((names.length ? names : ['label']).map((_, i) => CLASSES[i % 7]), names.length ? names : ['label']);

  /** Volumes of the scene in order: the image, then what lies over it. */
  function wanted() {
    const all = [{ layer: `image-${s.channel}`, kind: 'image' }, { layer: 'reference', kind: 'reference' }];
    const c = page.cases.find((one) => one.id === s.id);
    for (const [key, label] of [['a', s.a], ['b', s.b]]) if (label && c?.files?.[label]) all.push({ layer: `prediction-${label}`, kind: key });
    if (s.a && c?.files?.[s.a]) all.push({ layer: `error-${s.a}`, kind: 'error' });
    return all;
  }
  let order = [];
  async function show() {
    drawControls(); drawScores(); drawList(); drawLegend();
    if (page.problem) return;
    if (!page.cases.find((c) => c.id === s.id).image) return void (said.textContent = `${s.id} is not in the data set as it lies there now.`);
    const turn = ++s.loading;
    if (!hasWebGl()) return slices();
    said.textContent = 'loading …';
    const began = performance.now();
    try {
      api = await niivue();
      if (!nv) {
        const canvas = el('canvas', { 'aria-label': 'Volume viewer' });
        canvasBox.replaceChildren(canvas);
        nv = new api.Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, loadingText: '', isColorbar: false, crosshairWidth: 0.5, logLevel: 'silent' });
        await nv.attachToCanvas(canvas);
        const info = nv.gl.getExtension('WEBGL_debug_renderer_info');
        const name = info ? String(nv.gl.getParameter(info.UNMASKED_RENDERER_WEBGL)) : '';
        slow = /swiftshader|llvmpipe|software/i.test(name) ? name : '';
        window.voxnasViewer = nv;  // for the tests
      }
      const layers_ = wanted(), notes = new Set();
      const images = await Promise.all(layers_.map(async (l) => {
        const answer = await blob(path(l.layer));
        if (answer.headers.get('X-VoxNAS-Note')) notes.add(`${l.layer}: ${answer.headers.get('X-VoxNAS-Note')}`);
        return api.NVImage.loadFromUrl({ url: await answer.arrayBuffer(), name: `${l.layer}.nii.gz`, colormap: 'gray', opacity: 1 });
      }));
      if (turn !== s.loading || left) return;
      // All at once: each of addVolume and removeVolume draws the scene again.
      nv.volumes = images; nv.back = images[0]; nv.overlays = images.slice(1);
      order = layers_.map((l) => l.kind);
      range = [nv.volumes[0].cal_min, nv.volumes[0].cal_max];
      apply();
      const found = s.a && order.includes('error') ? await get(`runs/${run}/cases/${encodeURIComponent(s.id)}/errors?of=${s.a}`) : { parts: [], count: 0, note: '' };
      if (turn !== s.loading || left) return;
      s.errors = found.parts; s.at = -1;
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      said.textContent = `${found.count} connected errors of A${found.parts.length ? `, the largest of ${found.parts[0].voxels} voxels` : ''}. ${[...notes].join('; ')} Loaded in ${seconds} s.${slow && s.view === 'planes' && volume(nv.volumes[0]) >= kSlowVoxels ? ' Without a graphics card a volume of this size is drawn in 3D on demand only (view 3D).' : ''}`;
      document.body.dataset.volume = `${s.id} ${order.join(' ')}`;
    } catch (error) {
      if (turn === s.loading) said.textContent = error.message;
    }
  }
  function apply() {
    if (!nv || !nv.volumes.length) return slices();
    const type = api.SLICE_TYPE, threeD = s.view === 'planes' ? slow === '' || volume(nv.volumes[0]) < kSlowVoxels : false;
    Object.assign(nv.opts, { sliceType: { planes: type.MULTIPLANAR, 'three planes': type.MULTIPLANAR, axial: type.AXIAL, coronal: type.CORONAL, sagittal: type.SAGITTAL, '3D': type.RENDER }[s.view],
      multiplanarShowRender: threeD ? api.SHOW_RENDER.ALWAYS : api.SHOW_RENDER.NEVER, isRadiologicalConvention: s.radiological });
    const image = nv.volumes[0], w = WINDOWS[s.window];
    [image.cal_min, image.cal_max] = w || (s.window === 'percentiles' ? range : [image.global_min, image.global_max]);
    order.forEach((kind, i) => {
      if (!i) return;
      const v = nv.volumes[i];
      v.setColormapLabel(kind === 'error' ? colormap(ERRORS, ['missed', 'extra', 'other class']) : classMap());
      const on = kind === 'error' ? s.error : kind === 'reference' ? s.reference && !s.error : !s.error && !(kind === 'a' && s.reference && !s.b);
      v.opacity = on ? (kind === 'error' ? Math.max(s.opacity, 0.85) : s.opacity) : 0;
    });
    nv.updateGLVolume();
  }
  function jump(step) {
    if (!s.errors.length) return void (said.textContent = 'There is no error to go to.');
    s.at = (s.at + step + s.errors.length) % s.errors.length;
    const e = s.errors[s.at];
    if (nv) { nv.scene.crosshairPos = nv.mm2frac(e.mm); nv.drawScene(); nv.createOnLocationChange?.(); }
    said.textContent = `Error ${s.at + 1} of ${s.errors.length}: ${e.kind}, ${e.voxels} voxels, at voxel ${e.at.join(', ')}.`;
  }
  /** Where there is no WebGL 2: slices as pictures of the server. */
  async function slices() {
    if (hasWebGl()) return;
    said.textContent = 'This browser has no WebGL 2: the fullest slices as pictures.';
    await pictures([0, 1, 2].map((axis) => [`of=${s.a}&channel=${s.channel}&axis=${axis}`, ['axial', 'coronal', 'sagittal'][axis]]), canvasBox);
  }
  async function pictures(all, into) {
    const made = await Promise.all(all.map(async ([query, alt]) => {
      const bytes = new Uint8Array(await (await blob(`runs/${run}/cases/${encodeURIComponent(s.id)}/slice.png?${query}`)).arrayBuffer());
      let text = '';
      for (const b of bytes) text += String.fromCharCode(b);
      return el('img', { alt: `${s.id}, ${alt}`, src: 'data:image/png;base64,' + btoa(text) });
    })).catch((error) => [note(error.message)]);
    into.replaceChildren(el('div', { class: 'slices' }, made));
  }
  async function montage() {
    const c = page.cases.find((one) => one.id === s.id), of = c?.files?.[s.a] ? s.a : '';
    const holder = el('div', {});
    scores.prepend(h2('All channels'), holder);
    await pictures(channels.flatMap((name, k) => [0, 1, 2].map((axis) => [`of=${of}&channel=${k}&axis=${axis}`, `${name}, axis ${axis}`])), holder);
  }
  function choose(id) { s.id = id; return show(); }
  const key = (e) => {
    if (e.target instanceof HTMLElement && ['INPUT', 'SELECT', 'TEXTAREA'].includes(e.target.tagName)) return;
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const i = page.cases.findIndex((c) => c.id === s.id), views = ['planes', 'axial', 'coronal', 'sagittal'];
    if (e.key === 'n') jump(1);
    else if (e.key === 'p') jump(-1);
    else if (e.key === ']' && page.cases[i + 1]) choose(page.cases[i + 1].id);
    else if (e.key === '[' && page.cases[i - 1]) choose(page.cases[i - 1].id);
    else if (e.key === 'e') { s.error = !s.error; drawControls(); apply(); } else if (views[Number(e.key) - 1]) { s.view = views[Number(e.key) - 1]; drawControls(); apply(); }
  };
  addEventListener('keydown', key);
  show();
  return { leave: () => {
    left = true;
    removeEventListener('keydown', key);
    delete document.body.dataset.volume;
    // Textures stay in the graphics memory until the context goes.
    if (nv) { nv.gl?.getExtension('WEBGL_lose_context')?.loseContext(); }
    delete window.voxnasViewer;
  } };
}
