/** Text in columns, as kubectl prints it: quick also for a hundred thousand rows. */

export interface Column {
  readonly title: string;
  /** Numbers that are compared with one another. */
  readonly right?: boolean;
}

/**
 * Titles and rows under one another. A cell of several lines makes its row that high. With no rows: `none`, so
 * that nobody takes an empty list for a failure.
 */
export function columns(
  titles: readonly (string | Column)[],
  rows: readonly (readonly string[])[],
  none = 'nothing to show',
): string {
  if (rows.length === 0) return `${none}\n`;
  const heads = titles.map(each => (typeof each === 'string' ? { title: each, right: false } : each));
  const cells = rows.map(row => row.map(cell => cell.split('\n')));
  const widths = heads.map(({ title }, at) => {
    let width = title.length;
    for (const row of cells) for (const line of row[at] ?? []) width = Math.max(width, line.length);
    return width;
  });
  const lines: string[] = [];
  const put = (parts: readonly string[]): void => {
    const padded = heads.map(({ right }, at) => {
      const text = parts[at] ?? '';
      return right ? text.padStart(widths[at]!) : text.padEnd(widths[at]!);
    });
    lines.push(padded.join('  ').trimEnd());
  };
  put(heads.map(each => each.title));
  for (const row of cells) {
    const height = Math.max(1, ...row.map(each => each.length));
    for (let line = 0; line < height; line++) put(heads.map((_, at) => row[at]?.[line] ?? ''));
  }
  return `${lines.join('\n')}\n`;
}
