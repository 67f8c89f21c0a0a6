// "Did you mean": the closest of the valid names.

/** Longer names are not compared: nobody mistypes them, and the cost grows with the square. */
const COMPARED_LENGTH_MAX = 64;

/** Edits between two words (insert, delete, replace, swap of neighbours), ignoring case. */
export function editDistance(first: string, second: string): number {
  const a = first.toLowerCase();
  const b = second.toLowerCase();
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const cost = a[row - 1] === b[column - 1] ? 0 : 1;
      let best = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + cost,
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        best = Math.min(best, (beforeLast[column - 2] ?? 0) + 1);
      }
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}

/** The valid name that was probably meant; `undefined` when none is close. */
export function nearestName(word: string, names: readonly string[]): string | undefined {
  if (word.length === 0 || word.length > COMPARED_LENGTH_MAX) return undefined;
  // A third of the letters wrong is still a typing error; more is another word.
  const tolerance = Math.max(1, Math.floor(word.length / 3));
  let nearest: string | undefined;
  let least = tolerance + 1;
  for (const name of names) {
    if (Math.abs(name.length - word.length) >= least) continue;
    const distance = editDistance(word, name);
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}
