import type { Btf, BtfType } from './btf.ts';

/** Memory layout of a C type, as found in the object's BTF. Plain data: it can be hashed and compared. */
export type Layout =
  | { readonly kind: 'int'; readonly size: number; readonly signed: boolean; readonly big: boolean }
  /** u8 arrays, and structs of nothing but a u8 array named `bytes` (struct addr). */
  | { readonly kind: 'bytes'; readonly size: number }
  | { readonly kind: 'array'; readonly size: number; readonly length: number; readonly element: Layout }
  | { readonly kind: 'struct'; readonly size: number; readonly fields: readonly Field[] };

export interface Field {
  readonly name: string;
  readonly offset: number;
  readonly layout: Layout;
}

/** Between a plain object and its bytes. 64-bit integers are bigints, every other a number. */
export interface Codec<T> {
  readonly size: number;
  /** Writes at `offset`; bytes that no field covers stay as they are. Throws on a value that does not fit. */
  encode(value: T, into: Uint8Array, offset: number): void;
  decode(bytes: Uint8Array, offset: number): T;
}

/** Typedefs whose integers are network order, whatever the machine's. */
const BIG = new Set(['__be16', '__be32', '__be64']);

/** The layout of BTF type `id`. Throws on what a map row can not be (pointers, unions, bit-fields). */
export function layoutOf(btf: Btf, id: number, big = false): Layout {
  const type = btf[id];
  if (!type) throw new Error(`BTF has no type ${id}`);
  switch (type.kind) {
    case 'int':
      return { kind: 'int', size: type.size, signed: type.signed, big };
    case 'enum':
      return { kind: 'int', size: type.size, signed: false, big: false };
    case 'typedef':
      return layoutOf(btf, type.type, big || BIG.has(type.name));
    case 'qualifier':
    case 'variable':
      return layoutOf(btf, type.type, big);
    case 'array': {
      const element = layoutOf(btf, type.element);
      if (element.kind === 'int' && element.size === 1) return { kind: 'bytes', size: type.length };
      return { kind: 'array', size: element.size * type.length, length: type.length, element };
    }
    case 'struct':
      return structLayout(btf, type);
    default:
      throw new Error(`${type.kind} ${type.name} can not be part of a map row`);
  }
}

function structLayout(btf: Btf, type: BtfType & { readonly kind: 'struct' | 'union' }): Layout {
  const fields = type.members.map(member => {
    if (member.offset % 8) throw new Error(`${type.name}.${member.name} is a bit-field`);
    return { name: member.name, offset: member.offset / 8, layout: layoutOf(btf, member.type) };
  });
  const [only] = fields;
  if (fields.length === 1 && only?.name === 'bytes' && only.layout.kind === 'bytes') return only.layout;
  return { kind: 'struct', size: type.size, fields };
}

/** The struct or enum of that name. */
export function typeNamed(btf: Btf, kind: 'struct' | 'enum', name: string): number {
  const id = btf.findIndex(type => type.kind === kind && type.name === name);
  if (id < 0) throw new Error(`BTF has no ${kind} ${name}`);
  return id;
}

/** Names and numbers of an enum. */
export function enumValues(btf: Btf, name: string): ReadonlyMap<string, number> {
  const type = btf[typeNamed(btf, 'enum', name)];
  return type?.kind === 'enum' ? type.values : new Map();
}

type Write = (value: unknown, view: DataView, bytes: Uint8Array, offset: number) => void;
type Read = (view: DataView, bytes: Uint8Array, offset: number) => unknown;

/** Compiles a layout once; the row type is the caller's claim, checked field by field when encoding. */
export function codecOf<T>(layout: Layout): Codec<T> {
  const write = writerOf(layout, '');
  const read = readerOf(layout);
  // Rows of a batch are written into one array, one after the other.
  let array: Uint8Array = new Uint8Array(0);
  let view: DataView = new DataView(array.buffer);
  return {
    size: layout.size,
    encode: (value, into, offset) => {
      if (into !== array) {
        array = into;
        view = new DataView(into.buffer, into.byteOffset, into.byteLength);
      }
      write(value, view, into, offset);
    },
    decode: (bytes, offset) =>
      read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), bytes, offset) as T,
  };
}

