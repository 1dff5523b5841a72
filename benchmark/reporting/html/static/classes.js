// IoU of every class, methods side by side.

function drawClasses() {
  const select = byId('class-benchmark');
  if (!select) return;
  const own = data.classes.filter((one) => one.group === choice.group);
  fill(select, own.map((one) => [one.benchmark, data.benchmarks[one.benchmark]]));
  const shown = own.find((one) => String(one.benchmark) === select.value);
  const table = byId('class-table');
  if (!shown) {
    table.replaceChildren();
    return;
  }
  const lines = shown.names.map((name, column) => {
    const scores = shown.iou.map((row) => row[column]);
    const known = scores.filter((score) => score !== null);
    return { name, scores, best: Math.max(...known), spread: Math.max(...known) - Math.min(...known),
      mean: known.reduce((sum, score) => sum + score, 0) / known.length };
  });
  const order = byId('class-order').value;
  if (order === 'spread') lines.sort((a, b) => b.spread - a.spread);
  if (order === 'hard') lines.sort((a, b) => a.mean - b.mean);
  const head = el('tr', {}, el('th', { scope: 'col' }, 'Class'), ...shown.methods.map((method) =>
    el('th', { scope: 'col' }, el('div', { class: 'turned', title: data.methods[method].name }, data.methods[method].name))));
  table.replaceChildren(el('thead', {}, head), el('tbody', {}, ...lines.map((line) => el('tr', {},
    el('th', { scope: 'row', title: line.name }, line.name),
    ...line.scores.map((score) => {
      const best = shown.methods.length > 1 && human(score, 'points') === human(line.best, 'points');
      return el('td', { class: score === null ? 'none' : best ? 'heat top' : 'heat',
        style: `--share: ${score ?? 0}` }, human(score, 'points'));
    })))));
}

byId('class-benchmark')?.addEventListener('change', drawClasses);
byId('class-order')?.addEventListener('change', drawClasses);
painters.push(drawClasses);
