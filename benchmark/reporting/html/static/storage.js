// Bytes on disk for T tasks: one backbone and T times what a method stores.

const FLOAT = 4; // bytes of a parameter in 32-bit floats

function drawStorage() {
  const tasks = Number(byId('tasks').value);
  byId('tasks-out').textContent = String(tasks);
  const column = 'costs.stored.bytes';
  const backbone = FLOAT * (data.groups[choice.group].parameters ?? 0);
  const known = pointsOf(choice.group, choice.scope).filter((point) => point[column] !== null && point[column] !== undefined)
    .map((point) => ({ ...point, total: backbone + tasks * point[column] })).sort((a, b) => a.total - b.total);
  const most = Math.max(...known.map((point) => point.total));
  const share = (bytes) => `${Math.max(100 * bytes / most, .2)}%`;
  byId('storage-bars').replaceChildren(...known.map((point) => {
    const stem = el('span', { class: 'stem' }), leaf = el('span', { class: 'leaf' });
    stem.style.width = share(backbone);
    leaf.style.width = share(point.total - backbone);
    return el('li', {}, el('span', { class: 'label', title: data.methods[point.method].name }, data.methods[point.method].name),
      el('span', { class: 'track' }, stem, leaf), el('span', { class: 'amount' }, human(point.total, 'bytes')));
  }));
}

byId('tasks').addEventListener('input', drawStorage);
painters.push(drawStorage);
