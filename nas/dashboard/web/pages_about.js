// SPDX-License-Identifier: Apache-2.0
import { get } from './store.js';
import { el, h1, h2, link, table } from './ui.js';

export async function aboutPage(box) {
  const about = await get('about');
  box.append(h1('About'), el('p', { text: `VoxNAS ${about.version}, looking at ${about.place}. ${about.actions ? 'Actions are allowed with the token.' : 'Only looking: --actions was not given.'}` }),
    h2('Keys'), table(['key', 'where', 'what'], [['Tab, Shift+Tab', 'everywhere', 'the next, the previous control'], ['arrows, Page Up/Down, Home, End', 'trials', 'move'], ['Enter', 'trials', 'open the trial'],
      ['[ and ]', 'volumes', 'the previous, the next case'], ['n and p', 'volumes', 'the next, the previous error, by size'], ['1 2 3 4', 'volumes', 'planes and 3D, axial, coronal, sagittal'], ['e', 'volumes', 'errors on or off']]),
    h2('In this program'), table(['what', 'version', 'licence'], [['uPlot, © Leon Sorokin', '1.6.32', 'MIT'], ['NiiVue, © NiiVue contributors', '0.69.0', 'BSD 2-Clause'], ['  with gl-matrix, fflate, nifti-reader-js, array-equal, uzip-module, @ungap/structured-clone, zarrita', '', 'MIT, ISC'], ['cpp-httplib, © Yuji Hirose', 'of the system', 'MIT']]),
    el('p', {}, link('#/', 'All runs')));
  for (const name of ['uplot', 'niivue']) {
    const answer = await fetch(new URL(`licence_${name}.txt`, import.meta.url));
    if (answer.ok) box.append(el('details', {}, el('summary', { text: `Licence of ${name}` }), el('pre', { tabindex: 0, text: await answer.text() })));
  }
}
