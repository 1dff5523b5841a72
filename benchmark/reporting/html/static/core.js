// What every part of the page uses: the data, the choice, elements, numbers, colours.

const byId = (id) => document.getElementById(id);

/** The text that the page holds compressed in an element (`packed` in payload.py). */
async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'))).text();
}

const data = JSON.parse(await unpack('payload'));
document.head.append(el('script', {}, await unpack('plotly')));
const AVERAGE = -1, SHARED = -2;
const MISSING = '–';
const choice = { group: 0, scope: AVERAGE };
const painters = [];

/** Objects from a table that is stored by column. */
function rows(frame) {
  const names = Object.keys(frame);
  const length = names.length ? frame[names[0]].length : 0;
  return Array.from({ length }, (_, row) =>
    Object.fromEntries(names.map((name) => [name, frame[name][row]])));
}

const points = rows(data.points);
const allRuns = rows(data.runs);

/** An element; texts become text nodes, never markup. */
function el(tag, attributes = {}, ...children) {
  const svg = ['svg', 'path', 'line', 'circle'].includes(tag);
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A text with its `code` as elements; no line starts with a %. */
function worded(text) {
  return text.split('`').map((part, place) => (place % 2 ? el('code', {}, part) : part.replaceAll(' %', '\u00a0%')));
}

/** A text for plotly, which reads some markup. */
function plain(text) {
  return String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

function scaled(number, unit) {
  const prefixes = ['', ' k', ' M', ' G', ' T'];
  let step = 0;
  while (Math.abs(number) >= (step ? 999.95 : 999.5) && step < prefixes.length - 1) {
    number /= 1000;
    step += 1;
  }
  const prefix = step || !unit ? prefixes[step] : ' ';
  return number.toFixed(step ? 1 : 0) + prefix + unit;
}

/** Points to one digit, ties to the even one, as Python rounds: all tables show the same. */
function pointsText(points) {
  const size = Math.abs(points), lower = Math.floor(size * 10);
  // Of numbers with a tie at the second digit only quarters are exact.
  const tie = (size * 4) % 2 === 1;
  const text = (tie && lower % 2 === 0 ? lower / 10 : size).toFixed(1);
  return points < 0 && text !== '0.0' ? `-${text}` : text;
}

/** A value as people read it; the same rules as the tables of the report. */
function human(value, kind) {
  if (value === null || value === undefined || value === '') return MISSING;
  if (typeof value === 'string') return value;
  switch (kind) {
    case 'points': return pointsText(100 * value);
    case 'count': return scaled(value, '');
    case 'bytes': return scaled(value, 'B');
    case 'seconds': {
      const [size, unit] = value >= 7200 ? [3600, 'h'] : value >= 120 ? [60, 'min'] : [1, 's'];
      return `${(value / size).toFixed(1)} ${unit}`;
    }
    case 'ms': return `${value.toFixed(1)} ms`;
    case 'rate': return value.toFixed(1);
    case 'ratio': return `${value.toFixed(value < 9.995 ? 2 : 1)}x`;
    case 'number': return value.toFixed(3);
    case 'integer': return value.toFixed(0);
    default: return String(value);
  }
}

function scopeName(scope, group = choice.group) {
  const own = data.groups[group];
  if (scope === AVERAGE) return `average of ${own.benchmarks.length} benchmarks`;
  if (scope === SHARED) {
    return `average of the ${own.shared.length} that all finished`;
  }
  return data.benchmarks[scope];
}

function pointsOf(group, scope) {
  return points.filter((point) => point.group === group && point.scope === scope);
}

/** The mIoU and its interval, in points. */
function scoreText(point) {
  const text = human(point.miou, 'points');
  return point.low === null ? text
    : `${text} (${human(point.low, 'points')} to ${human(point.high, 'points')})`;
}

/** Whether a cost is a time that was measured side by side. */
const isTime = (cost) => cost.column.startsWith('timing.');

const isDark = () => document.documentElement.dataset.theme === 'dark';
const colourOf = (method) => data.methods[method][isDark() ? 'dark' : 'colour'];

const SHAPES = {
  circle: 'M8 2a6 6 0 1 0 .01 0z', square: 'M3 3h10v10H3z', diamond: 'M8 1l7 7-7 7-7-7z',
  'triangle-up': 'M8 2l6.5 11.5h-13z', 'triangle-down': 'M8 14L1.5 2.5h13z',
  'triangle-left': 'M2 8l11.5-6.5v13z', 'triangle-right': 'M14 8L2.5 1.5v13z',
  cross: 'M6 2h4v4h4v4h-4v4H6v-4H2V6h4z',
  x: 'M4.5 1.7L8 5.2l3.5-3.5 2.8 2.8L10.8 8l3.5 3.5-2.8 2.8L8 10.8l-3.5 3.5-2.8-2.8L5.2 8 1.7 4.5z',
  star: 'M8 1l2 5h5l-4 3.3 1.5 5.2L8 11.4l-4.5 3.1L5 9.3 1 6h5z',
  pentagon: 'M8 1.5l6.5 4.8-2.5 7.7H4L1.5 6.3z',
};

/** A method's marker, as in the diagrams. */
function mark(method) {
  const shape = el('path', { d: SHAPES[data.methods[method].symbol], fill: colourOf(method) });
  return el('svg', { class: 'mark', viewBox: '0 0 16 16', 'aria-hidden': 'true' }, shape);
}

/** Options of a select; keeps the value if it is still there. */
function fill(select, options) {
  const former = select.value;
  select.replaceChildren(...options.map(([value, text]) => el('option', { value }, text)));
  const kept = options.some(([value]) => String(value) === former);
  if (kept) select.value = former;
  return kept;
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let printing = false;

const PAPER = 660; // pixels of a printed diagram
const widthOf = (target) => (printing ? PAPER : target.clientWidth);

/** The parts of a layout that depend on the theme and the paper. */
function layout(target, more) {
  const axis = {
    gridcolor: style('--grid'), zeroline: false, linecolor: style('--soft'), tickcolor: style('--soft'),
    ticks: 'outside', ticklen: 4, automargin: false, tickfont: { size: 12 },
  };
  const { xaxis = {}, yaxis = {}, ...rest } = more;
  return {
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false, hovermode: 'closest',
    modebar: { bgcolor: 'rgba(0,0,0,0)', color: style('--soft'), activecolor: style('--accent') },
    font: { family: style('--font'), size: 13, color: style('--ink') },
    margin: { l: 56, r: 16, t: 12, b: 56 }, width: widthOf(target), height: target.clientHeight,
    hoverlabel: { bgcolor: style('--card'), bordercolor: style('--soft'), align: 'left',
      font: { color: style('--ink'), family: style('--font'), size: 13 } },
    xaxis: { ...axis, showline: true, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}

const CONFIG = {
  displaylogo: false, responsive: false,
  // On a phone the buttons would cover the points.
  displayModeBar: innerWidth >= 640 ? 'hover' : false,
  modeBarButtons: [['toImage', 'zoom2d', 'pan2d', 'resetScale2d']],
};

/** Three to six round values of a logarithmic axis. */
function logTicks(low, high) {
  const decades = [];
  for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d += 1) decades.push(d);
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]) {
    const inside = decades.flatMap((d) => steps.map((s) => Number((s * 10 ** d).toPrecision(6))))
      .filter((value) => value >= low && value <= high);
    if (inside.length >= 3) return inside.filter((_, i) => i % Math.ceil(inside.length / 6) === 0);
  }
  return [0, 1, 2, 3].map((i) => Number((low + (high - low) * (i + .5) / 4).toPrecision(2)));
}

function changed() {
  for (const paint of painters) paint();
}
