import { longer } from './slot-index.ts';

/**
 * One field of many rows, side by side in buffers instead of as an object each: a tenth of the memory, and nothing
 * for the garbage collector to visit. A row is a slot, from 0 on.
 */
export interface Column<Value> {
  /** There is room for so many slots from now on. */
  grow(slots: number): void;
  read(slot: number): Value;
  /** The slot may hold something, which is replaced. */
  write(slot: number, value: Value): void;
  /** What the slot holds is needed no more. */
  clear(slot: number): void;
}

/** Makes the column of one table. */
export type ColumnKind<Value> = () => Column<Value>;

/** Integers from 0 to 2³²-1. @throws RangeError for any other */
export const uint32: ColumnKind<number> = () => {
  let numbers = new Uint32Array(0);
  return {
    grow: slots => {
      numbers = longer(numbers, slots);
    },
    read: slot => numbers[slot]!,
    write: (slot, value) => {
      if (value >>> 0 !== value) throw new RangeError(`found ${value}, expected 0 to ${0xffff_ffff}`);
      numbers[slot] = value;
    },
    clear: () => undefined,
  };
};

export const boolean: ColumnKind<boolean> = () => {
  let bits = new Uint8Array(0);
  return {
    grow: slots => {
      bits = new Uint8Array(bits.buffer.transfer(slots));
    },
    read: slot => bits[slot] === 1,
    write: (slot, value) => {
      bits[slot] = value ? 1 : 0;
    },
    clear: () => undefined,
  };
};

/** Any number. */
export const float64: ColumnKind<number> = () => {
  let numbers = new Float64Array(0);
  return {
    grow: slots => {
      numbers = new Float64Array(numbers.buffer.transfer(slots * Float64Array.BYTES_PER_ELEMENT));
    },
    read: slot => numbers[slot]!,
    write: (slot, value) => {
      numbers[slot] = value;
    },
    clear: () => undefined,
  };
};

/** Texts of which there are few different ones (names of clusters, addresses of nodes): each is kept once. */
export const sharedText: ColumnKind<string> = () => {
  /** Plus one; 0: none. */
  let numbers = new Uint32Array(0);
  const texts: string[] = [];
  const users: number[] = [];
  const known = new Map<string, number>();
  const free: number[] = [];
  const clear = (slot: number): void => {
    const number = numbers[slot]! - 1;
    if (number < 0) return;
    numbers[slot] = 0;
    if (--users[number]! > 0) return;
    known.delete(texts[number]!);
    texts[number] = '';
    free.push(number);
  };
  return {
    grow: slots => {
      numbers = longer(numbers, slots);
    },
    read: slot => texts[numbers[slot]! - 1]!,
    write: (slot, value) => {
      let number = known.get(value);
      if (number !== undefined && numbers[slot] === number + 1) return;
      if (number === undefined) {
        number = free.pop() ?? texts.length;
        texts[number] = flat(value);
        users[number] = 0;
        known.set(texts[number]!, number);
      }
      users[number]!++;
      clear(slot);
      numbers[slot] = number + 1;
    },
    clear,
  };
};

/** A text that is not a part of a longer one, which it would keep in memory. */
const flat = (text: string): string => Buffer.from(text, 'utf16le').toString('utf16le');

/**
 * Bytes of the cell of a text of so many: multiples of 8, and of an eighth of them or more. So there are few sizes, and a
 * cell that is given back soon fits again.
 */
function cellOf(length: number): number {
  const step = 1 << Math.max(3, 28 - Math.clz32(length));
  return Math.ceil(length / step) * step;
}

/** Texts that differ from row to row. */
export const text: ColumnKind<string> = () => {
  let starts = new Uint32Array(0);
  /** In bytes; of no meaning where nothing is held. */
  let lengths = new Uint32Array(0);
  let bytes = Buffer.alloc(0);
  let end = 0;
  /** By size: the starts of cells that are free. */
  const free = new Map<number, number[]>();
  const clear = (slot: number): void => {
    const cell = cellOf(lengths[slot]!);
    if (cell === 0) return;
    const list = free.get(cell);
    if (list) list.push(starts[slot]!);
    else free.set(cell, [starts[slot]!]);
    lengths[slot] = 0;
  };
  const allocate = (cell: number): number => {
    const found = free.get(cell)?.pop();
    if (found !== undefined) return found;
    const start = end;
    end += cell;
    if (end > bytes.length)
      bytes = Buffer.from((bytes.buffer as ArrayBuffer).transfer(Math.max(end, growth(bytes.length))));
    return start;
  };
  return {
    grow: slots => {
      starts = longer(starts, slots);
      lengths = longer(lengths, slots);
    },
    read: slot => bytes.toString('utf8', starts[slot]!, starts[slot]! + lengths[slot]!),
    write: (slot, value) => {
      const length = Buffer.byteLength(value);
      const cell = cellOf(length);
      if (cell !== cellOf(lengths[slot]!)) {
        clear(slot);
        if (cell !== 0) starts[slot] = allocate(cell);
      }
      lengths[slot] = length;
      if (length) bytes.write(value, starts[slot]!);
    },
    clear,
  };
};

/** Most lists and records of nodes have nothing in them. Rows are never changed, so that they may have these in common. */
const empty = new Map<string, unknown>([
  ['[]', Object.freeze([])],
  ['{}', Object.freeze({})],
]);

/** Anything that JSON can say, as its text: for what is large and seldom looked at. */
export function json<Value>(): Column<Value> {
  const texts = text();
  return {
    ...texts,
    read: slot => {
      const found = texts.read(slot);
      return (empty.get(found) ?? JSON.parse(found)) as Value;
    },
    write: (slot, value) => texts.write(slot, JSON.stringify(value)),
  };
}

/** Lists of texts, most of them short: a line each, which is read in a fourth of the time that JSON takes. */
export const texts: ColumnKind<readonly string[]> = () => {
  const lines = text();
  return {
    ...lines,
    read: slot => {
      const found = lines.read(slot);
      if (found === '') return noTexts;
      // Where a text has lines of its own, the list is as JSON, which does not end so.
      return found.endsWith('\n') ? found.slice(0, -1).split('\n') : (JSON.parse(found) as string[]);
    },
    write: (slot, value) => {
      let found = '';
      for (const each of value) found += `${each}\n`;
      const isPlain = !value.some(each => each.includes('\n'));
      lines.write(slot, isPlain ? found : JSON.stringify(value));
    },
  };
};

const noTexts: readonly string[] = Object.freeze([]);

/** A field that not every row has. */
export const optional =
  <Value>(kind: ColumnKind<Value>): ColumnKind<Value | undefined> =>
  () => {
    const values = kind();
    const present = boolean();
    return {
      grow: slots => {
        values.grow(slots);
        present.grow(slots);
      },
      read: slot => (present.read(slot) ? values.read(slot) : undefined),
      write: (slot, value) => {
        present.write(slot, value !== undefined);
        if (value === undefined) values.clear(slot);
        else values.write(slot, value);
      },
      clear: slot => values.clear(slot),
    };
  };

/** The next larger size of a buffer that is full. */
export const growth = (size: number): number => Math.max(16, Math.ceil(size * 1.5));
