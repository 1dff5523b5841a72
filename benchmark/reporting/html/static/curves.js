// Lines: training, label efficiency, corruptions, settings of a method.

const DASHES = ['solid', 'dash', 'dot', 'dashdot'];
const LINE_COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#8a8a8a'];
const hiddenLines = new Set();

function drawCurves() {
  const kindSelect = byId('curve-kind'), panelSelect = byId('curve-panel');
  if (!kindSelect) return;
  const here = data.series.filter((one) => one.group === -1 || one.group === choice.group);
  fill(kindSelect, data.kinds.filter((kind) => here.some((one) => one.kind === kind.name))
    .map((kind) => [kind.name, kind.label]));
  const kind = data.kinds.find((one) => one.name === kindSelect.value);
  const ofKind = here.filter((one) => one.kind === kind?.name);
  fill(panelSelect, [...new Set(ofKind.map((one) => one.panel))].map((name) => [name, name]));
  const shown = ofKind.filter((one) => one.panel === panelSelect.value);
  const target = byId('curve-plot');
  if (!kind || !shown.length) {
    Plotly.purge(target);
    byId('curve-legend').replaceChildren();
    byId('curve-note').textContent = 'No curves for this group.';
    return;
  }
  const scale = kind.y === 'mIoU' ? 100 : 1;
  const dense = kind.name === 'training';
  const styleOf = (line, place) => (line.method >= 0
    ? { colour: colourOf(line.method), symbol: data.methods[line.method].symbol, dash: DASHES[Math.floor(line.method / 8) % 4] }
    : { colour: LINE_COLOURS[place % 7], symbol: 'circle', dash: DASHES[Math.floor(place / 7) % 4] });
  const log = kind.log && shown.every((line) => line.x.every((x) => x > 0));
  const traces = shown.map((line, place) => {
    const { colour, symbol, dash } = styleOf(line, place);
    const trace = {
      x: line.x, y: line.y.map((y) => scale * y), name: plain(line.name), mode: dense ? 'lines' : 'lines+markers',
      visible: !hiddenLines.has(line.name), line: { color: colour, width: dense ? 1.6 : 2, dash },
      marker: { color: colour, symbol, size: 8 }, hoverinfo: 'text',
      hovertext: line.x.map((x, i) => `${plain(line.name)}<br>${plain(kind.x)} ${Number(x.toPrecision(4))}: `
        + (scale === 100 ? human(line.y[i], 'points') : line.y[i].toPrecision(3))),
    };
    if (line.low.length) {
      trace.error_y = { type: 'data', symmetric: false, thickness: 1, width: 3, color: colour,
        array: line.high.map((high, i) => scale * (high - line.y[i])),
        arrayminus: line.low.map((low, i) => scale * (line.y[i] - low)) };
    }
    return trace;
  });
  const xs = [...new Set(shown.flatMap((line) => line.x))].sort((a, b) => a - b);
  Plotly.react(target, traces, layout(target, {
    xaxis: { type: log ? 'log' : 'linear', title: { text: kind.x, standoff: 8, font: { size: 13 } },
      ...(xs.length <= 7 ? { tickvals: xs, ticktext: xs.map((x) => (x >= 1000 ? human(x, 'count') : String(x))) } : {}) },
    yaxis: { title: { text: scale === 100 ? 'mIoU (points)' : kind.y, standoff: 6, font: { size: 13 } } },
  }), CONFIG);
  byId('curve-legend').replaceChildren(...shown.map((line, place) => {
    const sign = line.method >= 0 ? mark(line.method) : el('svg', { class: 'mark', viewBox: '0 0 16 16', 'aria-hidden': 'true' },
      el('path', { d: SHAPES.circle, fill: styleOf(line, place).colour }));
    return el('button', { type: 'button', 'aria-pressed': String(!hiddenLines.has(line.name)), onclick: ({ currentTarget }) => {
      const off = hiddenLines.has(line.name);
      hiddenLines[off ? 'delete' : 'add'](line.name);
      currentTarget.setAttribute('aria-pressed', String(off));
      Plotly.restyle(target, { visible: off }, [place]);
    } }, sign, line.name);
  }));
  byId('curve-note').textContent = kind.note;
}

byId('curve-kind')?.addEventListener('change', drawCurves);
byId('curve-panel')?.addEventListener('change', drawCurves);
painters.push(drawCurves);
