/** Reads an eBPF object file without libbpf: sections and symbols (ELF64), types (BTF, kernel doc btf.rst). */

export interface ElfSymbol {
  readonly name: string;
  readonly section: number;
  readonly value: number;
  readonly size: number;
}

export interface ElfObject {
  section(name: string): { readonly index: number; readonly bytes: Uint8Array } | undefined;
  readonly symbols: readonly ElfSymbol[];
}

/** Parses a little-endian ELF64 relocatable. Throws when it is none. */
export function parseElf(file: Uint8Array): ElfObject {
  const view = viewOf(file);
  if (file.length < 64 || view.getUint32(0, false) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1)
    throw new Error('not a little-endian ELF64 object');
  const offset = Number(view.getBigUint64(0x28, true));
  const size = view.getUint16(0x3a, true);
  const count = view.getUint16(0x3c, true);
  const namesIndex = view.getUint16(0x3e, true);
  const raw = Array.from({ length: count }, (_, index) => {
    const at = offset + index * size;
    const start = Number(view.getBigUint64(at + 0x18, true));
    return {
      nameAt: view.getUint32(at, true),
      type: view.getUint32(at + 4, true),
      link: view.getUint32(at + 0x28, true),
      bytes: file.subarray(start, start + Number(view.getBigUint64(at + 0x20, true))),
    };
  });
  const names = raw[namesIndex]?.bytes ?? new Uint8Array();
  const sections = new Map(raw.map(({ nameAt, bytes }, index) => [text(names, nameAt), { index, bytes }]));
  const table = raw.find(each => each.type === 2 /* SHT_SYMTAB */);
  return {
    section: name => sections.get(name),
    symbols: table ? parseSymbols(table.bytes, raw[table.link]?.bytes ?? new Uint8Array()) : [],
  };
}

function parseSymbols(bytes: Uint8Array, strings: Uint8Array): ElfSymbol[] {
  const view = viewOf(bytes);
  const symbols: ElfSymbol[] = [];
  for (let at = 0; at + 24 <= bytes.length; at += 24)
    symbols.push({
      name: text(strings, view.getUint32(at, true)),
      section: view.getUint16(at + 6, true),
      value: Number(view.getBigUint64(at + 8, true)),
      size: Number(view.getBigUint64(at + 16, true)),
    });
  return symbols;
}

interface Member {
  readonly name: string;
  readonly type: number;
  /** Bits from the start. */
  readonly offset: number;
}

export type BtfType =
  | { readonly kind: 'void' | 'other'; readonly name: string }
  | { readonly kind: 'int'; readonly name: string; readonly size: number; readonly signed: boolean }
  | { readonly kind: 'array'; readonly name: string; readonly element: number; readonly length: number }
  | {
      readonly kind: 'struct' | 'union';
      readonly name: string;
      readonly size: number;
      readonly members: readonly Member[];
    }
  | {
      readonly kind: 'enum';
      readonly name: string;
      readonly size: number;
      readonly values: ReadonlyMap<string, number>;
    }
  /** typedef, pointer, const, volatile, variable: a name for another type. */
  | {
      readonly kind: 'typedef' | 'pointer' | 'qualifier' | 'variable';
      readonly name: string;
      readonly type: number;
    }
  | { readonly kind: 'section'; readonly name: string; readonly variables: readonly number[] };

/** Types of an object by their BTF id; 0 is void. */
export type Btf = readonly BtfType[];

/** Parses a `.BTF` section. Throws on a foreign magic or an unknown kind. */
export function parseBtf(bytes: Uint8Array): Btf {
  const view = viewOf(bytes);
  if (view.getUint16(0, true) !== 0xeb9f) throw new Error('no BTF in this section');
  const header = view.getUint32(4, true);
  const types = header + view.getUint32(8, true);
  const end = types + view.getUint32(12, true);
  const strings = bytes.subarray(header + view.getUint32(16, true));
  const name = (at: number): string => text(strings, view.getUint32(at, true));
  const out: BtfType[] = [{ kind: 'void', name: 'void' }];
  for (let at = types; at < end; ) {
    const info = view.getUint32(at + 4, true);
    const count = info & 0xffff;
    const kind = (info >>> 24) & 0x1f;
    const size = view.getUint32(at + 8, true);
    const rest = at + 12;
    const u32 = (index: number): number => view.getUint32(rest + index * 4, true);
    const rows = <T>(words: number, row: (index: number) => T): T[] =>
      Array.from({ length: count }, (_, index) => row(index * words));
    const it = { name: name(at) };
    switch (kind) {
      case 1:
        out.push({ kind: 'int', ...it, size, signed: (u32(0) & 0x01000000) !== 0 });
        break;
      case 3:
        out.push({ kind: 'array', ...it, element: u32(0), length: u32(2) });
        break;
      case 4:
      case 5:
        out.push({
          kind: kind === 4 ? 'struct' : 'union',
          ...it,
          size,
          members: rows(3, index => ({
            name: name(rest + index * 4),
            type: u32(index + 1),
            // With kind_flag the upper byte is a bit-field's width.
            offset: info >>> 31 ? u32(index + 2) & 0xffffff : u32(index + 2),
          })),
        });
        break;
      case 6:
        out.push({
          kind: 'enum',
          ...it,
          size,
          values: new Map(rows(2, index => [name(rest + index * 4), u32(index + 1) | 0])),
        });
        break;
      case 8:
        out.push({ kind: 'typedef', ...it, type: size });
        break;
      case 2:
        out.push({ kind: 'pointer', ...it, type: size });
        break;
      case 9:
      case 10:
      case 11:
      case 18:
        out.push({ kind: 'qualifier', ...it, type: size });
        break;
      case 14:
        out.push({ kind: 'variable', ...it, type: size });
        break;
      case 15:
        out.push({ kind: 'section', ...it, variables: rows(3, u32) });
        break;
      case 7:
      case 12:
      case 13:
      case 16:
      case 17:
      case 19:
        out.push({ kind: 'other', ...it });
        break;
      default:
        throw new Error(`BTF kind ${kind} of type ${out.length} is unknown`);
    }
    at = rest + tailBytes(kind, count);
  }
  return out;
}

function tailBytes(kind: number, count: number): number {
  switch (kind) {
    case 1:
    case 14:
    case 17:
      return 4;
    case 3:
      return 12;
    case 4:
    case 5:
    case 15:
    case 19:
      return count * 12;
    case 6:
    case 13:
      return count * 8;
    default:
      return 0;
  }
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function text(strings: Uint8Array, at: number): string {
  const end = strings.indexOf(0, at);
  return Buffer.from(strings.buffer, strings.byteOffset + at, end - at).toString('latin1');
}
