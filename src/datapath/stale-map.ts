/** Takes rows over from a map that another version of the programs left pinned with another layout or size. */
import type { Layout } from './layout.ts';
import type { BpfMap } from './map.ts';

/** Plain rows as a codec gives them. */
export type Row = Readonly<Record<string, unknown>>;

/** Between two turns of the event loop. */
const ROWS_PER_TURN = 4096;

/**
 * Copies the rows that the new map lacks: fields by their names, a field that the old row has not as zero, one that the
 * new row has not left out. Rows whose values do not fit are left out and counted. The old map stays as it is.
 */
export async function copyRows(
  from: BpfMap<Row, Row>,
  to: BpfMap<Row, Row>,
): Promise<{ readonly copied: number; readonly left: number }> {
  let copied = 0;
  let left = 0;
  let seen = 0;
  for (const [oldKey, oldValue] of from.entries()) {
    if (++seen % ROWS_PER_TURN === 0) await new Promise(resolve => setImmediate(resolve));
    try {
      const key = converted(oldKey, to.spec.key) as Row;
      if (to.get(key) !== undefined) continue;
      to.set(key, converted(oldValue, to.spec.value) as Row);
      copied++;
    } catch {
      left++;
    }
  }
  return { copied, left };
}

/** A value of one layout as one of another. Throws where a number or an array of bytes does not fit. */
function converted(value: unknown, layout: Layout): unknown {
  switch (layout.kind) {
    case 'int': {
      if (layout.size === 8)
        return typeof value === 'bigint' ? value : BigInt((value as number | undefined) ?? 0);
      return Number(value ?? 0);
    }
    case 'bytes':
      return value ?? new Uint8Array(layout.size);
    case 'array':
      return Array.from({ length: layout.length }, (_, index) =>
        converted((value as readonly unknown[] | undefined)?.[index], layout.element),
      );
    case 'struct':
      return Object.fromEntries(
        layout.fields.map(field => [
          field.name,
          converted((value as Row | undefined)?.[field.name], field.layout),
        ]),
      );
  }
}
