// The same test image across methods, with ground truth and errors.

function picture(shot, source, alt, flat) {
  return el('img', { src: source, alt, width: shot.width, height: shot.height, decoding: 'async', class: flat ? 'flat' : null });
}

function drawGallery() {
  const select = byId('shot-benchmark');
  if (!select) return;
  const here = data.shots.filter((shot) => shot.predictions.some((one) => one.group === choice.group));
  fill(select, [...new Set(here.map((shot) => shot.benchmark))].map((name) => [name, name]));
  const errors = document.querySelector('input[name="shot-view"]:checked').value === 'error';
  const shown = here.filter((shot) => shot.benchmark === select.value);
  if (!shown.length) {
    byId('shots').replaceChildren(el('p', { class: 'note' }, 'No images for this group.'));
    return;
  }
  const scores = new Map(pointsOf(choice.group, data.benchmarks.indexOf(select.value)).map((point) => [point.method, point.miou]));
  byId('shots').replaceChildren(...shown.map((shot) => {
    const given = [['Image', shot.photo, false], ['Ground truth', shot.truth, true]].map(([name, source, flat]) =>
      el('figure', { class: 'given' }, el('span', { class: 'stack' }, picture(shot, source, `${name} of ${shot.image}`, flat)),
        el('figcaption', {}, el('span', {}, name))));
    const made = shot.predictions.filter((one) => one.group === choice.group)
      .sort((a, b) => (scores.get(b.method) ?? -1) - (scores.get(a.method) ?? -1)).map((one) => {
        const name = data.methods[one.method].name;
        const stack = errors
          ? el('span', { class: 'stack dim' }, picture(shot, shot.photo, '', false),
            el('img', { class: 'over', src: one.error, alt: `Errors of ${name}` }))
          : el('span', { class: 'stack' }, picture(shot, one.prediction, `Prediction of ${name}`, true));
        return el('figure', {}, stack, el('figcaption', {}, el('span', { title: name }, name),
          el('span', { class: 'n', title: 'mIoU of this image' }, human(one.miou, 'points'))));
      });
    const key = shot.classes.map(([name, colour]) => {
      const patch = el('i');
      patch.style.background = colour;
      return el('li', {}, patch, name);
    });
    return el('article', { class: 'shot' },
      el('h3', {}, shot.image, el('span', {}, `methods disagree on ${(100 * shot.disagreement).toFixed(1)} % of the labelled pixels`)),
      el('div', { class: 'strip' }, ...given, ...made), el('ul', { class: 'key' }, ...key));
  }));
}

byId('shot-benchmark')?.addEventListener('change', drawGallery);
document.querySelectorAll('input[name="shot-view"]').forEach((box) => box.addEventListener('change', drawGallery));
painters.push(drawGallery);
