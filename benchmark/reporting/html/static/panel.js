// The panel of a method: its numbers, its runs, and the commands that repeat them.

const panel = byId('panel');
const MOST_RUNS = 60;

function commandLine(text) {
  return el('div', { class: 'command' }, el('code', {}, text),
    el('button', { type: 'button', class: 'copy', 'data-copy': text }, 'Copy'));
}

function openPanel(group, scope, method) {
  const point = points.find((one) => one.group === group && one.scope === scope && one.method === method);
  const runs = allRuns.filter((run) => run.group === group && run.method === method
    && (scope === AVERAGE || (scope === SHARED ? data.groups[group].shared.includes(run.benchmark)
      : run.benchmark === scope)));
  byId('panel-title').replaceChildren(mark(method), ` ${data.methods[method].name}`);
  const facts = [];
  if (point) {
    facts.push(['mIoU', scoreText(point)], ['Seeds', human(point.seeds, 'integer')]);
    for (const cost of data.costs) {
      if (point[cost.column] !== null) facts.push([cost.label, human(point[cost.column], cost.kind)]);
    }
  }
  const fields = data.fields.filter((field) => runs.some((run) => run[field.column] !== null));
  const head = ['Benchmark', 'Seed', 'Run', 'Status', ...fields.map((field) => field.label)];
  const body = runs.slice(0, MOST_RUNS).map((run) => el('tr', {},
    el('td', {}, data.benchmarks[run.benchmark]), el('td', { class: 'n' }, String(run.seed)),
    el('td', {}, el('code', {}, run.run_id)), el('td', {}, run.status),
    ...fields.map((field) => el('td', { class: 'n' }, human(run[field.column], field.kind)))));
  const repeats = runs.slice(0, MOST_RUNS).map((run) => el('div', {},
    el('p', {}, `${data.benchmarks[run.benchmark]}, seed ${run.seed}${run.reason ? `: ${run.reason}` : ''}`),
    commandLine(`python -m benchmark reproduce ${run.run_id}`),
    run.command ? commandLine(run.command) : null));
  byId('panel-body').replaceChildren(
    el('p', { class: 'of' }, `${data.groups[group].label}, ${scopeName(scope, group)}`),
    el('dl', { class: 'facts' }, ...facts.map(([name, text]) => el('div', {}, el('dt', {}, name), el('dd', {}, text)))),
    el('h3', {}, runs.length > MOST_RUNS ? `The first ${MOST_RUNS} of ${runs.length} runs` : 'Runs'),
    el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Runs' }, el('table', {},
      el('thead', {}, el('tr', {}, ...head.map((text) => el('th', { scope: 'col' }, text)))), el('tbody', {}, ...body))),
    el('h3', {}, 'Commands that repeat them'),
    el('p', { class: 'note' }, 'The first command repeats the run and compares the result; the second made the run.'),
    el('div', { class: 'repeat' }, ...repeats));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
}

/** Copies by the clipboard, or by a selection where the browser forbids it to files. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = el('textarea', { readonly: true });
    box.value = text;
    (panel.open ? panel : document.body).append(box);
    box.select();
    document.execCommand('copy');
    box.remove();
  }
}

document.addEventListener('click', async ({ target }) => {
  const button = target instanceof Element && target.closest('.copy');
  if (!button) return;
  await copyText(button.dataset.copy);
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 1200);
});
byId('panel-close').addEventListener('click', () => panel.close());
panel.addEventListener('click', (event) => { if (event.target === panel) panel.close(); });
