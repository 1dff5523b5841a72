// Names beside points, where there is room; a point without a name shows it on hover.

const LETTER = 6.7, LINE = 15; // pixels of 12-pixel type

/**
 * Where names go: spots are {x, y, name, bars} in pixels. Walls are boxes
 * that names keep off. Returns, for each that fits, its place in `spots` and the shift of the text's centre.
 */
function placeNames(spots, walls, width, height) {
  const taken = spots.map(({ x, y }) => [x - 7, y - 7, x + 7, y + 7]);
  for (const { x, bars } of spots) if (bars) taken.push([x - 3, bars[0], x + 3, bars[1]]);
  const clear = (box) => box[0] > 0 && box[2] < width && box[1] > 0 && box[3] < height
    && !taken.some((other) =>
      box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
  taken.push(...walls);
  const placed = [];
  spots.forEach(({ x, y, name }, place) => {
    const half = Math.min(name.length, 26) * LETTER / 2;
    for (const [dx, dy] of [[half + 10, 0], [half + 7, -13], [-half - 7, -13], [-half - 10, 0],
      [half + 7, 13], [-half - 7, 13], [0, -16], [0, 16], [0, -27], [0, 27]]) {
      const box = [x + dx - half, y + dy - LINE / 2, x + dx + half, y + dy + LINE / 2];
      if (clear(box)) {
        taken.push(box);
        placed.push({ place, dx, dy });
        return;
      }
    }
  });
  return placed;
}
