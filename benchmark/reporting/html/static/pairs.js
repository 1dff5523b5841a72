// Which differences are real: all pairs, and average ranks with their critical difference.

const pairs = rows(data.pairs);
const ranks = rows(data.ranks);

function drawPairs() {
  if (!byId('pair-table')) return;
  const own = pairs.filter((pair) => pair.group === choice.group && pair.scope === choice.scope);
  const score = new Map(pointsOf(choice.group, choice.scope).map((point) => [point.method, point.miou ?? -1]));
  const methods = [...new Set(own.flatMap((pair) => [pair.a, pair.b]))]
    .sort((a, b) => (score.get(b) ?? -1) - (score.get(a) ?? -1) || a - b);
  const known = new Map();
  for (const pair of own) {
    known.set(`${pair.a}/${pair.b}`, { ...pair });
    known.set(`${pair.b}/${pair.a}`, { ...pair, difference: -pair.difference,
      low: pair.high === null ? null : -pair.high, high: pair.low === null ? null : -pair.low });
  }
  byId('pairs-empty').hidden = methods.length > 0;
  byId('pairs-note').hidden = methods.length === 0;
  byId('pairs-note').textContent = own.some((pair) => pair.p_holm !== null)
    ? 'Row minus column in points of mIoU. Coloured: too large to be chance (5 %, after Holm’s correction for the number of comparisons); grey: may be chance.'
    : 'Row minus column in points of mIoU. Not tested: needs at least two seeds.';
  // The interval is that of one pair, the test corrects for all of them.
  const beyond = own.filter((pair) => pair.p_holm !== null && !pair.significant && pair.low > 0).length;
  if (beyond) {
    byId('pairs-note').textContent += ` In ${beyond === 1 ? '1 pair' : `${beyond} pairs`} the 95 % interval excludes 0, and the difference is still not significant: the interval is for one pair alone, the test corrects for their number.`;
  }
  byId('pair-table').parentElement.hidden = methods.length === 0;
  const widest = Math.max(...own.map((pair) => Math.abs(pair.difference)), .001);
  const cell = (a, b) => {
    const pair = known.get(`${a}/${b}`);
    if (a === b || !pair) return el('td', { class: 'none' }, a === b ? '' : MISSING);
    const text = `${pair.difference >= 0 ? '+' : '−'}${pointsText(Math.abs(100 * pair.difference))}`;
    const about = [`${data.methods[a].name} minus ${data.methods[b].name}: ${text} points`];
    if (pair.low !== null) about.push(`95 % interval ${human(pair.low, 'points')} to ${human(pair.high, 'points')}`);
    about.push(pair.p_holm === null ? 'not tested' : `p = ${pair.p_holm.toPrecision(2)} (Holm)`);
    return el('td', { class: !pair.significant ? 'none' : pair.difference > 0 ? 'plus' : 'minus',
      style: `--share: ${Math.abs(pair.difference) / widest}`, title: about.join('; ') }, text);
  };
  byId('pair-table').replaceChildren(
    el('thead', {}, el('tr', {}, el('th', {}, ''), ...methods.map((method) =>
      el('th', { scope: 'col' }, el('div', { class: 'turned', title: data.methods[method].name }, data.methods[method].name))))),
    el('tbody', {}, ...methods.map((a) => el('tr', {},
      el('th', { scope: 'row', title: data.methods[a].name }, data.methods[a].name), ...methods.map((b) => cell(a, b))))));
  drawRanks();
}

/** Longest runs of methods whose average ranks differ by less than the critical difference. */
function cliques(sorted, critical) {
  const found = [];
  let end = -1;
  sorted.forEach((first, start) => {
    let last = start;
    while (last + 1 < sorted.length && sorted[last + 1].average_rank - first.average_rank <= critical) last += 1;
    if (last > start && last > end) {
      found.push([start, last]);
      end = last;
    }
  });
  return found;
}

function drawRanks() {
  const own = ranks.filter((row) => row.group === choice.group && row.average_rank !== null)
    .sort((a, b) => a.average_rank - b.average_rank);
  // On one benchmark the ranks say what the scores say.
  byId('rank-part').hidden = own.length < 2 || own[0].cells < 2;
  if (byId('rank-part').hidden) return;
  const critical = data.groups[choice.group].critical_difference;
  const target = byId('rank-plot');
  target.style.height = `${90 + 24 * own.length}px`;
  const names = own.map((row) => data.methods[row.method].name);
  const widest = Math.min(Math.max(...names.map((name) => name.length)), 24);
  const worst = own.at(-1).average_rank;
  const bars = critical === null ? [] : cliques(own, critical);
  const every = worst > 12 ? 5 : worst > 5 ? 2 : 1;
  const step = Math.max(worst - 1, 1) * .045;
  const traces = [
    { x: own.map((row) => row.average_rank), y: own.map((_, place) => place), mode: 'markers', hoverinfo: 'text',
      hovertext: own.map((row) => `${plain(data.methods[row.method].name)}: average rank ${row.average_rank.toFixed(2)} over ${row.cells} benchmarks`),
      marker: { size: 11, color: own.map((row) => colourOf(row.method)), symbol: own.map((row) => data.methods[row.method].symbol) } },
    ...bars.map(([start, end], place) => ({
      x: [worst + step * (place + 2), worst + step * (place + 2)], y: [start - .2, end + .2], mode: 'lines',
      line: { width: 4, color: style('--soft') }, hoverinfo: 'text',
      hovertext: `not distinguishable: ${plain(names.slice(start, end + 1).join(', '))}`,
    })),
  ];
  Plotly.react(target, traces, layout(target, {
    margin: { l: 20 + 7 * widest, r: 16, t: 8, b: 50 },
    xaxis: { title: { text: 'Average rank (1 is best)', font: { size: 13 } }, range: [.7, worst + step * (bars.length + 3)],
      tickvals: Array.from({ length: Math.floor(worst / every) + 1 }, (_, i) => Math.max(1, i * every)) },
    yaxis: { range: [own.length - .4, -.6], tickvals: own.map((_, place) => place),
      ticktext: names.map((name) => plain(name.length > 24 ? `${name.slice(0, 23)}…` : name)), ticks: '' },
  }), { ...CONFIG, displayModeBar: false });
  byId('rank-note').replaceChildren(...worded(critical === null
    ? 'Too few benchmarks to group methods.'
    : `Methods joined by a bar differ by less than ${critical.toFixed(2)} ranks, the critical difference: that may be chance (Nemenyi test, 5 %).`));
}

painters.push(drawPairs);
