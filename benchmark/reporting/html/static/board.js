// The leaderboard: sorted by any column, filtered by text.

const MOST_BENCHMARKS = 8;
const boardOrder = { key: 'miou', down: true };

/** A point and its interval on the common scale of the table. */
function whisker(point, low, high) {
  if (point.miou === null) return MISSING;
  const at = (value) => 4 + 102 * (value - low) / Math.max(high - low, 1e-9);
  const parts = [el('line', { x1: 4, x2: 106, y1: 8, y2: 8, stroke: style('--line'), 'stroke-width': 1 })];
  if (point.low !== null) {
    parts.push(el('line', { x1: at(point.low), x2: at(point.high), y1: 8, y2: 8,
      stroke: colourOf(point.method), 'stroke-width': 2.5, 'stroke-linecap': 'round' }));
  }
  parts.push(el('circle', { cx: at(point.miou), cy: 8, r: 3.6, fill: colourOf(point.method) }));
  return el('svg', { class: 'whisker', viewBox: '0 0 110 16', role: 'img',
    'aria-label': scoreText(point) }, ...parts);
}

function drawBoard() {
  const everything = byId('all-groups').checked;
  const words = byId('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  const scope = choice.scope;
  const all = everything ? points.filter((point) => point.scope === scope).sort((a, b) => a.group - b.group)
    : pointsOf(choice.group, scope);
  const shown = all.filter((point) => {
    const text = `${data.methods[point.method].name} ${data.groups[point.group].label}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const scores = all.filter((point) => point.miou !== null)
    .flatMap((point) => [point.low ?? point.miou, point.high ?? point.miou]);
  const low = Math.min(...scores), high = Math.max(...scores);
  const number = (key, head, kind, first, best) => ({
    // Numbers of different groups do not compete.
    key, head, number: true, first, best: everything ? null : best, value: (row) => row[key],
    cell: (row) => human(row[key], kind), as: (value) => ({ [key]: value }),
  });
  const columns = [
    { key: 'rank', head: '#', term: 'rank', number: true, first: 'ascending', value: (row) => row.rank,
      class: 'whole',
      cell: (row) => (row.rank === null ? MISSING
        : row.rank === row.rank_to ? `${row.rank}` : `${row.rank}–${row.rank_to}`) },
    { key: 'method', head: 'Method', first: 'ascending', class: 'who',
      value: (row) => data.methods[row.method].name,
      cell: (row) => el('span', {}, mark(row.method), el('button', {
        type: 'button', class: 'name', title: data.methods[row.method].name,
        onclick: () => openPanel(row.group, scope, row.method),
      }, data.methods[row.method].name)) },
  ];
  if (everything) {
    columns.push({ key: 'group', head: 'Group', term: 'group', first: 'ascending', class: 'whole',
      value: (row) => data.groups[row.group].label, cell: (row) => data.groups[row.group].label });
  }
  const groups = everything ? data.groups : [data.groups[choice.group]];
  const alike = new Set(groups.map((one) => one.conditions).filter(Boolean)).size < 2;
  const more = byId('all-columns').checked;
  columns.push(number('miou', 'mIoU', 'points', 'descending', 'max'),
    { key: 'interval', head: '95 % interval', first: 'descending', value: (row) => row.low,
      cell: (row) => whisker(row, low, high) });
  for (const cost of data.costs) {
    if ((cost.main || more) && (alike || !isTime(cost))) {
      columns.push(number(cost.column, cost.short, cost.kind, 'ascending', 'min'));
    }
  }
  const own = everything ? [] : data.groups[choice.group].benchmarks;
  // Paper is narrow, and cannot be scrolled.
  if (!printing && scope < 0 && own.length > 1 && own.length <= MOST_BENCHMARKS) {
    for (const benchmark of own) {
      const scoresOf = new Map(pointsOf(choice.group, benchmark).map((p) => [p.method, p]));
      for (const row of shown) {
        row[`on ${benchmark}`] = scoresOf.get(row.method)?.miou ?? null;
      }
      columns.push(number(`on ${benchmark}`, data.benchmarks[benchmark], 'points', 'descending', 'max'));
    }
  }
  if (more && shown.some((row) => row.iqm !== null)) columns.push(number('iqm', 'IQM', 'points', 'descending', 'max'));
  if (scope < 0) columns.push({ key: 'complete', head: 'Done', first: 'descending', value: (row) => row.complete, cell: (row) => row.complete });
  else if (shown.some((row) => row.status !== 'done')) columns.push({ key: 'status', head: 'Status', first: 'ascending', value: (row) => row.status, cell: (row) => row.status });
  columns.push(number('seeds', 'Seeds', 'integer', 'descending'));
  sortable(byId('board-table'), columns, shown, boardOrder, drawBoard);
  const notes = (field) => groups.map((one) => (everything ? `${one.label}: ${one[field]}` : one[field]))
    .map((text) => el('div', {}, ...worded(text)));
  byId('seeds-note').replaceChildren(...notes('seeds'));
  byId('timing-note').replaceChildren(...(alike ? notes('timing') : ['Times are left out: these groups were timed '
    + 'on different machines or with different threads. Each group alone has its times.']));
  byId('found').textContent = shown.length === all.length ? `${all.length} methods`
    : `${shown.length} of ${all.length} methods`;
}

byId('filter').addEventListener('input', drawBoard);
byId('all-groups').addEventListener('change', drawBoard);
byId('all-columns').addEventListener('change', drawBoard);
byId('all-groups').parentElement.hidden = data.groups.length < 2;
painters.push(drawBoard);
