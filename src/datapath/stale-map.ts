/**
 * Maps that another version of the programs left pinned with another layout or size. Their layout is the one that the
 * kernel keeps with each map (its BTF), so that nothing has to be known of that version.
 */
import koffi from 'koffi';
import { parseBtf } from './btf.ts';
import { type Layout, layoutOf } from './layout.ts';
import * as libbpf from './libbpf.ts';
import { close } from './libc.ts';
import { BpfMap } from './map.ts';

/** Plain rows as a codec gives them. */
type Row = Readonly<Record<string, unknown>>;

/** struct bpf_map_info of linux/bpf.h. */
const MAP_INFO = {
  size: 88,
  type: 0,
  maxEntries: 16,
  flags: 20,
  btf: 64,
  keyType: 68,
  valueType: 72,
} as const;

/** Opens a pinned map by its own layout. Undefined for one without BTF. The name is for messages. */
export function openStaleMap(path: string, name: string): (BpfMap<Row, Row> & Disposable) | undefined {
  const fd = libbpf.check(libbpf.openPin(path), `open map ${path}`);
  try {
    const info = new Uint8Array(MAP_INFO.size);
    libbpf.check(libbpf.infoByFd(fd, info, Uint32Array.of(info.length)), `map ${path}`);
    const u32 = (at: number): number => new DataView(info.buffer).getUint32(at, true);
    const [keyType, valueType] = [u32(MAP_INFO.keyType), u32(MAP_INFO.valueType)];
    if (!u32(MAP_INFO.btf) || !keyType || !valueType) {
      close(fd);
      return undefined;
    }
    const btf = parseBtf(kernelBtf(u32(MAP_INFO.btf)));
    const spec = {
      name,
      type: u32(MAP_INFO.type),
      maxEntries: u32(MAP_INFO.maxEntries),
      flags: u32(MAP_INFO.flags),
      key: layoutOf(btf, keyType),
      value: layoutOf(btf, valueType),
      pin: path,
    };
    return Object.assign(new BpfMap<Row, Row>(spec, fd), {
      [Symbol.dispose]: () => {
        close(fd);
      },
    });
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** The types that were loaded with an object, as bytes of a `.BTF` section. */
function kernelBtf(id: number): Uint8Array {
  const btf = libbpf.btfOfKernel(id);
  if (btf === null) libbpf.check(-libbpf.lastErrno(), `BTF ${id} of the kernel`);
  try {
    const size = new Uint32Array(1);
    const data = libbpf.btfData(btf, size);
    if (data === null) throw new Error(`BTF ${id} of the kernel is empty`);
    return Uint8Array.from(koffi.decode(data, koffi.array('uint8_t', size[0]!)) as ArrayLike<number>);
  } finally {
    libbpf.btfFree(btf);
  }
}

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
