// mIoU against a cost, with intervals, the front, and published numbers.

const costSelect = byId('cost');
const referenceBox = byId('with-reference');
const fronts = rows(data.fronts);
const reference = rows(data.reference);

function drawPareto() {
  const cost = data.costs.find((one) => one.column === costSelect.value);
  const target = byId('pareto-plot');
  const { group, scope } = choice;
  const known = !cost ? [] : pointsOf(group, scope)
    .map((point) => ({ ...point, cost: point[cost.column] }))
    .filter((point) => point.miou !== null && point.cost !== null);
  if (!known.length) {
    Plotly.react(target, [], layout(target, {
      xaxis: { visible: false }, yaxis: { visible: false },
      annotations: [{ text: 'No finished run here', showarrow: false, x: .5, y: .5,
        xref: 'paper', yref: 'paper' }],
    }), CONFIG);
    byId('pareto-note').textContent = '';
    return;
  }
  if (referenceBox) referenceBox.disabled = !reference.some((one) => one.cost === cost.column);
  const foreign = !referenceBox?.checked ? []
    : reference.filter((one) => one.cost === cost.column);
  const positive = [...known.map((p) => p.cost), ...foreign.map((p) => p.params)].filter((c) => c > 0);
  const zero = positive.length ? Math.min(...positive) / 3 : 1;
  const at = (value) => (value > 0 ? value : zero);
  const spread = [...known.map((p) => at(p.cost)), ...foreign.map((p) => at(p.params))];
  const room = Math.max((Math.max(...spread) / Math.min(...spread)) ** .1, 1.12);
  const left = Math.min(...spread) / room, right = Math.max(...spread) * room;
  const scores = [...known.flatMap((p) => [p.miou, p.low ?? p.miou, p.high ?? p.miou]),
    ...foreign.map((p) => p.miou)];
  const pad = .12 * Math.max(Math.max(...scores) - Math.min(...scores), .01);
  const bottom = 100 * (Math.min(...scores) - pad), top = 100 * (Math.max(...scores) + pad);

  const found = fronts.filter((one) => one.group === group && one.scope === scope && one.cost === cost.column);
  const best = new Set(found.filter((one) => one.on_front).map((one) => one.method));
  const front = known.filter((p) => best.has(p.method)).sort((a, b) => a.cost - b.cost);
  const stairs = { x: front.map((p) => at(p.cost)), y: front.map((p) => 100 * p.miou) };
  stairs.x.push(right);
  stairs.y.push(stairs.y.at(-1));
  const chance = new Map(found.map((one) => [one.method, one.probability]));

  const traces = [
    { ...stairs, mode: 'lines', line: { shape: 'hv', color: style('--front'), width: 1.4 },
      hoverinfo: 'skip' },
    { x: foreign.map((p) => at(p.params)), y: foreign.map((p) => 100 * p.miou), mode: 'markers',
      marker: { symbol: 'circle-open', size: 9, color: style('--soft'), line: { width: 1.5 } },
      hoverinfo: 'text', hovertext: foreign.map((p) => plain(`${p.method} on ${p.backbone}, `
        + `${p.decoder}: mIoU ${human(p.miou, 'points')}`) + `<br>published: ${plain(p.source)}`) },
    { x: known.map((p) => at(p.cost)), y: known.map((p) => 100 * p.miou), mode: 'markers',
      customdata: known.map((p) => p.method),
      marker: { size: 11, opacity: 1, color: known.map((p) => colourOf(p.method)),
        symbol: known.map((p) => data.methods[p.method].symbol),
        line: { width: 1, color: style('--paper') } },
      error_y: { type: 'data', symmetric: false, thickness: 1.1, width: 3, color: style('--soft'),
        array: known.map((p) => (p.high === null ? 0 : 100 * (p.high - p.miou))),
        arrayminus: known.map((p) => (p.low === null ? 0 : 100 * (p.miou - p.low))) },
      hoverinfo: 'text',
      hovertext: known.map((p) => hoverText(p, cost, chance.get(p.method))) },
  ];
  const ticks = logTicks(left, right).filter((tick) => !known.some((p) => p.cost === 0) || tick > 1.6 * zero);
  const zeros = known.some((p) => p.cost === 0) ? [zero] : [];
  const margin = { l: 56, r: 16, t: 12, b: 56 };
  const width = widthOf(target) - margin.l - margin.r;
  const height = target.clientHeight - margin.t - margin.b;
  const toX = (value) => Math.log(at(value) / left) / Math.log(right / left) * width;
  const toY = (value) => (top - 100 * value) / (top - bottom) * height;
  const spots = [...known].sort((a, b) => b.miou - a.miou).map((p) => ({
    x: toX(p.cost), y: toY(p.miou), name: data.methods[p.method].name, point: p,
    bars: p.low === null ? null : [toY(p.high), toY(p.low)],
  }));
  const walls = front.flatMap((p, i) => {
    const [x, y, next] = [toX(p.cost), toY(p.miou), front[i + 1]];
    const flat = [x, y - 2, next ? toX(next.cost) : width, y + 2];
    return next ? [flat, [toX(next.cost) - 2, toY(next.miou), toX(next.cost) + 2, y]] : [flat];
  });
  const names = placeNames(spots, walls, width, height).map(({ place, dx, dy }) => ({
    x: Math.log10(at(spots[place].point.cost)), y: 100 * spots[place].point.miou,
    text: plain(spots[place].name.length > 26 ? `${spots[place].name.slice(0, 25)}…` : spots[place].name),
    ax: dx, ay: dy, showarrow: true, arrowhead: 0, arrowwidth: .001, arrowcolor: 'rgba(0,0,0,0)',
    font: { size: 12, color: style('--ink') }, captureevents: false,
  }));
  Plotly.react(target, traces, layout(target, {
    margin, annotations: names, meta: { cost: cost.column },
    xaxis: { type: 'log', range: [Math.log10(left), Math.log10(right)], title: { text: cost.label, standoff: 8, font: { size: 13 } },
      tickvals: [...zeros, ...ticks],
      ticktext: [...zeros.map(() => '0'), ...ticks.map((tick) => human(tick, cost.kind).replace('.0 ', ' '))] },
    yaxis: { range: [bottom, top], title: { text: 'mIoU (points)', standoff: 6, font: { size: 13 } }, nticks: 7 },
  }), CONFIG);
  if (!target.dataset.ready) {
    target.dataset.ready = 'yes';
    target.on('plotly_click', ({ points: [hit] }) => {
      if (hit.customdata !== undefined) openPanel(choice.group, choice.scope, hit.customdata);
    });
  }
  const covers = [...new Set(known.map((p) => p.covers).filter(Boolean))];
  const missing = names.length < known.length ? ' Names that do not fit appear on hover.' : '';
  byId('pareto-note').replaceChildren(...worded(`Line: the best mIoU at or below each cost. ${covers.length
    ? `Bars: 95 % intervals over ${covers.join(', or ')}.` : 'No intervals here.'} `
    + `Select a point for its runs.${missing}${isTime(cost) ? ` ${data.groups[group].timing}` : ''}`));
}

function hoverText(point, cost, chance) {
  const runs = allRuns.filter((run) => run.group === point.group && run.method === point.method
    && run.status === 'done' && (point.scope < 0 || run.benchmark === point.scope));
  const lines = [
    `<b>${plain(data.methods[point.method].name)}</b>`,
    `mIoU ${scoreText(point)}`,
    `${plain(cost.label)}: ${human(point.cost, cost.kind)}`,
  ];
  if (chance !== undefined && chance !== null) lines.push(`on the front in ${(100 * chance).toFixed(0)} % of resamples`);
  const ids = runs.slice(0, 3).map((run) => plain(run.run_id)).join(', ');
  lines.push(`${runs.length} ${runs.length === 1 ? 'run' : 'runs'}: ${ids}${runs.length > 3 ? ', …' : ''}`);
  return lines.join('<br>');
}

fill(costSelect, data.costs.map((cost) => [cost.column, cost.label]));
if (data.costs.some((cost) => cost.column === 'costs.stored.bytes')) costSelect.value = 'costs.stored.bytes';
costSelect.addEventListener('change', drawPareto);
referenceBox?.addEventListener('change', drawPareto);
painters.push(drawPareto);
