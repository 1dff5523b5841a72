// A table that every header sorts.

/**
 * columns: {key, head, term, value(row), cell(row, best), number, first, best}; first is the direction
 * of the first click, term the word that explains the heading, if it is not the heading itself. order: {key, down}, kept by the caller.
 */
function sortable(table, columns, records, order, repaint) {
  const column = columns.find((one) => one.key === order.key) || columns[0];
  const sign = order.down ? -1 : 1;
  const empty = (value) => value === null || value === undefined || value === '';
  const sorted = records.map((row, place) => ({ row, place, value: column.value(row) }))
    .sort((a, b) => {
      if (empty(a.value) || empty(b.value)) {
        return empty(a.value) - empty(b.value) || a.place - b.place;
      }
      const order = typeof a.value === 'number' ? a.value - b.value
        : String(a.value).localeCompare(String(b.value), 'en', { numeric: true });
      return sign * order || a.place - b.place;
    });
  const heads = columns.map((one) => {
    const own = one.key === column.key;
    const sort = () => {
      order.down = own ? !order.down : one.first === 'descending';
      order.key = one.key;
      repaint();
      table.querySelector(`button[data-key="${CSS.escape(one.key)}"]`).focus();
    };
    return el('th', {
      scope: 'col', class: one.number ? 'n' : null,
      'aria-sort': own ? (order.down ? 'descending' : 'ascending') : 'none',
    }, el('button', { type: 'button', 'data-key': one.key, title: data.terms[one.term ?? one.head], onclick: sort }, one.head));
  });
  const tops = new Map(columns.filter((one) => one.best && records.length > 1).map((one) => {
    const values = records.map(one.value).filter((value) => typeof value === 'number');
    return [one, values.length > 1 ? Math[one.best](...values) : null];
  }));
  const body = sorted.map(({ row }) => el('tr', {}, ...columns.map((one) => {
    const shown = one.cell(row);
    const top = tops.get(one);
    const isTop = top !== undefined && top !== null && one.value(row) !== null
      && shown === one.cell({ ...row, ...one.as?.(top) });
    const names = [one.number ? 'n' : null, one.class, isTop ? 'top' : null,
      shown === MISSING ? 'none' : null];
    return el('td', { class: names.filter(Boolean).join(' ') || null }, shown);
  })));
  table.replaceChildren(el('thead', {}, el('tr', {}, ...heads)), el('tbody', {}, ...body));
  return sorted.map(({ row }) => row);
}
