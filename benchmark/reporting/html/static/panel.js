// The panel of a method: its numbers, its runs, and the commands that repeat them.

const panel = byId('panel');
const MOST_RUNS = 60;

function commandLine(text) {
  return el('div', { class: 'command' }, el('code', {}, text),
    el('button', { type: 'button', class: 'copy', 'data-copy': text }, 'Copy'));
}

function runTable(label, heads, lines) {
  const head = el('tr', {}, ...heads.map((text) => el('th', { scope: 'col', title: data.terms[text] }, text)));
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label }, el('table', {},
    el('thead', {}, head), el('tbody', {}, ...lines.map((cells) => el('tr', {}, ...cells)))));
}

function openPanel(group, scope, method) {
  const point = points.find((one) => one.group === group && one.scope === scope && one.method === method);
  const runs = allRuns.filter((run) => run.group === group && run.method === method
    && (scope === AVERAGE || (scope === SHARED ? data.groups[group].shared.includes(run.benchmark)
      : run.benchmark === scope)));
  byId('panel-title').replaceChildren(mark(method), ` ${data.methods[method].name}`);
  const facts = [];
  let timed = false;
  if (point) {
    facts.push(['mIoU', scoreText(point)], ['Seeds', human(point.seeds, 'integer')]);
    for (const cost of data.costs) {
      if (point[cost.column] === null) continue;
      timed ||= isTime(cost);
      facts.push([cost.label, human(point[cost.column], cost.kind)]);
    }
  }
  const shown = runs.slice(0, MOST_RUNS);
  const has = (field) => runs.some((run) => run[field.column] !== null);
  const fields = data.fields.filter((field) => !field.time && has(field));
  const times = data.fields.filter((field) => field.time && has(field));
  const which = ['Benchmark', 'Seed', 'Run'];
  const lead = (run) => [el('td', {}, data.benchmarks[run.benchmark]), el('td', { class: 'n' }, String(run.seed)),
    el('td', {}, el('code', {}, run.run_id))];
  const numbers = (run, own) => own.map((field) => el('td', { class: 'n' }, human(run[field.column], field.kind)));
  const scores = runTable('Runs', [...which, 'Status', ...fields.map((field) => field.label)],
    shown.map((run) => [...lead(run), el('td', {}, run.status), ...numbers(run, fields)]));
  const done = shown.filter((run) => times.some((field) => run[field.column] !== null));
  const took = runTable('Times of single runs', [...which, 'Machine', 'Threads', ...times.map((field) => field.label)],
    done.map((run) => [...lead(run), el('td', { class: 'whole' }, run['provenance.device'] ?? MISSING),
      el('td', { class: 'n' }, human(run['provenance.threads'], 'integer')), ...numbers(run, times)]));
  const repeats = shown.map((run) => el('div', {},
    el('p', {}, `${data.benchmarks[run.benchmark]}, seed ${run.seed}${run.reason ? `: ${run.reason}` : ''}`),
    commandLine(`python -m benchmark reproduce ${run.run_id}`),
    run.command ? commandLine(run.command) : null));
  byId('panel-body').replaceChildren(
    el('p', { class: 'of' }, `${data.groups[group].label}, ${scopeName(scope, group)}`),
    el('dl', { class: 'facts' }, ...facts.map(([name, text]) => el('div', {}, el('dt', {}, name), el('dd', {}, text)))),
    timed ? el('p', { class: 'note' }, ...worded(data.groups[group].timing)) : '',
    el('h3', {}, runs.length > MOST_RUNS ? `The first ${MOST_RUNS} of ${runs.length} runs` : 'Runs'),
    scores,
    ...(done.length ? [el('h3', {}, 'Times of single runs'), el('p', { class: 'note' },
      `What each run took, whatever else the machine did, and with its own number of threads. Do not compare them between methods${timed ? ': the leaderboard has times that were measured in turns' : ''}.`), took] : []),
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