function writerOf(layout: Layout, path: string): Write {
  const at = path || 'row';
  switch (layout.kind) {
    case 'int':
      return intWriter(layout, at);
    case 'bytes':
      return (value, _view, bytes, offset) => {
        if (!(value instanceof Uint8Array) || value.length !== layout.size)
          throw new Error(
            `${at}: expected ${layout.size} bytes, found ${value instanceof Uint8Array ? value.length : typeof value}`,
          );
        bytes.set(value, offset);
      };
    case 'array': {
      const element = writerOf(layout.element, `${path}[]`);
      return (value, view, bytes, offset) => {
        if (!Array.isArray(value) || value.length !== layout.length)
          throw new Error(`${at}: expected an array of ${layout.length}`);
        for (const [index, each] of value.entries())
          element(each, view, bytes, offset + index * layout.element.size);
      };
    }
    case 'struct': {
      const fields = layout.fields.map(field => ({
        name: field.name,
        offset: field.offset,
        pad: /^pad\d*$/.test(field.name),
        write: writerOf(field.layout, path ? `${path}.${field.name}` : field.name),
      }));
      return (value, view, bytes, offset) => {
        if (typeof value !== 'object' || value === null) throw new Error(`${at}: expected an object`);
        const row = value as Readonly<Record<string, unknown>>;
        for (const field of fields) {
          const part = row[field.name];
          if (part === undefined && field.pad) continue;
          field.write(part, view, bytes, offset + field.offset);
        }
      };
    }
  }
}

function intWriter(layout: Layout & { readonly kind: 'int' }, at: string): Write {
  const { size, signed } = layout;
  const little = !layout.big;
  const bits = BigInt(size * 8);
  const most = Number((1n << (signed ? bits - 1n : bits)) - 1n);
  const least = signed ? Number(-(1n << (bits - 1n))) : 0;
  const check = (value: unknown): number => {
    const number = typeof value === 'boolean' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isInteger(number) || number < least || number > most)
      throw new Error(`${at}: expected an integer from ${least} to ${most}, found ${String(value)}`);
    return number;
  };
  switch (size) {
    case 1:
      return (value, view, _bytes, offset) => view.setUint8(offset, check(value));
    case 2:
      return (value, view, _bytes, offset) => view.setUint16(offset, check(value), little);
    case 4:
      return (value, view, _bytes, offset) => view.setUint32(offset, check(value), little);
    case 8:
      return (value, view, _bytes, offset) => {
        if (typeof value !== 'bigint') throw new Error(`${at}: expected a bigint, found ${typeof value}`);
        view.setBigUint64(offset, value, little);
      };
    default:
      throw new Error(`${at}: integers of ${size} bytes are unknown`);
  }
}

function readerOf(layout: Layout): Read {
  switch (layout.kind) {
    case 'int':
      return intReader(layout);
    case 'bytes':
      return (_view, bytes, offset) => bytes.slice(offset, offset + layout.size);
    case 'array': {
      const element = readerOf(layout.element);
      return (view, bytes, offset) =>
        Array.from({ length: layout.length }, (_, index) =>
          element(view, bytes, offset + index * layout.element.size),
        );
    }
    case 'struct': {
      const fields = layout.fields.map(field => ({ ...field, read: readerOf(field.layout) }));
      return (view, bytes, offset) => {
        const row: Record<string, unknown> = {};
        for (const field of fields) row[field.name] = field.read(view, bytes, offset + field.offset);
        return row;
      };
    }
  }
}

function intReader({ size, signed, big }: Layout & { readonly kind: 'int' }): Read {
  const little = !big;
  switch (size) {
    case 1:
      return (view, _bytes, offset) => (signed ? view.getInt8(offset) : view.getUint8(offset));
    case 2:
      return (view, _bytes, offset) =>
        signed ? view.getInt16(offset, little) : view.getUint16(offset, little);
    case 4:
      return (view, _bytes, offset) =>
        signed ? view.getInt32(offset, little) : view.getUint32(offset, little);
    default:
      return (view, _bytes, offset) =>
        signed ? view.getBigInt64(offset, little) : view.getBigUint64(offset, little);
  }
}
